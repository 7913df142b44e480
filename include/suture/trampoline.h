/* SPDX-License-Identifier: MIT */
/*
 * suture/trampoline.h - let unwinders, gdb and perf see the code that suture makes at run time.
 *
 * Hooks and probes run in pieces of code that are part of no file. Unless they are told, profilers
 * show such a piece as an unknown address, and a backtrace ends at it. Each way of telling them
 * is off until it is asked for, by this function or, where the program can not be changed, by the
 * environment: SUTURE_SHOW=perf,gdb,unwind (any of them; ignored in set-user-ID programs). It then
 * holds for pieces that exist and for those that are made later.
 *
 * Pieces are called after what they do and where: "suture:probe:work+0x12"; without a name of their
 * own, "suture:" and the address in whose place they run.
 */
#ifndef SUTURE_TRAMPOLINE_H
#define SUTURE_TRAMPOLINE_H

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

enum suture_show {
	/*
	 * Append a line "START SIZE NAME" for each piece to /tmp/perf-PID.map, where perf report
	 * looks for names. PID is getpid(), the number inside the container. Nothing is ever taken
	 * out: an address that is used again has two lines, and perf picks one. The file is created
	 * with mode 0600. One that exists is appended to, as other just-in-time compilers in the
	 * process may use it, or an earlier process of the same number may have left it. It is not
	 * touched if it is a symbolic link (-ELOOP), no regular file or one with several links
	 * (-EEXIST, -ENXIO), or another user's (-EEXIST, -EACCES). It is not removed at exit, as it
	 * is read after that. perf run by another user needs --force.
	 *
	 * After fork() the child writes a file of its own, with all pieces, when it makes its first
	 * piece or calls suture_trampolines_show.
	 */
	SUTURE_SHOW_PERF_MAP = 1,
	/*
	 * gdb's interface for just-in-time compilers: gdb names the pieces and unwinds through
	 * them, also if it is attached later. In a backtrace the frame of a piece reads "<signal
	 * handler called>", which is what gdb calls every frame whose caller did not call; "info
	 * symbol" and "x/i" give the name. Stepping goes through a piece and comes out in the
	 * function.
	 *
	 * gdb finds the interface by two symbols that are local to the library, so that they meet
	 * no other compiler's: a library that was stripped needs its separate debug information,
	 * and in a program that is linked statically with another such compiler gdb finds only one
	 * of the two.
	 */
	SUTURE_SHOW_GDB = 2,
	/*
	 * The process's own unwinder, which is libgcc's: backtrace() in a signal handler, and
	 * asynchronous cancellation, find their way through a piece that the signal interrupted.
	 * Who is called by a piece (replacements, handlers of probes) does not need this.
	 * -EOPNOTSUPP if there is no such unwinder. Registers that a piece has saved, other than
	 * those that functions preserve, are not found.
	 *
	 * libgcc before version 13 takes a lock in each step of each unwinding as soon as anything
	 * is registered, and goes through a list of all pieces (with 10,000 of them some 50 us a
	 * frame), which is why this is not done unasked: exceptions of several threads then wait
	 * for each other; and a signal handler that unwinds (a profiler's, with backtrace()) waits
	 * for ever if it interrupts an unwinding of its own thread. So does a child of fork() that
	 * unwinds, if another thread was unwinding at the fork.
	 */
	SUTURE_SHOW_UNWIND = 4,
};

/*
 * Switch on all ways in `how` (a set of the above). Returns the set of ways that are on, so that
 * suture_trampolines_show(0) asks. There is no way back.
 *
 * Negative errno: -EINVAL: another bit; -EOPNOTSUPP: no unwinder, or one that takes no such
 * registration; those above and others of open(2) and write(2): the map can not be written;
 * -ENOMEM; as suture_text_patch if text can not be written in this process. Ways are switched on in
 * the order unwinder, gdb, perf; those before the one that failed stay on. A map that can not be
 * written later on (a full disk) is switched off, and pieces are made all the same.
 *
 * Threads: may be called from any number of threads at once. Not from signal handlers.
 */
int suture_trampolines_show(unsigned how);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
