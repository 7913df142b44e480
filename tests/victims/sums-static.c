// link: -static -no-pie
// SPDX-License-Identifier: MIT
/* sums-static - sums.c, linked with -static -no-pie. */
#include "sums.c"
