/* SPDX-License-Identifier: MIT */
/*
 * patch_transaction.c - all sites or none, and back again, in a process that runs them.
 *
 * A child has pages of small functions; its threads call half of them all the time and check
 * every result: the old or the new one, never a mixture. Through the ptrace port this program
 * patches them. Proven: one and many sites are applied and taken back; whatever goes wrong
 * before the first write (unexpected bytes at any one site, no memory there, somebody in `clear`,
 * `begin` that refuses, threads that do not stop), nothing is written; what goes wrong later is
 * taken back; a revert works from every half-applied state, twice, and around other tools'
 * breakpoints and other code.
 */
#ifdef __x86_64__
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "patch/patch.h"
#include "patch_child.h"
#include "process.h"
#include "tap.h"

enum { LENGTH = 10 }; /* bytes patched in a function that is never called */

/* --- tools --------------------------------------------------------------------------------- */

static struct port *port;
static int memory; /* of the child, as another tool would open it */
static struct patch_registry *registry;
static const struct patch_options plain = {.deadline_ns = 5000000000, .tries = 10};

static uint64_t address_of(size_t offset)
{
	return (uint64_t)(uintptr_t)text + offset;
}

static void pause_ms(long ms)
{
	clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){0, ms * 1000000}, NULL);
}

/* All runners have seen `fresh` new results in a round of their own. */
static bool all_see(uint64_t fresh)
{
	for (int i = 0; i < RUNNERS; i++) {
		uint64_t first = control->runner[i].rounds;

		for (int k = 0; k < 20000 && control->runner[i].rounds < first + 2; k++)
			pause_ms(1);
		if (control->runner[i].fresh != fresh || control->runner[i].wrong ||
		    control->runner[i].rounds < first + 2)
			return false;
	}
	return true;
}

static void poke(size_t offset, const void *bytes, size_t size)
{
	if (pwrite(memory, bytes, size, (off_t)address_of(offset)) != (ssize_t)size)
		exit(1);
}

static bool text_is(const uint8_t *expected)
{
	static uint8_t now[TEXT];

	return pread(memory, now, TEXT, (off_t)address_of(0)) == TEXT &&
	       memcmp(now, expected, TEXT) == 0;
}

static bool untouched(void)
{
	return text_is(image);
}

static struct sync_site *add_site(size_t offset, uint8_t length)
{
	struct sync_site *site = &registry->sites[registry->count++];

	*site = (struct sync_site){.address = address_of(offset), .length = length};
	if (offset + length <= TEXT)
		memcpy(site->original, image + offset, length);
	for (size_t k = 0; k < length; k++)
		site->patched[k] = (uint8_t)~site->original[k];
	return site;
}

/* Functions from `first` on, every `step`-th. */
static void make(size_t first, size_t step, size_t count)
{
	registry->count = 0;
	for (size_t i = first; registry->count < count; i += step) {
		if (i % 2)
			add_site(i * SLOT, LENGTH);
		else
			add_site(i * SLOT + 1, 4);
	}
}

static void patched_image(uint8_t *out)
{
	memcpy(out, image, TEXT);
	for (size_t i = 0; i < registry->count; i++)
		memcpy(out + registry->sites[i].address - address_of(0), registry->sites[i].patched,
		       registry->sites[i].length);
}

static int apply(void)
{
	return patch_apply(port, registry, &plain, NULL);
}

static int revert(void)
{
	return patch_revert(port, registry, &plain);
}

/* --- tests --------------------------------------------------------------------------------- */

static void apply_and_revert(size_t first, size_t step, size_t count)
{
	static uint8_t expected[TEXT];
	size_t called = first % 2 ? 0 : step % 2 ? (count + 1) / 2 : count;
	int rc;

	make(first, step, count);
	patched_image(expected);
	rc = apply();
	ok(!rc && text_is(expected) && registry->state == PATCH_APPLIED &&
	           patch_count(port, registry) == (int)count,
	   "%zu sites, apart by %zu functions: applied", count, step);
	ok(all_see(called), "every thread gets the new results");
	rc = revert();
	ok(!rc && untouched() && patch_count(port, registry) == 0, "reverted");
	ok(all_see(0), "every thread gets the old ones");
	ok(revert() == 0 && untouched(), "a second time changes nothing");
}

static void unexpected_bytes(size_t count)
{
	size_t good = 0;

	make(0, 3, count);
	for (size_t k = 0; k < count; k++) {
		struct sync_site *site = &registry->sites[k];
		uint8_t *byte = &site->original[k % site->length];
		size_t failed = SIZE_MAX;
		int rc;

		*byte ^= 0x10;
		rc = patch_apply(port, registry, &plain, &failed);
		*byte ^= 0x10;
		good += rc == -EUCLEAN && failed == k && registry->state == PATCH_PREPARED &&
		        untouched();
	}
	ok(good == count, "unexpected bytes at any one of %zu sites: nothing is written", count);
}

static void no_memory(size_t count)
{
	size_t failed = SIZE_MAX;
	int rc;

	make(0, 1, count);
	add_site(TEXT + PAGE + 8, 5);
	rc = patch_apply(port, registry, &plain, &failed);
	ok(rc == -EFAULT && failed == count && untouched(),
	   "%zu sites and one without memory: nothing is written", count);
	registry->count--;
	rc = apply();
	registry->count++;
	ok(!rc && patch_count(port, registry) == (int)count, "they count without it");
	ok(revert() == 0 && untouched(), "and are reverted without it");

	make(0, 1, count);
	memcpy(add_site(TEXT, 5)->original, image, 5);
	for (int k = 0; k < 5; k++)
		registry->sites[count].patched[k] = (uint8_t)~image[k];
	rc = patch_apply(port, registry, &plain, &failed);
	ok((rc == -EFAULT || rc == -EIO) && failed == count && untouched(),
	   "one that can not be written: the others are taken back");
}

static void foreign(size_t count)
{
	static uint8_t expected[TEXT];
	static const uint8_t breakpoint = 0xcc;
	int others = 0, rc;

	make(1, 2, count);
	memcpy(expected, image, TEXT);
	rc = apply();
	for (size_t i = 0; i < count; i += 3) {
		size_t at = registry->sites[i].address - address_of(0);

		if (i % 2) {
			poke(at + i % LENGTH, &breakpoint, 1);
			expected[at + i % LENGTH] = breakpoint;
		} else {
			/* Other code by now, in which two bytes look like ours. */
			memcpy(expected + at, registry->sites[i].patched, LENGTH);
			for (size_t k = 2; k < LENGTH; k++)
				expected[at + k] ^= 0x55;
			poke(at, expected + at, LENGTH);
			others++;
		}
	}
	ok(!rc && revert() == 0 && text_is(expected), "%zu sites, some with a neighbour's", count);
	ok(patch_count(port, registry) == others, "%d of them have bytes like ours", others);
	ok(apply() == -EUCLEAN && text_is(expected), "nor can they be patched again");
	poke(0, image, TEXT);
}

static void half_applied(size_t count, size_t stride)
{
	size_t good = 0, states = 0;

	make(1, 2, count);
	for (size_t bytes = 0; bytes <= count * LENGTH; bytes += stride, states++) {
		int ours = (int)((bytes + LENGTH - 1) / LENGTH);

		for (size_t i = 0; i * LENGTH < bytes; i++) {
			size_t left = bytes - i * LENGTH;

			poke(registry->sites[i].address - address_of(0), registry->sites[i].patched,
			     left < LENGTH ? left : LENGTH);
		}
		good += patch_count(port, registry) == ours && revert() == 0 && untouched();
	}
	ok(good == states, "%zu sites: reverted from %zu half-applied states", count, states);
}

static void occupied(void)
{
	const struct port_range spin = {address_of(SPIN), address_of(SPIN + SPIN_SIZE)};
	const struct port_range back = {address_of(CALLER_RETURN), address_of(CALLER_RETURN + 1)};
	const struct port_range inner = {spin.start + 4, spin.end};
	struct patch_options options = {.deadline_ns = plain.deadline_ns, .tries = 3};
	int rc;

	make(0, 1, 100);
	control->park = true;
	while (!control->spot.rounds)
		pause_ms(1);
	options.clear_count = options.vacate_count = 1;
	options.clear = &spin;
	options.vacate_count = 0;
	ok(patch_apply(port, registry, &options, NULL) == -EBUSY && untouched(),
	   "a thread executes in `clear`: nothing is written");
	options.clear = &back;
	ok(patch_apply(port, registry, &options, NULL) == -EBUSY && untouched(),
	   "a thread will return there: nothing is written");
	options.clear_count = 0;
	options.vacate_count = 1;
	options.vacate = &spin;
	rc = apply();
	ok(!rc && patch_revert(port, registry, &options) == -EBUSY && untouched(),
	   "a thread executes in `vacate`: the text is restored");
	options.vacate = &back;
	ok(patch_revert(port, registry, &options) == -EBUSY && untouched(), "will return there");
	control->spot.rounds = 0;
	control->spot.leave = 1;
	do {
		control->spot.rounds = 0;
		pause_ms(20);
	} while (control->spot.rounds);
	options.clear = options.vacate = &inner;
	options.clear_count = 1;
	options.vacate_count = 0;
	ok(patch_apply(port, registry, &options, NULL) == 0 && all_see(50), "it has left: applied");
	options.vacate_count = 1;
	ok(patch_revert(port, registry, &options) == 0 && untouched(), "and reverted");
}

static int begun;

static int begin(void *argument)
{
	int *answers = argument;

	return answers[begun++];
}

static void refusing(void)
{
	int answers[4] = {-EPERM};
	struct patch_options options = {
	        .deadline_ns = plain.deadline_ns, .tries = 3, .begin = begin, .arg = answers};

	make(0, 1, 10);
	ok(patch_apply(port, registry, &options, NULL) == -EPERM && begun == 1 && untouched(),
	   "`begin` refuses: nothing is written");
	begun = 0;
	answers[0] = answers[1] = answers[2] = -EAGAIN;
	ok(patch_apply(port, registry, &options, NULL) == -EBUSY && begun == 3 && untouched(),
	   "`begin` wants another try each time");
	begun = 0;
	answers[2] = 0;
	ok(patch_apply(port, registry, &options, NULL) == 0 && begun == 3 && all_see(5),
	   "and allows the third");
	ok(revert() == 0 && untouched(), "reverted");
}

static void *try_apply(void *argument)
{
	const struct patch_options options = {.deadline_ns = 50000000, .tries = 2};
	struct port *own;
	int *rc = argument;

	*rc = process_open(*rc, &own);
	if (!*rc) {
		*rc = patch_apply(own, registry, &options, NULL);
		process_close(own);
	}
	return NULL;
}

static void no_stop(void)
{
	int ends[2], rc, own_memory = memory;
	pthread_t thread;
	char path[64], state;
	pid_t pid;

	if (pipe(ends))
		exit(1);
	memset(control, 0, sizeof(*control));
	pid = start(ends[0]);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	memory = open(path, O_RDWR | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	do {
		FILE *file = fopen(path, "re");

		pause_ms(1);
		if (!file || fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			exit(1);
		fclose(file);
	} while (state != 'D');
	rc = pid;
	make(0, 1, 100);
	pthread_create(&thread, NULL, try_apply, &rc);
	pthread_join(thread, NULL);
	ok(rc == -ETIMEDOUT && untouched(), "a vfork parent does not stop: nothing is written");
	(void)!write(ends[1], "", 1);
	ok(all_see(0), "it goes on when its child has ended");
	rc = process_open(pid, &port);
	ok(!rc && apply() == 0 && all_see(50) && revert() == 0 && untouched(),
	   "and can be patched then");
	process_close(port);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(memory);
	memory = own_memory;
}

int main(void)
{
	char path[64];
	pid_t pid;

	registry = calloc(1, patch_registry_size(FUNCTIONS));
	if (!registry || !map_text())
		return 1;
	pid = start(-1);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	memory = open(path, O_RDWR | O_CLOEXEC);
	if (!ok(memory >= 0 && process_open(pid, &port) == 0, "a process to work on"))
		return done();
	apply_and_revert(0, 1, 1);
	apply_and_revert(0, 2, 64);
	apply_and_revert(0, 2, 65);
	apply_and_revert(0, 1, FUNCTIONS);
	apply_and_revert(0, 20, 20);
	unexpected_bytes(16);
	unexpected_bytes(80);
	no_memory(40);
	no_memory(300);
	foreign(40);
	foreign(200);
	half_applied(6, 1);
	half_applied(70, 9);
	occupied();
	refusing();
	ok(all_see(0), "all functions have their old results");
	process_close(port);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	no_stop();
	return done();
}
#else
#include "tap.h"

int main(void)
{
	skip("runs x86-64 code");
	return done();
}
#endif
