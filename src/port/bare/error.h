/* SPDX-License-Identifier: MIT */
/* error.h - the error numbers of this port; there is no errno.h. */
#ifndef SUTURE_PORT_BARE_ERROR_H
#define SUTURE_PORT_BARE_ERROR_H

enum { EFAULT = 14, EINVAL = 22, EDEADLK = 35, ENOTSUP = 95, ETIMEDOUT = 110 };

#endif
