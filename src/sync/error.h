/* SPDX-License-Identifier: MIT */
/* error.h - Linux' error numbers, where there may be no errno.h. */
#ifndef SUTURE_SYNC_ERROR_H
#define SUTURE_SYNC_ERROR_H

enum {
	EPERM = 1,
	EIO = 5,
	EAGAIN = 11,
	EFAULT = 14,
	EBUSY = 16,
	EINVAL = 22,
	ENOTSUP = 95,
	ETIMEDOUT = 110,
	EUCLEAN = 117,
};

#endif
