/* SPDX-License-Identifier: MIT */
/* rendezvous.h - all cores come to rest by themselves; one of them changes the text. */
#ifndef SUTURE_SYNC_RENDEZVOUS_H
#define SUTURE_SYNC_RENDEZVOUS_H

#include "sync/sync.h"

/* Runs once, on the last core to arrive, while all are masked and at rest. */
typedef int (*rendezvous_fn)(struct port *port, struct sync_batch *batch);

/*
 * What `change` returned; -ETIMEDOUT: not all arrived within batch->deadline_ns, and `change` did
 * not run. On return every core has left.
 */
int sync_rendezvous(struct port *port, struct sync_batch *batch,
                    rendezvous_fn change) port_must_check;

#endif
