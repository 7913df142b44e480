/* SPDX-License-Identifier: MIT */
/*
 * module.h - what is known of a mapped ELF file.
 *
 * A module is opened from a file and knows nothing of a process: all addresses below are
 * the ELF file's own (`vaddr`); the caller adds the load bias. Files come from other people
 * and may be truncated, corrupt or hostile: every function survives that and answers
 * -ENOEXEC or "nothing known", never a crash, and never takes unbounded time or memory.
 * Not thread safe: one caller at a time per module. Errors are negative errno.
 */
#ifndef SUTURE_MODULE_H
#define SUTURE_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct module;

enum { MODULE_BUILD_ID_MAX = 64 };

/*
 * Open an x86-64 ELF executable or shared object at `path`. `debug_root` is prefixed to the
 * places where separate debug files are looked for (/usr/lib/debug/.build-id/xx/yyy.debug and
 * .gnu_debuglink beside the file); "" for this system's root, NULL to look for none.
 * -ENOEXEC: not an ELF file, not x86-64 (32-bit included), or damaged; a FIFO, a directory, a
 * device. A debug file that does not match (build ID; without one, the link's CRC) is ignored.
 */
int module_open(const char *path, const char *debug_root, struct module **out);
void module_close(struct module *module);

/* Length of the build ID copied to `id` (0: the file has none). */
size_t module_build_id(const struct module *module, uint8_t id[MODULE_BUILD_ID_MAX]);

/* True if the file was built by Go's compiler (.go.buildinfo or .note.go.buildid). */
bool module_is_go(const struct module *module);

/* True for ET_EXEC, whose addresses are absolute (bias 0). */
bool module_is_fixed(const struct module *module);

/*
 * ELF address of a byte of the file that lies in an executable PT_LOAD, and back; or -ENOENT. What
 * precedes a segment in its first page is mapped with it, and has an address too.
 */
int module_offset_to_vaddr(const struct module *module, uint64_t offset, uint64_t *vaddr);
int module_vaddr_to_offset(const struct module *module, uint64_t vaddr, uint64_t *offset);

/* Copy the file's bytes at `vaddr`; returns how many (fewer at a segment's end), or -EFAULT. */
int module_read(const struct module *module, uint64_t vaddr, void *buffer, size_t size);

struct module_symbol {
	const char *name; /* owned by the module; a version suffix (@…) is cut off */
	uint64_t vaddr;
	uint64_t size;  /* 0: not known */
	bool indirect;  /* STT_GNU_IFUNC: the address is the resolver's */
	bool is_global; /* STB_GLOBAL or STB_WEAK */
};

/*
 * Function symbols (STT_FUNC and STT_GNU_IFUNC, defined, in executable sections) of .symtab,
 * .dynsym and the separate debug file, sorted by vaddr then name, exact duplicates removed.
 * Symbols with the same address but other names (aliases) all stay.
 */
size_t module_symbols(struct module *module, const struct module_symbol **symbols);

/*
 * The symbol whose extent holds `vaddr`; NULL if none. Of nested extents the one that starts
 * last; of aliases a global name, then the shorter one.
 */
const struct module_symbol *module_symbol_at(struct module *module, uint64_t vaddr);

/*
 * First and past-the-end address of the function that holds `vaddr`: the symbol's extent if it
 * has one, else the frame description entry's (.eh_frame, .debug_frame), else -ENOENT.
 */
int module_function_extent(struct module *module, uint64_t vaddr, uint64_t *start, uint64_t *end);

/*
 * Call-frame rows. A function may have several FDEs (hot and .cold parts); "the function" is
 * what its parts' symbol names say (`f`, `f.cold`, `f.part.0.cold`, `f.cold.1` …).
 */
/* 1: the complete rows (CFA rule and every register's rule) at a and b are equal; 0: they
 * differ; -ENOENT: at least one address has no row (nothing can be proven). */
int module_rows_equal(struct module *module, uint64_t a, uint64_t b);
/* Extent of the FDE that covers `vaddr`, -ENOENT if none does. */
int module_fde_extent(struct module *module, uint64_t vaddr, uint64_t *start, uint64_t *end);

/* Half-open range of addresses. */
struct module_range {
	uint64_t start, end;
};

enum module_danger {
	MODULE_DANGER_BRANCH = 1 << 0,      /* a direct branch or call may target the range */
	MODULE_DANGER_INDIRECT = 1 << 1,    /* an indirect jump may (see below) */
	MODULE_DANGER_LANDING_PAD = 1 << 2, /* a landing pad of an LSDA lies in it */
	MODULE_DANGER_RSEQ = 1 << 3,        /* overlaps an rseq critical section or abort target */
	MODULE_DANGER_UNKNOWN = 1 << 4,     /* no FDE covers it, or the function does not decode,
	                                       or is too much to look at */
};

/*
 * For each of `n` ranges (sorted by start, disjoint, each 1 to 16 bytes, each strictly inside
 * one function): which ways of arriving at an address in the range can not be excluded?
 * `dangers[i]` is a set of enum module_danger, 0 if nobody but the instruction before can get
 * there. Conservative: a false alarm is allowed (and should be rare), a miss is not.
 *
 *   BRANCH       any direct branch or call anywhere in the module's executable segments:
 *                32-bit displacements are looked for behind a branch's opcode at every byte
 *                position, whether an instruction starts there or not (LEA counts too); 8-bit
 *                ones are decoded within reach, from a known start, else taken by their bytes.
 *   INDIRECT     the function (all its FDEs) contains an indirect jump whose call-frame row
 *                is not proven different from the row at each instruction boundary in range.
 *                Jumps to retpolines, and returns with something pushed, are indirect jumps.
 *   LANDING_PAD  from the LSDA of the FDE. An LSDA that cannot be read is MODULE_DANGER_UNKNOWN.
 *   RSEQ         __rseq_cs descriptors: start, length and abort address with its signature.
 *   UNKNOWN      also for Go's code, and for an FDE that no symbol names and that does not
 *                begin as functions do: it may be the cold fragment of any function.
 *
 * -EINVAL: the ranges are not as said above, or not in an executable segment. -EFBIG: more than
 * 2 GB of text, or ranges further apart than that.
 */
int module_dangers(struct module *module, const struct module_range *ranges, size_t n,
                   uint32_t *dangers);

/*
 * Where a direct branch is for which module_dangers() says MODULE_DANGER_BRANCH: the address of
 * its displacement's last opcode byte. -ENOENT: there is none. Errors as module_dangers().
 */
int module_branch_source(struct module *module, const struct module_range *range, uint64_t *vaddr);

/* Address of the data object (STT_OBJECT) of that name in the dynamic symbol table; -ENOENT. */
int module_object(struct module *module, const char *name, uint64_t *vaddr);

/* True if [start, end) overlaps an rseq critical section or abort target of this file. */
bool module_rseq_overlaps(struct module *module, uint64_t start, uint64_t end);

#endif
