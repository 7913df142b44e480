// SPDX-License-Identifier: MIT
/* explain.c - suture explain: the safety case of one site, drawn. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

#define LABEL "  %-9s"

static void print_site(const struct suture_explanation *e, FILE *out)
{
	struct suture_target_probe probe = {
	        .module = e->site.module,
	        .symbol = e->site.symbol,
	        .offset = e->site.offset,
	        .vaddr = e->site.vaddr,
	};

	text_put_site(out, &probe, TEXT_WHOLE);
	fprintf(out, " at 0x%" PRIx64 " (0x%" PRIx64 " in the file)", e->site.address,
	        e->site.vaddr);
	if (e->site.size)
		fprintf(out, ", %" PRIu64 " bytes", e->site.size);
	fputs(": ", out);
	if (e->site.kind)
		fputs(suture_site_kind_name(e->site.kind), out);
	else
		text_put(out, "refused", TEXT_WHOLE);
	if (e->site.shift)
		fprintf(out, ", at +%u", e->site.shift);
	fputs("\n", out);
	if (e->site.reason) {
		fputs("  ", out);
		text_put(out, e->site.reason, TEXT_WHOLE);
		fputc('\n', out);
	}
}

static void print_hex(FILE *out, const uint8_t *bytes, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		fprintf(out, " %02x", bytes[i]);
}

static void print_instructions(const struct suture_explanation *e, FILE *out)
{
	size_t longest = 0;

	for (size_t i = 0; i < e->instruction_count; i++)
		if (e->instructions[i].length > longest)
			longest = e->instructions[i].length;
	for (size_t i = 0; i < e->instruction_count; i++) {
		const struct suture_instruction *line = &e->instructions[i];

		fprintf(out, "  +%-3u", line->offset);
		for (size_t k = 0; k < longest; k++) {
			size_t at = line->offset + k;

			if (k < line->length && at < sizeof(e->before))
				fprintf(out, " %02x", e->before[at]);
			else
				fputs("   ", out);
		}
		fputs("  ", out);
		text_put(out, line->text, TEXT_WHOLE);
		fputc('\n', out);
	}
}

/* A bar under the bytes [from, to), each of which takes three columns. */
static void print_bar(FILE *out, size_t from, size_t to, const char *name)
{
	fprintf(out, LABEL, name);
	for (size_t i = 0; i < 3 * from + 1; i++)
		fputc(' ', out);
	fputc('\\', out);
	for (size_t i = 3 * from + 1; i < 3 * to - 2; i++)
		fputc('_', out);
	fputc('/', out);
}

static void print_drawing(const struct suture_explanation *e, FILE *out)
{
	fprintf(out, "\n" LABEL, "byte");
	for (size_t i = 0; i < e->size; i++)
		fprintf(out, " %2zu", i);
	fprintf(out, "\n" LABEL, "before");
	print_hex(out, e->before, 0, e->size);
	fprintf(out, "\n" LABEL, "after");
	for (size_t i = 0; i < e->size; i++) {
		if (e->before[i] == e->after[i])
			fputs(" ..", out);
		else
			fprintf(out, " %02x", e->after[i]);
	}
	fputc('\n', out);
	for (size_t i = 0; i < e->jump_count; i++) {
		const struct suture_jump *jump = &e->jumps[i];
		char name[32];

		snprintf(name, sizeof(name), "jump %zu", i + 1);
		print_bar(out, jump->offset, jump->offset + jump->length,
		          e->jump_count > 1 ? name : "jump");
		fprintf(out, "\n" LABEL " to 0x%" PRIx64 ": %s\n", "", jump->target, jump->does);
	}
}

static void print_tries(const struct suture_explanation *e, FILE *out)
{
	if (!e->try_count || (e->try_count == 1 && e->tries[0].taken))
		return;
	fprintf(out, "\n%stried, in this order:\n", e->site.kind ? "" : "why it is refused: ");
	for (size_t i = 0; i < e->try_count; i++) {
		const struct suture_try *try = &e->tries[i];
		char at[8];

		snprintf(at, sizeof(at), "+%u", try->shift);
		fprintf(out, "  %-6s at %-4s ", suture_site_kind_name(try->kind), at);
		text_put(out, try->taken ? "taken" : try->why, TEXT_WHOLE);
		fputc('\n', out);
	}
}

static void print_claims(const struct suture_explanation *e, FILE *out)
{
	static const char *const verdicts[] = {"?", "proven", "at attach", "broken"};

	fprintf(out, "\n%s\n", e->site.kind ? "why it is safe:" : "why it is refused:");
	for (size_t i = 0; i < e->claim_count; i++) {
		fprintf(out, "  %-9s  %-10s  ", verdicts[e->claims[i].verdict], e->claims[i].what);
		text_put(out, e->claims[i].why, TEXT_WHOLE);
		fputc('\n', out);
	}
}

static void print_threads(const struct suture_explanation *e, FILE *out)
{
	const struct suture_whereabouts *t = &e->threads;

	if (t->stopped) {
		fprintf(out, "\nthreads: %u, stopped for %.2f ms to look: ", t->threads,
		        (double)t->stop_ns / NS_PER_MS);
		if (e->clear_end)
			fprintf(out, "%u inside\n", t->inside);
		else
			fputs("where they are does not matter\n", out);
		return;
	}
	fprintf(out, "\nthreads: %u; %u asleep", t->threads, t->asleep);
	if (e->clear_end && t->inside)
		fprintf(out, ", %u of them inside or about to return there (%d)", t->inside,
		        (int)t->one);
	else if (e->clear_end && t->asleep)
		fputs(", none of them inside", out);
	fprintf(out, "; %u running%s\n", t->running,
	        e->clear_end && t->running ? ", which is not to be seen without --stop" : "");
}

static void print_explanation(const struct suture_target *target,
                              const struct suture_explanation *e, FILE *out)
{
	const char *obstacle = suture_target_obstacle(target, NULL);

	print_site(e, out);
	if (e->instruction_count) {
		fputc('\n', out);
		print_instructions(e, out);
	}
	if (e->changed)
		print_drawing(e, out);
	print_tries(e, out);
	if (e->claim_count)
		print_claims(e, out);
	if (e->site.kind)
		print_threads(e, out);
	if (obstacle) {
		fputs("counting is refused at present: ", out);
		text_put(out, obstacle, TEXT_WHOLE);
		fputc('\n', out);
	}
}

static int explain(struct suture_target *target, const struct arguments *arguments)
{
	struct suture_explanation *e;
	int error = suture_target_count(target, arguments->specs[0]), status;

	if (error >= 0)
		error = suture_target_survey(target);
	if (error >= 0 && suture_target_surveys(target) > 1) {
		complain("'%s' stands for %zu functions; explain takes one, suture list shows them",
		         arguments->specs[0], suture_target_surveys(target));
		return STATUS_USAGE;
	}
	if (error >= 0)
		error = suture_target_explain(target, 0, arguments->stop ? SUTURE_EXPLAIN_STOP : 0,
		                              &e);
	if (error < 0)
		return complain_error(target, error);
	if (!arguments->json)
		print_explanation(target, e, stdout);
	else if (json_print_explanation(target, arguments->pid, e, stdout))
		complain("cannot make the report");
	status = finish_output(stdout);
	if (!status && !e->site.kind)
		status = STATUS_REFUSED;
	suture_explanation_free(e);
	return status;
}

int command_explain(struct arguments *arguments)
{
	struct suture_target *target;
	int status = suture_target_look(arguments->pid, &arguments->options, &target);

	if (status < 0)
		return complain_error(NULL, status);
	status = explain(target, arguments);
	suture_target_close(target);
	return status;
}
