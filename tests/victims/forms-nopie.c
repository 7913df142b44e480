// link: -no-pie
// SPDX-License-Identifier: MIT
/* forms-nopie - forms.c, linked at a fixed address, where half of the puns lead nowhere. */
#include "forms.c"
