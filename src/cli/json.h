// SPDX-License-Identifier: MIT
/* json.h - shared by the files that make JSON, and by nobody else. */
#ifndef SUTURE_CLI_JSON_H
#define SUTURE_CLI_JSON_H

#include <jansson.h>
#include <stdio.h>

/* Text of any encoding; NULL is null. */
json_t *json_text(const char *text);
/* Consumes `root`; NULL means that memory ran out while it was built. 0 or negative errno. */
int json_print(json_t *root, FILE *out);

#endif
