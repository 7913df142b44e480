// SPDX-License-Identifier: MIT
/* dryrun.c - suture count --dry-run: what would be done, for people. */
#include <inttypes.h>
#include <string.h>

#include <suture/record.h>

#include "cli/cli.h"

#define BYTES_COLUMNS  (2 * SUTURE_CHANGE_MAX)
#define REFUSALS_SHOWN 20

static void print_bytes(FILE *out, const uint8_t *bytes, size_t size, size_t columns)
{
	if (!size)
		fputc('-', out);
	for (size_t i = 0; i < size; i++)
		fprintf(out, "%02x", bytes[i]);
	for (size_t at = size ? 2 * size : 1; at < columns; at++)
		fputc(' ', out);
}

/* As wide as the widest. */
static size_t bytes_columns(const struct suture_target *target)
{
	size_t columns = strlen("BEFORE");
	struct suture_change edit;

	for (size_t i = 0; suture_target_change(target, i, &edit) == 0; i++)
		if (2u * edit.size > columns)
			columns = 2u * edit.size;
	return columns < BYTES_COLUMNS ? columns : BYTES_COLUMNS;
}

void dry_run_print(const struct suture_target *target, pid_t pid, FILE *out)
{
	size_t count = suture_target_probes(target), columns = bytes_columns(target);

	fprintf(out, "process %d: %zu site%s would be counted; nothing was changed\n", (int)pid,
	        count, count == 1 ? "" : "s");
	if (count)
		fprintf(out, "%-18s  %-6s  %-*s  %-*s  SYMBOL\n", "ADDRESS", "KIND", (int)columns,
		        "BEFORE", (int)columns, "AFTER");
	for (size_t i = 0; i < count; i++) {
		struct suture_target_probe probe;
		struct suture_change edit;

		if (suture_target_probe(target, i, &probe) ||
		    suture_target_change(target, i, &edit))
			continue;
		fprintf(out, "0x%016" PRIx64 "  %-6s  ", edit.address,
		        suture_site_kind_name(probe.kind));
		print_bytes(out, edit.before, edit.size, columns + 2);
		print_bytes(out, edit.after, edit.size, columns + 2);
		text_put_site(out, &probe, TEXT_WHOLE);
		fputc('\n', out);
	}
	refusals_print(target, out, "refused ", REFUSALS_ALL, TEXT_WHOLE, REFUSALS_SHOWN);
}
