/* SPDX-License-Identifier: MIT */
/*
 * ownint_visible.c - pieces of code as the unwinder, gdb and perf see them.
 *
 * With an argument it is the program that tests/t/visible.t shows to gdb and perf.
 */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libelf.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include "api/own/own.h"
#include "api/own/visible.h"
#include "suture/trampoline.h"
#include "tap.h"
#include "visible_piece.h"

enum { FRAMES = 64, MANY = 10000 };

/* Engine calls are made under the lock. */
static int add(const struct tramp_code *codes, size_t n, void **handle)
{
	int rc = own_lock();

	if (rc)
		return rc;
	rc = visible_add(codes, n, handle);
	own_unlock();
	return rc;
}

static void take_away(void *handle)
{
	if (own_lock())
		return;
	visible_remove(handle);
	own_unlock();
}

/* ---- backtraces ---- */

static struct trace {
	void *frames[FRAMES];
	int count;
} traces[TRAPS + 1];
static unsigned traced;

static void on_trap(int number, siginfo_t *info, void *context)
{
	struct trace *trace = &traces[traced < TRAPS ? traced++ : TRAPS];

	(void)number;
	(void)info;
	(void)context;
	trace->count = backtrace(trace->frames, FRAMES);
}

static struct trace called;

static void on_call(void)
{
	called.count = backtrace(called.frames, FRAMES);
}

static int index_of(const struct trace *trace, const void *address)
{
	for (int i = 0; i < trace->count; i++)
		if (trace->frames[i] == address)
			return i;
	return -1;
}

/* The piece, then the instruction it runs for, then that function's caller, then more. */
static bool passes(const struct trace *trace, const void *here, const void *origin)
{
	int i = index_of(trace, here);

	return i >= 0 && i + 3 < trace->count && trace->frames[i + 1] == origin &&
	       trace->frames[i + 2] == caller_back;
}

static bool ends_at(const struct trace *trace, const void *here)
{
	int i = index_of(trace, here);

	return i >= 0 && i + 1 >= trace->count;
}

static void run(const uint8_t *piece)
{
	memset(traces, 0, sizeof(traces));
	memset(&called, 0, sizeof(called));
	traced = 0;
	caller(piece);
}

static bool all_pass(const uint8_t *piece)
{
	bool good;

	run(piece);
	good = traced == TRAPS && passes(&called, piece + PIECE_CALL_BACK, sample);
	for (unsigned i = 0; i < TRAPS; i++)
		good &= passes(&traces[i], piece + piece_traps[i].offset, piece_traps[i].origin);
	return good;
}

static bool all_end(const uint8_t *piece)
{
	bool good;

	run(piece);
	good = traced == TRAPS && ends_at(&called, piece + PIECE_CALL_BACK);
	for (unsigned i = 0; i < TRAPS; i++)
		good &= ends_at(&traces[i], piece + piece_traps[i].offset);
	return good;
}

/* ---- a thread that ends in a handler: its cleanups, and what the compiler made of cleanups ----
 */

static unsigned cleaned;

static void clean(int *one)
{
	cleaned += (unsigned)*one;
}

static void end_thread(void)
{
	pthread_exit(NULL);
}

__attribute__((noinline)) static void call_cleanly(const void *piece)
{
	__attribute__((cleanup(clean), unused)) int one = 1;

	caller(piece);
}

static void *thread_main(void *piece)
{
	call_cleanly(piece);
	return NULL;
}

static void test_forced_unwind(void)
{
	uint8_t *piece = pieces_new(1, end_thread);
	struct tramp_code code = piece_describe(piece, NULL);
	void *handle;
	pthread_t thread;
	int rc = add(&code, 1, &handle);

	pthread_create(&thread, NULL, thread_main, piece);
	pthread_join(thread, NULL);
	ok(rc == 0 && cleaned == 1, "a thread that ends in a handler cleans up beyond the piece");
	take_away(handle);
}

static void test_unwind(void)
{
	uint8_t *one = pieces_new(1, on_call), *two = pieces_new(1, on_call);
	struct tramp_code first = piece_describe(one, NULL), second = piece_describe(two, "two");
	void *handles[2];

	ok(add(&first, 1, &handles[0]) == 0 && suture_trampolines_show(0) == 0,
	   "nobody is told unasked");
	ok(all_end(one), "backtraces end at the piece");
	ok(suture_trampolines_show(SUTURE_SHOW_UNWIND) == SUTURE_SHOW_UNWIND,
	   "the unwinder is told");
	ok(all_pass(one), "backtraces pass a piece that was there");
	ok(add(&second, 1, &handles[1]) == 0 && all_pass(two), "and one that came later");
	take_away(handles[0]);
	ok(all_end(one) && all_pass(two), "a piece is forgotten, the other is not");
	take_away(handles[1]);
	ok(all_end(two), "both are");
}

/* Pieces of two batches lie between each other. */
static void test_interleaved(void)
{
	enum { STRIDE = PIECE + 16 };
	uint8_t *at = pieces_new(4, on_call);
	struct tramp_code even[] = {piece_describe(at, NULL),
	                            piece_describe(at + 2 * STRIDE, NULL)};
	struct tramp_code odd[] = {piece_describe(at + STRIDE, NULL),
	                           piece_describe(at + 3 * STRIDE, NULL)};
	void *handles[2];
	int rc = add(even, 2, &handles[0]);

	rc += add(odd, 2, &handles[1]);
	ok(rc == 0 && all_pass(at) && all_pass(at + STRIDE) && all_pass(at + 2 * STRIDE) &&
	           all_pass(at + 3 * STRIDE),
	   "pieces of several batches lie between each other");
	take_away(handles[0]);
	ok(all_end(at) && all_pass(at + STRIDE) && all_end(at + 2 * STRIDE) &&
	           all_pass(at + 3 * STRIDE),
	   "the others stay");
	take_away(handles[1]);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void test_many(void)
{
	uint8_t *pieces = pieces_new(MANY, on_call);
	struct tramp_code *codes = calloc(MANY, sizeof(*codes));
	uint64_t start, added;
	void *handle;
	int rc;

	for (size_t i = 0; i < MANY; i++)
		codes[i] = piece_describe(pieces + i * (PIECE + 16), "suture:hook:one_of_many");
	start = now_us();
	rc = add(codes, MANY, &handle);
	added = now_us() - start;
	ok(rc == 0 && all_pass(pieces) && all_pass(pieces + (MANY - 1) * (PIECE + 16)),
	   "%d pieces in one call", MANY);
	start = now_us();
	take_away(handle);
	note("%d pieces, ways %#x: added in %" PRIu64 " us, removed in %" PRIu64 " us", MANY,
	     (unsigned)suture_trampolines_show(0), added, now_us() - start);
	ok(all_end(pieces), "and none");
	free(codes);
}

static void test_refused(void)
{
	uint8_t *piece = pieces_new(1, on_call);
	struct tramp_code code = piece_describe(piece, NULL);
	void *handle = &code;

	code.size = 1;
	ok(add(&code, 1, &handle) == -EINVAL && !handle, "rows beyond the end are refused");
	ok(add(NULL, 0, &handle) == 0 && !handle, "no pieces");
	take_away(handle);
	ok(suture_trampolines_show(64) == -EINVAL, "another way is refused");
}

/* ---- gdb ---- */

/* As gdb knows it. */
extern struct {
	uint32_t version, action;
	struct gdb_entry *relevant, *first;
} __jit_debug_descriptor __attribute__((visibility("hidden")));

static unsigned listed(void)
{
	const struct gdb_entry *before = NULL;
	unsigned count = 0;

	for (const struct gdb_entry *e = __jit_debug_descriptor.first; e; e = e->next) {
		if (e->previous != before)
			return 0;
		before = e;
		count++;
	}
	return count;
}

static void test_gdb(void)
{
	uint8_t *piece = pieces_new(3, on_call);
	struct tramp_code codes[3];
	void *handles[3];
	int rc;

	for (unsigned i = 0; i < 3; i++)
		codes[i] = piece_describe(piece + i * (PIECE + 16), NULL);
	rc = add(&codes[0], 1, &handles[0]);
	ok(rc == 0 && listed() == 0, "gdb's list is empty");
	rc = suture_trampolines_show(SUTURE_SHOW_GDB);
	ok(rc == (SUTURE_SHOW_GDB | SUTURE_SHOW_UNWIND) && listed() == 1, "a piece that was there");
	rc = add(&codes[1], 1, &handles[1]);
	rc += add(&codes[2], 1, &handles[2]);
	ok(rc == 0 && listed() == 3, "two that came later");
	ok(memcmp(__jit_debug_descriptor.first->image, ELFMAG, SELFMAG) == 0, "as ELF files");
	take_away(handles[1]);
	ok(listed() == 2, "one out of the middle");
	take_away(handles[2]);
	take_away(handles[0]);
	ok(listed() == 0, "and none");
}

/* ---- perf ---- */

static const char *map_path(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	return path;
}

/* How often the map has this very line. */
static unsigned lines_with(const struct tramp_code *code, const char *name)
{
	FILE *map = fopen(map_path(), "re");
	char line[512], expected[512];
	unsigned count = 0;

	snprintf(expected, sizeof(expected), "%" PRIx64 " %x %s\n", code->address, code->size,
	         name);
	while (map && fgets(line, sizeof(line), map))
		count += strcmp(line, expected) == 0;
	if (map)
		fclose(map);
	return count;
}

/* `check` in a child, whose map has a name of its own. */
static void in_child(bool (*check)(void), const char *title)
{
	int status = -1;
	pid_t child = fork();

	if (child == 0) {
		bool good;

		unlink(map_path());
		good = check();
		unlink(map_path());
		_exit(!good);
	}
	waitpid(child, &status, 0);
	ok(WIFEXITED(status) && !WEXITSTATUS(status), "%s", title);
}

static struct tramp_code old_code, new_code;

static int show_map(void)
{
	int rc = suture_trampolines_show(SUTURE_SHOW_PERF_MAP);

	return rc < 0 ? rc : rc & SUTURE_SHOW_PERF_MAP;
}

static bool map_has_lines(void)
{
	struct stat status;
	void *handle;
	bool good =
	        show_map() == SUTURE_SHOW_PERF_MAP && lines_with(&old_code, "suture:hook:old") == 1;

	good &= add(&new_code, 1, &handle) == 0 && lines_with(&old_code, "suture:hook:old") == 1 &&
	        lines_with(&new_code, "odd?name") == 1;
	good &= stat(map_path(), &status) == 0 && (status.st_mode & 07777) == 0600;
	return good;
}

static bool map_has_many_lines(void)
{
	struct tramp_code *codes = calloc(MANY, sizeof(*codes));
	void *handle;
	bool good = show_map() > 0;

	for (size_t i = 0; i < MANY; i++)
		codes[i] = old_code;
	good &= add(codes, MANY, &handle) == 0;
	free(codes);
	return good && lines_with(&old_code, "suture:hook:old") == MANY + 1;
}

static bool map_is_appended_to(void)
{
	struct tramp_code theirs = {.address = 0x1000, .size = 16};
	FILE *map = fopen(map_path(), "we");

	fprintf(map, "1000 10 theirs\n");
	fclose(map);
	return show_map() > 0 && lines_with(&theirs, "theirs") == 1 &&
	       lines_with(&old_code, "suture:hook:old") == 1;
}

/* What somebody else may have put there. */
static bool refused_untouched(int expected)
{
	void *handle;
	bool good = show_map() == expected && suture_trampolines_show(0) >= 0 &&
	            !(suture_trampolines_show(0) & SUTURE_SHOW_PERF_MAP);

	return good && add(&new_code, 1, &handle) == 0;
}

static bool link_is_refused(void)
{
	char target[] = "/tmp/suture-visible-XXXXXX";
	int file = mkstemp(target);
	struct stat status;
	bool good = symlink(target, map_path()) == 0 && refused_untouched(-ELOOP);

	unlink(map_path());
	good &= link(target, map_path()) == 0 && refused_untouched(-EEXIST);
	good &= fstat(file, &status) == 0 && status.st_size == 0;
	unlink(target);
	close(file);
	return good;
}

static bool pipe_is_refused(void)
{
	int reader;
	bool good = mkfifo(map_path(), 0666) == 0 && refused_untouched(-ENXIO);

	reader = open(map_path(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	good &= reader >= 0 && refused_untouched(-EEXIST);
	close(reader);
	return good;
}

/* Only root can make one. */
static bool foreign_is_refused(void)
{
	int file = open(map_path(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	struct stat status;
	bool good = fchown(file, 1, 1) == 0;
	int rc = show_map();

	/* The kernel may refuse it before we do (fs.protected_regular). */
	good &= rc == -EEXIST || rc == -EACCES;
	good &= fstat(file, &status) == 0 && status.st_size == 0;
	close(file);
	return good;
}

static bool disk_fills(void)
{
	void *handle;
	bool good = show_map() > 0 && unlink(map_path()) == 0;

	good &= symlink("/dev/full", map_path()) == 0 && add(&new_code, 1, &handle) == 0;
	return good && !(suture_trampolines_show(0) & SUTURE_SHOW_PERF_MAP);
}

static bool child_has_its_own(void)
{
	int status = -1;
	pid_t child;
	bool good = show_map() > 0;

	child = fork();
	if (child == 0) {
		void *handle;
		bool inside;

		unlink(map_path());
		inside = add(&new_code, 1, &handle) == 0 &&
		         lines_with(&old_code, "suture:hook:old") == 1 &&
		         lines_with(&new_code, "odd?name") == 1;
		unlink(map_path());
		_exit(!inside);
	}
	waitpid(child, &status, 0);
	return good && WIFEXITED(status) && !WEXITSTATUS(status) &&
	       lines_with(&new_code, "odd?name") == 0;
}

static void test_perf_map(void)
{
	uint8_t *pieces = pieces_new(2, on_call);
	void *handle;

	old_code = piece_describe(pieces, "suture:hook:old");
	new_code = piece_describe(pieces + PIECE + 16, "odd\nname");
	ok(add(&old_code, 1, &handle) == 0, "a piece");
	in_child(map_has_lines, "the map has a line for each, and is ours alone");
	in_child(map_has_many_lines, "many lines are whole");
	in_child(map_is_appended_to, "a map that exists keeps what is in it");
	in_child(link_is_refused, "a link is refused, its target untouched");
	in_child(pipe_is_refused, "so is a pipe");
	if (geteuid() == 0)
		in_child(foreign_is_refused, "so is another user's file");
	in_child(disk_fills, "a map that fails later is given up");
	in_child(child_has_its_own, "a child has a map of its own with all pieces");
	take_away(handle);
}

/* ---- the environment ---- */

/* What `program show` prints and says, with SUTURE_SHOW as given. */
static bool environment_gives(const char *program, const char *value, const char *expected)
{
	char command[512], line[256] = "";
	FILE *output;

	snprintf(command, sizeof(command), "SUTURE_SHOW='%s' exec '%s' show 2>&1", value, program);
	output = popen(command, "re");
	if (!output || !fgets(line, sizeof(line), output))
		line[0] = 0;
	if (output)
		pclose(output);
	return strcmp(line, expected) == 0;
}

static void test_environment(const char *program)
{
	ok(environment_gives(program, "", "0\n"), "SUTURE_SHOW empty");
	ok(environment_gives(program, "gdb", "2\n"), "SUTURE_SHOW=gdb");
	ok(environment_gives(program, "unwind,gdb", "6\n"), "SUTURE_SHOW=unwind,gdb");
	ok(environment_gives(program, "perf,unwind", "5\n"), "SUTURE_SHOW=perf,unwind");
	ok(environment_gives(program, "gd",
	                     "suture: SUTURE_SHOW: gd: is none of perf, gdb, unwind\n"),
	   "SUTURE_SHOW=gd is complained of");
}

/* ---- what others look at ---- */

static void nothing(void)
{
}

static void pass_over(int number)
{
	(void)number;
}

static volatile sig_atomic_t looked;

static void look_here(void)
{
	/* A debugger that is not our parent may attach. */
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
	printf("here\n");
	fflush(stdout);
	while (!looked)
		pause();
}

/* Until samples have been taken. */
static int burn(const uint8_t *piece)
{
	for (unsigned i = 0; i < 4; i++)
		((void (*)(void))(uintptr_t)piece)();
	return 0;
}

/* mov $0x10000000,%eax; loop: dec %eax; jne loop; ret */
static uint8_t *burner(void)
{
	static const uint8_t code[] = {0xB8, 0, 0, 0, 0x10, 0xFF, 0xC8, 0x75, 0xFC, 0xC3};
	uint8_t *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memcpy(at, code, sizeof(code));
	mprotect(at, 4096, PROT_READ | PROT_EXEC);
	return at;
}

static int be_looked_at(const char *how)
{
	bool wait = strcmp(how, "wait") == 0, heat = strcmp(how, "burn") == 0;
	uint8_t *piece = heat ? burner() : pieces_new(2, wait ? look_here : nothing);
	struct tramp_code codes[] = {piece_describe(piece, "suture:probe:sample"),
	                             piece_describe(piece + PIECE + 16, NULL)};
	void *handle;
	int rc;

	if (strcmp(how, "show") == 0) {
		printf("%d\n", suture_trampolines_show(0));
		unlink(map_path());
		return 0;
	}
	rc = suture_trampolines_show(heat ? SUTURE_SHOW_PERF_MAP : SUTURE_SHOW_GDB);
	if (rc < 0 || add(codes, 2, &handle))
		return 2;
	if (wait)
		signal(SIGTRAP, pass_over);
	if (heat)
		printf("%s\n", map_path());
	return heat ? burn(piece) : caller(piece) != 42;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	void *first[1];

	if (argc > 1)
		return be_looked_at(argv[1]);
	backtrace(first, 1);
	sigaction(SIGTRAP, &action, NULL);
	test_unwind();
	test_interleaved();
	test_forced_unwind();
	test_many();
	test_refused();
	test_gdb();
	test_many();
	test_perf_map();
	test_environment(argv[0]);
	return done();
}
