/* SPDX-License-Identifier: MIT */
/* plugin.c - a module that is loaded while the program runs. */
#include "places.h"

SUTURE_KEY_DEFINE(module_key, true);

#ifdef __cplusplus
extern "C"
#endif
        __attribute__((visibility("default"))) int
        plugin(int x);
int plugin(int x)
{
	return shared_place(x) + own_place(x) * 1000;
}
