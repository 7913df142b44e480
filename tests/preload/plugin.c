// SPDX-License-Identifier: MIT
/*
 * plugin.c - loaded and unloaded by own_mappings.c while it is hooked.
 */
int plugin_value(int x);
int plugin_value(int x)
{
	return x * 3 + 5;
}
