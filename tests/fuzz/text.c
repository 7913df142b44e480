/* SPDX-License-Identifier: MIT */
/*
 * text.c - fuzzes transactions over text of our own (suture/text.h) against an array of bytes.
 *
 * The input is a program: transactions of well-formed and malformed edits, and questions. After
 * each the answer must be the predicted one, and every byte of the arena, too (text_model.h).
 * Nothing in the arena is executed: what threads see meanwhile is tested elsewhere.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "text_model.h"

enum { STEPS_MAX = 64, MESSAGE_MAX = 160 };

static struct model model;
static unsigned long answers[256]; /* by errno */
static unsigned long taken_back;   /* refused while writing, not before */
static unsigned long joined;       /* made, many edits in one write */
static int shared_file = -1;

void fuzz_summary(void)
{
	for (int i = 0; i < 256; i++)
		if (answers[i])
			printf("%s %lu\n", i ? strerrorname_np(i) : "made", answers[i]);
	printf("joined %lu\ntaken_back %lu\n", joined, taken_back);
}

/* ---- the arena ---- */

/* Instructions of all lengths, relative ones and traps among them. */
static const struct {
	uint8_t length, bytes[15];
} instructions[] = {
        {1, {0x90}},                                      /* nop */
        {1, {0x55}},                                      /* push rbp */
        {1, {0xC3}},                                      /* ret */
        {1, {0xCC}},                                      /* int3 */
        {2, {0xEB, 0x10}},                                /* jmp rel8 */
        {2, {0x31, 0xC0}},                                /* xor eax, eax */
        {2, {0x0F, 0x0B}},                                /* ud2 */
        {3, {0x48, 0x89, 0xE5}},                          /* mov rbp, rsp */
        {4, {0xF3, 0x0F, 0x1E, 0xFA}},                    /* endbr64 */
        {5, {0xE8, 0x10, 0x20, 0x30, 0x00}},              /* call rel32 */
        {5, {0xE9, 0x10, 0x20, 0x30, 0x00}},              /* jmp rel32 */
        {5, {0x0F, 0x1F, 0x44, 0x00, 0x00}},              /* nop */
        {5, {0xB8, 0x01, 0x00, 0x00, 0x00}},              /* mov eax, imm32 */
        {6, {0x0F, 0x84, 0x10, 0x20, 0x30, 0x00}},        /* jz rel32 */
        {7, {0x48, 0x8D, 0x05, 0x10, 0x20, 0x30, 0x00}},  /* lea rax, [rip+x] */
        {9, {0x66, 0x0F, 0x1F, 0x84, 0, 0, 0, 0, 0}},     /* nop */
        {10, {0x48, 0xB8, 1, 2, 3, 4, 5, 6, 7, 8}},       /* mov rax, imm64 */
        {11, {0x48, 0xC7, 0x84, 0x24, 0, 1, 0, 0, 1, 2}}, /* mov qword [rsp+256], imm32 */
};

enum { INSTRUCTIONS = sizeof(instructions) / sizeof(instructions[0]) };

/* Where instructions start in the arena, and how long they are. */
static struct extent starts[ARENA];
static size_t start_count;

static void fill_original(void)
{
	uint64_t state = 1;
	size_t at = 0;

	while (at < ARENA) {
		size_t n = (state = state * 6364136223846793005u + 1) >> 33, length;

		length = instructions[n % INSTRUCTIONS].length;
		if (length > ARENA - at)
			length = ARENA - at;
		memcpy(model.original + at, instructions[n % INSTRUCTIONS].bytes, length);
		starts[start_count++] = (struct extent){at, length};
		at += length;
	}
}

static void prepare(void)
{
	fill_original();
	shared_file = memfd_create("fuzz", MFD_CLOEXEC);
	if (shared_file < 0 ||
	    pwrite(shared_file, model.original + SHARED_PAGE * PAGE, PAGE, 0) != PAGE)
		abort();
}

static void map(uint8_t *at, size_t size, int flags, int file)
{
	if (mmap(at, size, PROT_READ | (file < 0 ? PROT_WRITE : PROT_EXEC), flags, file, 0) != at)
		fuzz_fail("the arena cannot be mapped at %p", (void *)at);
}

/* Somewhere else each time: the library cannot know that what it edited is no longer there. */
static void arena_open(void)
{
	static uint8_t *next;

	next = next ? next + (1 << 20) : (uint8_t *)(uintptr_t)0x200000000000;
	model.arena = next;
	model.extent_count = 0;
	memcpy(model.now, model.original, ARENA);
	map(next, ARENA, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
	memcpy(next, model.original, ARENA);
	mprotect(next, ARENA, PROT_READ | PROT_EXEC);
	munmap(next + HOLE * PAGE, PAGE);
	map(next + SHARED_PAGE * PAGE, PAGE, MAP_SHARED | MAP_FIXED, shared_file);
}

static void check_arena(const char *after, int rc)
{
	for (size_t page = 0; page < ARENA; page += PAGE) {
		if (page == HOLE * PAGE || !memcmp(model.arena + page, model.now + page, PAGE))
			continue;
		for (size_t k = page; k < page + PAGE; k++)
			if (model.arena[k] != model.now[k])
				fuzz_fail("%s (%d): byte %#zx is %02x, not %02x", after, rc, k,
				          model.arena[k], model.now[k]);
	}
}

/* ---- edits ---- */

/* Two buffers of its own for each edit, as long as it says and no longer. */
static struct suture_edit edits[EDITS_MAX];

/* Three bytes from there are enough to be noticed. */
static void *address_outside(uint8_t choice)
{
	const uintptr_t places[] = {
	        0,
	        1,
	        0x1000,
	        (uintptr_t)text_noinstr_start,
	        (uintptr_t)text_noinstr_start - 2,
	        (uintptr_t)text_noinstr_end - 2,
	        (uintptr_t)model.arena + ARENA + (1 << 19),
	        UINT64_C(0x8000000000000000), /* not canonical */
	        UINT64_C(0xFFFF888000000000), /* the kernel's */
	        UINTPTR_MAX - 2,
	};

	return (void *)places[choice % (sizeof(places) / sizeof(places[0]))];
}

static void choose_place(struct fuzz_input *input, struct suture_edit *edit, unsigned kind)
{
	const struct extent *extent = &starts[fuzz_number(input, 2) % start_count];

	edit->length = extent->length;
	edit->address = model.arena + extent->at;
	switch (kind) {
	case 1: /* once more */
		if (model.extent_count) {
			extent = &model.extents[fuzz_byte(input) % model.extent_count];
			edit->length = extent->length;
			edit->address = model.arena + extent->at;
		}
		break;
	case 2: /* near the edge of a page */
		edit->address =
		        model.arena + PAGE * (fuzz_byte(input) % 5) + fuzz_byte(input) % 32 - 16;
		edit->length = 1 + fuzz_byte(input) % SUTURE_EDIT_MAX;
		break;
	case 3:
		edit->address = address_outside(fuzz_byte(input));
		edit->length = 3 + fuzz_byte(input) % (SUTURE_EDIT_MAX - 2);
		break;
	default:
		break;
	}
}

static void choose_from(struct fuzz_input *input, struct suture_edit *edit, uint8_t *from,
                        unsigned kind)
{
	size_t at = edit_offset(&model, edit);

	memset(from, 0x90, edit->length);
	for (size_t k = 0; k < edit->length; k++)
		if (at + k < ARENA)
			from[k] = model.now[at + k];
	if (kind == 3 && fuzz_byte(input) < 64)
		from[fuzz_byte(input) % edit->length] ^= fuzz_byte(input);
}

static void choose_to(struct fuzz_input *input, struct suture_edit *edit, const uint8_t *from,
                      uint8_t *to, unsigned kind)
{
	size_t at = edit_offset(&model, edit);

	memcpy(to, from, edit->length);
	switch (kind) {
	case 0: /* one byte */
		to[fuzz_byte(input) % edit->length] = fuzz_byte(input);
		break;
	case 1:
		for (size_t k = 0; k < edit->length; k++)
			to[k] = fuzz_byte(input);
		break;
	case 2:
		isa_x86_64.nop(to, edit->length);
		break;
	case 3: /* as it was */
		if (at < ARENA - SUTURE_EDIT_MAX)
			memcpy(to, model.original + at, edit->length);
		break;
	case 4: /* a jump, cut short if need be, over what stands there */
		to[0] = 0xE9;
		for (size_t k = 1; k < 5 && k < edit->length; k++)
			to[k] = fuzz_byte(input);
		break;
	case 5: /* a trap */
		to[0] = 0xCC;
		break;
	default:
		break;
	}
	/* That nothing changes is only sometimes of interest. */
	if (memcmp(from, to, edit->length) == 0 && fuzz_byte(input) < 240)
		to[fuzz_byte(input) % edit->length] ^= 1 + fuzz_byte(input) % 255;
}

/* What no caller should do. */
static void spoil(struct fuzz_input *input, struct suture_edit *edit)
{
	uint8_t way = fuzz_byte(input);

	if (way == 1)
		edit->length = 0;
	else if (way == 2)
		edit->length = SUTURE_EDIT_MAX + 1 + fuzz_byte(input);
	else if (way == 3)
		edit->length = SIZE_MAX - fuzz_byte(input);
	else if (way < 32) { /* as if it had been made already */
		const void *from = edit->from;

		edit->from = edit->to;
		edit->to = from;
	}
}

static void choose_edit(struct fuzz_input *input, struct suture_edit *edit)
{
	uint8_t kinds = fuzz_byte(input);
	uint8_t *from, *to;

	choose_place(input, edit, kinds & 3);
	from = malloc(edit->length);
	to = malloc(edit->length);
	if (!from || !to)
		abort();
	choose_from(input, edit, from, kinds >> 2 & 3);
	choose_to(input, edit, from, to, kinds >> 4 & 7);
	edit->from = from;
	edit->to = to;
	if (kinds & 0x80)
		spoil(input, edit);
}

static void free_edits(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free((void *)edits[i].from);
		free((void *)edits[i].to);
	}
}

/* ---- steps ---- */

static void check_answer(int rc, const struct suture_text_options *options,
                         const struct verdict *verdict, size_t count)
{
	size_t failed = options->failed;

	answers[rc > -256 && rc <= 0 ? -rc : 255]++;
	taken_back += verdict->writing;
	if (rc != verdict->rc && rc != verdict->rc_too)
		fuzz_fail("%zu edits, strategy %d: answered %d (%s), not %d", count,
		          options->strategy, rc, options->message, verdict->rc);
	if (!rc)
		return;
	if (memchr(options->message, '\0', options->message_size) == NULL ||
	    (options->message_size > 1 && !options->message[0]))
		fuzz_fail("no message");
	/* Of two at one address either may be named. */
	if (failed >= count || (!verdict->any && failed != verdict->failed &&
	                        edits[failed].address != edits[verdict->failed].address))
		fuzz_fail("%d (%s): edit %zu is said to be wrong, not %zu", rc, options->message,
		          failed, verdict->failed);
}

static void transaction(struct fuzz_input *input, size_t count)
{
	struct suture_text_options options = {.size = sizeof(options)};
	uint8_t how = fuzz_byte(input);
	struct verdict verdict;
	int rc;

	options.strategy = (enum suture_strategy)(how % 3);
	options.message_size = 1 + how / 3;
	options.message = calloc(1, options.message_size);
	options.failed = SIZE_MAX;
	if (!options.message)
		abort();
	for (size_t i = 0; i < count; i++)
		choose_edit(input, &edits[i]);
	verdict = judge(&model, edits, count, options.strategy);
	rc = suture_text_patch(edits, count, &options);
	check_answer(rc, &options, &verdict, count);
	if (!rc)
		make(&model, edits, count);
	check_arena(rc ? options.message : "transaction", rc);
	free_edits(count);
	free(options.message);
}

/* The next start of an instruction that a trap can stand for. */
static size_t next_held(size_t start)
{
	struct isa_insn insn;

	while (start < start_count &&
	       (isa_x86_64.decode(model.now + starts[start].at, starts[start].length, 0, &insn) !=
	                (int)starts[start].length ||
	        insn.class == ISA_TRAP))
		start++;
	return start;
}

/* As many edits as are written together, one after the other. */
static void long_transaction(struct fuzz_input *input)
{
	size_t first = next_held(fuzz_number(input, 2) % start_count);
	size_t step = 1 + fuzz_byte(input) % 4;
	size_t count = 0, bad = fuzz_byte(input);
	char message[MESSAGE_MAX] = "";
	struct suture_text_options options = {
	        .size = sizeof(options), .message = message, .message_size = sizeof(message)};
	struct verdict verdict;
	int rc;

	while (count < EDITS_MAX && first < start_count) {
		struct suture_edit *edit = &edits[count++];
		uint8_t *from, *to;

		edit->address = model.arena + starts[first].at;
		edit->length = starts[first].length;
		from = malloc(edit->length);
		to = malloc(edit->length);
		if (!from || !to)
			abort();
		choose_from(input, edit, from, count == bad ? 3 : 0);
		choose_to(input, edit, from, to, count % 2 ? 4 : 6);
		edit->from = from;
		edit->to = to;
		first = next_held(first + step);
	}
	if (!count)
		return;
	verdict = judge(&model, edits, count, SUTURE_CHEAPEST);
	rc = suture_text_patch(edits, count, &options);
	check_answer(rc, &options, &verdict, count);
	if (!rc)
		make(&model, edits, count);
	joined += !rc && count > JOINED;
	check_arena("long transaction", rc);
	free_edits(count);
}

static void ask_original(struct fuzz_input *input)
{
	size_t at = fuzz_number(input, 2) % ARENA, size = 1 + fuzz_byte(input) % 128;
	uint8_t *was = malloc(size);
	int rc;

	if (!was)
		abort();
	rc = suture_text_original(model.arena + at, was, size);
	if (rc != (is_mapped(at, size) ? 0 : -EFAULT))
		fuzz_fail("original of %zu bytes at %#zx: answered %d", size, at, rc);
	if (!rc && memcmp(was, model.original + at, size) != 0)
		fuzz_fail("original of %zu bytes at %#zx: others", size, at);
	free(was);
}

static void ask_refusals(struct fuzz_input *input)
{
	struct suture_text_options options = {.size = fuzz_byte(input) % sizeof(options)};

	choose_edit(input, &edits[0]);
	if (suture_text_patch(edits, 1, &options) != -EINVAL ||
	    suture_text_patch(NULL, 1, NULL) != -EINVAL ||
	    suture_text_patch(edits, (size_t)UINT32_MAX + 1, NULL) != -EINVAL ||
	    suture_text_patch(edits, 0, NULL) != 0)
		fuzz_fail("arguments that are none");
	check_arena("refusals", 0);
	free_edits(1);
}

static void run_step(struct fuzz_input *input)
{
	uint8_t step = fuzz_byte(input);

	switch (step & 15) {
	case 0:
		ask_original(input);
		break;
	case 1:
		ask_refusals(input);
		break;
	case 2:
		long_transaction(input);
		break;
	default:
		transaction(input, step >> 4 < 9 ? 1 : (step >> 4) - 7);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, data + size};

	if (shared_file < 0)
		prepare();
	arena_open();
	for (unsigned i = 0; i < STEPS_MAX && input.at < input.end; i++)
		run_step(&input);
	munmap(model.arena, ARENA);
	return 0;
}
