/* SPDX-License-Identifier: MIT */
/* error.h - the error numbers of isa.h, where there may be no errno.h. */
#ifndef SUTURE_ISA_ERROR_H
#define SUTURE_ISA_ERROR_H

enum {
	EINVAL = 22,
	ENOSPC = 28,
	ERANGE = 34,
	EILSEQ = 84,
	ENOTSUP = 95,
};

#endif
