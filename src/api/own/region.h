/* SPDX-License-Identifier: MIT */
/* region.h - regions, for code.c and region.c. */
#ifndef SUTURE_API_REGION_H
#define SUTURE_API_REGION_H

#include "api/own/code.h"
#include "port/linux/linux.h"

/* A block that was freed, and when. */
struct region_waiting {
	size_t first, count; /* granules */
	uint64_t period;
};

struct suture_region {
	struct suture_region *next;
	struct code_views views, fresh; /* fresh: for a child, around fork */
	struct linux_alias alias;
	struct code_blocks blocks;
	size_t filled; /* granules below have been traps at some time */
	bool keep;     /* children do not have it */
	bool gone;     /* nor do we */
	/* A queue: [waiting_from, waiting_to). */
	struct region_waiting *waiting;
	size_t waiting_from, waiting_to, waiting_room;
	size_t look_at; /* how many wait when free looks whether one can be reused */
};

/* Everything about regions is done under this lock, which comes before own_lock. -EACCES, -ENOSYS,
 * -ENOMEM: there are none in this process. -EPERM: a child that nobody told us of. */
int region_lock(struct port **port) port_must_check;
void region_unlock(void);

/* The region that has the address, or NULL. */
struct suture_region *region_at(uint64_t address);

#endif
