/* SPDX-License-Identifier: MIT */
/* family.h - what AArch64 does in one instruction; the rest of a family is in caches.h. */
#ifndef SUTURE_PORT_BARE_FAMILY_H
#define SUTURE_PORT_BARE_FAMILY_H

enum {
	/* An aligned word is fetched whole (DDI 0487, B2.2.1 and B2.2.5). */
	FAMILY_STORE_UNIT = 4,
	/* IC IVAU and DC CVAU act on the inner shareable domain (D7.5.9). */
	FAMILY_MAINTENANCE_BROADCAST = 1,
};

/* Every earlier access has completed before any later instruction (B2.3.10, DSB). */
static inline void family_complete(void)
{
	__asm__ volatile("dsb sy" : : : "memory");
}

/* What was stored is visible to a core before it gets what follows, a device's write included. */
static inline void family_publish(void)
{
	__asm__ volatile("dsb ish" : : : "memory");
}

static inline void family_synchronise(void)
{
	__asm__ volatile("isb" : : : "memory");
}

static inline void family_relax(void)
{
	__asm__ volatile("yield" : : : "memory");
}

#endif
