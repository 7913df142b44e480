/* SPDX-License-Identifier: MIT */
/*
 * ground.h - what is mapped in our process, and where trampolines and their words are put.
 *
 * All under own_lock.
 */
#ifndef SUTURE_API_OWN_GROUND_H
#define SUTURE_API_OWN_GROUND_H

#include "tramp/tramp.h"

/* A mapping as the kernel tells it. */
struct ground_mapping {
	uint64_t start, end;
	uint64_t offset, inode, device; /* of the file; 0: none */
	bool executable, writable, shared;
};

/*
 * What is mapped, and what is in it, is looked up once for neighbouring addresses, and kept until
 * ground_forget: after own_lock was taken, and after text was changed.
 */
void ground_forget(void);
/* -EFAULT: not all is mapped. */
int ground_read(uint64_t address, void *buffer, size_t size) port_must_check;
/* The mapping that holds `address`; -EFAULT: none does. */
int ground_mapping(uint64_t address, struct ground_mapping *mapping) port_must_check;

/* Is `address` mapped, and not executable? */
bool ground_is_data(uint64_t address);

/* Learn what is mapped; again, where nothing free was found. -EALREADY: that was done since
 * own_lock was taken (ground_begin). */
int ground_look(void) port_must_check;
void ground_begin(void);

/* Where trampolines may live; NULL before the first ground_look. */
struct tramp_space *ground_space(void);

/* A word that code near both addresses can name, 0 at first. NULL: no memory. */
uint64_t *ground_word(uint64_t a, uint64_t b);
void ground_word_free(uint64_t *word);

/* Everything that was put into the space becomes executable code. */
int ground_publish(struct port *port, uint64_t deadline_ns) port_must_check;

#endif
