/* SPDX-License-Identifier: MIT */
/* port_local.h - on the simulated machine every call is a step that the explorer places. */
#ifndef SUTURE_PORT_LOCAL_H
#define SUTURE_PORT_LOCAL_H

void port_point(struct port *port, enum port_point point);
void port_complete(struct port *port);
uint32_t port_load(struct port *port, const uint32_t *word);
void port_set(struct port *port, uint32_t *word, uint32_t value);
uint32_t port_add(struct port *port, uint32_t *word, uint32_t n);
bool port_cas(struct port *port, uint32_t *word, uint32_t from, uint32_t to);

#endif
