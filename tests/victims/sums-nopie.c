// link: -no-pie
// SPDX-License-Identifier: MIT
/* sums-nopie - sums.c, linked with -no-pie. */
#include "sums.c"
