/* SPDX-License-Identifier: MIT */
/* suture/site.h - how a site in the text is made to lead elsewhere. */
#ifndef SUTURE_SITE_H
#define SUTURE_SITE_H

#ifdef __cplusplus
extern "C" {
#endif

enum suture_site_kind {
	/* One byte becomes the opcode of a jump whose distance the bytes behind it already are. */
	SUTURE_SITE_PUN = 1,
	/* A jump that covers several instructions, made so that whoever arrives at one of them gets
	 * to where it would have gone. */
	SUTURE_SITE_WINDOW,
	SUTURE_SITE_UPROBE, /* the kernel's breakpoint; in another process only */
	SUTURE_SITE_TRAP,   /* a breakpoint of our own; in our own process only: some 2 us a hit */
};

#pragma GCC visibility push(default)
const char *suture_site_kind_name(enum suture_site_kind kind); /* "pun" … */
#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
