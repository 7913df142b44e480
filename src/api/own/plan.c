/* SPDX-License-Identifier: MIT */
/*
 * plan.c - how the text of a point is to lead to its trampoline.
 *
 * A pun, as long as few pages are used for them; else a window, which share pages; else a pun all
 * the same; else a trap, which is always possible. Where a later neighbour is in the way, or comes
 * to be, a point makes do with a trap (points_apply).
 */
#include <errno.h>
#include <string.h>
#include "api/own/alias.h"
#include "api/own/point.h"
#include "port/linux/linux.h"

enum { PUN_PAGES = 256, PAGES_MAX = 65536 };

static int read_code(struct point *point, size_t i, struct suture_text_options *options)
{
	struct ground_mapping mapping;
	struct isa_insn insn;
	int rc = ground_mapping(point->address, &mapping), n;
	uint64_t left;

	if (rc && rc != -EFAULT)
		return own_fail(options, i, rc, "/proc/self/maps can not be read (%d)", -rc);
	if (rc)
		return own_fail(options, i, -EACCES, "%#lx: nothing is mapped there",
		                (unsigned long)point->address);
	if (!mapping.executable || (mapping.shared && !aliases_have(point->address)))
		return own_fail(options, i, -EACCES, "%#lx: %s", (unsigned long)point->address,
		                mapping.executable ? "is code of a region, or of others, too"
		                                   : "is not code");
	point->inode = mapping.inode;
	point->device = mapping.device;
	point->offset = point->address - mapping.start + mapping.offset;
	left = mapping.end - point->address;
	point->code_size = (uint8_t)(left < POINT_CODE_MAX ? left : POINT_CODE_MAX);
	rc = ground_read(point->address, point->code, point->code_size);
	if (rc)
		return own_fail(options, i, -EACCES, "%#lx: can not be read",
		                (unsigned long)point->address);
	points_undo(point->address, point->code, point->code_size);
	n = isa_x86_64.decode(point->code, point->code_size, point->address, &insn);
	if (n < 1)
		return own_fail(options, i, -EINVAL, "%#lx: no instruction is there",
		                (unsigned long)point->address);
	point->first = point->displaced = (uint8_t)n;
	return 0;
}

static bool plan_pun(struct point *point, size_t room)
{
	struct tramp_pun pun;

	if (tramp_pun_x86(ground_space(), point->code, room, point->address, &pun))
		return false;
	point->best = SUTURE_SITE_PUN;
	point->entry = pun.trampoline;
	point->site.length = pun.length;
	point->site.boundaries = 1;
	memcpy(point->site.original, point->code, pun.length);
	memcpy(point->site.patched, point->code, pun.length);
	point->site.patched[pun.jump] = 0xe9; /* jmp rel32 */
	point->displaced = (uint8_t)tramp_pun_displaced_x86(
	        point->code, point->code_size, point->address, pun.length, point->first);
	return true;
}

static bool plan_window(struct point *point, size_t room)
{
	static const uint8_t traps[] = {0xcc /* int3 */, 0xd6 /* udb */};
	struct tramp_trapped window;

	if (tramp_trapped_x86(ground_space(), point->code, room, point->address, traps,
	                      sizeof(traps), &window))
		return false;
	point->best = SUTURE_SITE_WINDOW;
	point->entry = window.trampoline;
	point->site.length = TRAMP_JUMP;
	point->site.boundaries = window.boundaries;
	memcpy(point->site.original, point->code, TRAMP_JUMP);
	memcpy(point->site.patched, window.patched, TRAMP_JUMP);
	point->displaced = window.displaced;
	return true;
}

/* Not a jump: one byte, and the first instruction alone. */
static int plan_trap(struct point *point)
{
	point->best = SUTURE_SITE_TRAP;
	point->site.length = 1;
	point->site.boundaries = 1;
	point->site.original[0] = point->code[0];
	point->site.patched[0] = isa_x86_64.trap[0];
	point->displaced = point->first;
	return tramp_reserve_near(ground_space(), point->address, TRAMP_JUMP, &point->entry);
}

static bool plan_jump(struct point *point)
{
	struct tramp_space *space = ground_space();
	size_t room = point_room(point);
	bool pun;

	tramp_space_limit(space, PUN_PAGES);
	pun = plan_pun(point, room);
	tramp_space_limit(space, PAGES_MAX);
	return pun || plan_window(point, room) || plan_pun(point, room);
}

/* What was seen of the process may be old: what is taken shows when a page is to be mapped, what
 * was given back does not. */
static int plan_kind(struct point *point)
{
	if (plan_jump(point))
		return 0;
	if (ground_look() == 0 && plan_jump(point))
		return 0;
	return plan_trap(point);
}

/* Is one of the instructions that begin in the first `size` bytes a call? Copies of calls push a
 * return address. */
static bool calls(const struct point *point, size_t size)
{
	struct isa_insn insn;
	int n;

	for (size_t at = 0; at < size; at += (size_t)n) {
		n = isa_x86_64.decode(point->code + at, point->code_size - at, point->address + at,
		                      &insn);
		if (n < 1 || insn.class == ISA_CALL || insn.class == ISA_CALL_INDIRECT)
			return true;
	}
	return false;
}

int point_plan(struct point *point, uint64_t direct, size_t i, struct suture_text_options *options)
{
	unsigned long address = point->address;
	uint8_t entries[SYNC_SITE_MAX];
	struct tramp_piece code;
	int rc = read_code(point, i, options);

	if (rc)
		return rc;
	if (address >= port_caps(own_port())->noinstr_start &&
	    address < port_caps(own_port())->noinstr_end)
		return own_fail(options, i, -EPERM, "%#lx: is executed by suture itself", address);
	rc = tramp_displace_x86(point->code, point->first, point->address, point->address, entries,
	                        &code);
	if (rc)
		return own_fail(options, i, -EOPNOTSUPP,
		                "%#lx: the instruction there can only be executed where it stands; "
		                "take the next one",
		                address);
	if (calls(point, point->first) && linux_shadow_stack())
		return own_fail(
		        options, i, -EOPNOTSUPP,
		        "%#lx: is a call, which a shadow stack lets nobody imitate; take the "
		        "next instruction",
		        address);
	point->site.address = point->address;
	rc = plan_kind(point);
	if (!rc)
		rc = calls(point, point->displaced) && linux_shadow_stack()
		             ? -ENOTSUP
		             : point_make_copy(point);
	if (rc == -ENOTSUP || rc == -ERANGE) { /* what comes after the first: without it */
		point->displaced = point->first;
		if (point->best == SUTURE_SITE_WINDOW)
			rc = plan_trap(point);
		else
			rc = 0;
		rc = rc ? rc : point_make_copy(point);
	}
	if (!rc)
		rc = point_make_entry(point, direct);
	if (rc)
		return own_fail(options, i, -ENOSPC,
		                "%#lx: no memory is free for a trampoline in its reach", address);
	point_wire(point);
	return 0;
}
