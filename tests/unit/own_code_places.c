/* SPDX-License-Identifier: MIT */
/*
 * own_code_places.c - suture/code.h in children, and where nothing may become executable.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "own_code.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

/* ---- forks ---- */

struct family {
	struct suture_region *region;
	struct suture_code code[2];
	int pipe[2];
};

/* After the parent has changed its code. */
static int child_of_family(void *arg)
{
	struct family *family = arg;
	struct suture_code code;
	char c;

	if (read(family->pipe[0], &c, 1) != 1 || call(family->code[0].exec) != 1 ||
	    call(family->code[1].exec) != 2)
		return 1;
	if (edit(family->code[0].exec, 1, 0x01010101, SUTURE_WORD) ||
	    call(family->code[0].exec) != 0x01010101)
		return 2;
	if (edit(family->code[1].exec, 2, 0x02020202, SUTURE_BREAKPOINT) ||
	    call(family->code[1].exec) != 0x02020202)
		return 3;
	if (suture_code_alloc(family->region, 16, 0, &code) || publish_value(&code, 9) ||
	    call(code.exec) != 9)
		return 4;
	/* The visitor is not here. */
	if (suture_code_free(family->region, code.exec) || suture_code_reclaim(family->region, 0))
		return 5;
	if (count_rwx())
		return 6;
	return suture_region_delete(family->region, 0) ? 7 : 0;
}

static int refused(void *arg)
{
	struct family *family = arg;
	struct suture_code code;

	return suture_code_alloc(family->region, 16, 0, &code) != -ENXIO ||
	       suture_region_delete(family->region, 0) != 0;
}

static int touch(void *arg)
{
	return *(volatile uint8_t *)arg == 0 ? 2 : 3;
}

static void test_fork(void)
{
	struct suture_region_options how = {.size = sizeof(how),
	                                    .flags = SUTURE_REGION_NOT_IN_CHILDREN};
	struct family family;
	struct suture_code code;
	int status = -1;
	pid_t child;

	ok(suture_region_new(256 * KB, NULL, &family.region) == 0 && pipe(family.pipe) == 0,
	   "a region for a family");
	for (unsigned i = 0; i < 2; i++) {
		suture_code_alloc(family.region, BODY, 4096, &family.code[i]);
		publish_value(&family.code[i], i + 1);
	}
	begin_visit();
	child = fork();
	if (child == 0)
		_exit(child_of_family(&family));
	ok(edit(family.code[0].exec, 1, 0x03030303, SUTURE_WORD) == 0 &&
	           edit(family.code[1].exec, 2, 0x04040404, SUTURE_BREAKPOINT) == 0 &&
	           write(family.pipe[1], "", 1) == 1,
	   "the parent edits after the fork");
	waitpid(child, &status, 0);
	end_visit();
	ok(status == 0, "the child has the code of before, and edits its own (status %#x)", status);
	ok(call(family.code[0].exec) == 0x03030303 && call(family.code[1].exec) == 0x04040404,
	   "which the parent does not see");
	ok(suture_region_delete(family.region, 0) == 0, "delete");

	ok(suture_region_new(4 * KB, &how, &family.region) == 0 &&
	           suture_code_alloc(family.region, BODY, 0, &code) == 0 &&
	           publish_value(&code, 1) == 0,
	   "a region that children do not have");
	ok(in_child(refused, &family) == 0, "a child is told");
	ok(in_child(touch, code.exec) == 1000 + SIGSEGV, "and finds nothing");
	ok(call(code.exec) == 1 && edit(code.exec, 1, 2, 0) == 0 && call(code.exec) == 2,
	   "the parent does");
	/* Behind the library's back. */
	child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (child == 0)
		syscall(SYS_exit_group,
		        suture_code_alloc(family.region, 16, 0, &code) != -EPERM ||
		                suture_code_free(family.region, code.exec) != -EPERM);
	waitpid(child, &status, 0);
	ok(status == 0, "a child that the library was not told of is refused (status %#x)", status);
	ok(suture_region_delete(family.region, 0) == 0, "delete");
}

/* ---- places that forbid ---- */

static int under_mdwe(void *family)
{
	void *page;

	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0))
		return 77; /* before Linux 6.3 */
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
	            0);
	if (page != MAP_FAILED)
		return 78;
	/* And in a child of it. */
	return all_of_it(family) ? all_of_it(family) : in_child(all_of_it, family);
}

#define LOAD(field)                                                                                \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, field))
#define IS(value, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (yes), (no))
#define ANSWER(value)      BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE             (SECCOMP_RET_ERRNO | EPERM)

/* mmap to write and to execute, mprotect to execute: EPERM; and memfd_create, if `arg` says so. */
static int under_seccomp(void *arg)
{
	const int memfd = arg ? SYS_memfd_create : -1;
	struct sock_filter filter[] = {
	        LOAD(arch),
	        IS(AUDIT_ARCH_X86_64, 1, 0),
	        ANSWER(SECCOMP_RET_KILL_PROCESS),
	        LOAD(nr),
	        IS((unsigned)memfd, 10, 0),
	        IS(SYS_mmap, 3, 0),
	        IS(SYS_mprotect, 6, 0),
	        IS(SYS_pkey_mprotect, 5, 0),
	        ANSWER(SECCOMP_RET_ALLOW),
	        LOAD(args[2]),
	        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, PROT_WRITE | PROT_EXEC),
	        IS(PROT_WRITE | PROT_EXEC, 3, 0),
	        ANSWER(SECCOMP_RET_ALLOW),
	        LOAD(args[2]),
	        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
	        ANSWER(REFUSE),
	        ANSWER(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(*filter), filter};
	void *page;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return 77;
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0 ||
	    mmap(NULL, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	            MAP_FAILED)
		return 78;
	if (arg && memfd_create("test", 0) >= 0)
		return 79;
	return all_of_it(NULL) ? all_of_it(NULL) : in_child(all_of_it, NULL);
}

static void test_forbidden(void)
{
	int rc = in_child(under_mdwe, NULL);

	if (rc == 77)
		skip("no PR_SET_MDWE");
	else
		ok(rc == 0, "everything works under PR_SET_MDWE (%d)", rc);
	rc = in_child(under_seccomp, NULL);
	ok(rc == 0, "and under a filter that lets nothing become executable (%d)", rc);
	rc = in_child(under_seccomp, "");
	ok(rc == 0, "without memfd_create, too (%d)", rc);
}

int main(void)
{
	test_fork();
	test_forbidden();
	return done();
}
