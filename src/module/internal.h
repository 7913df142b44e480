/* SPDX-License-Identifier: MIT */
/*
 * internal.h - shared by the files of src/module.
 *
 * Everything that comes from the file is read with pread into memory of our own: a mapping
 * of a file that somebody truncates raises SIGBUS, a short read is merely an error.
 */
#ifndef SUTURE_MODULE_INTERNAL_H
#define SUTURE_MODULE_INTERNAL_H

#include <elf.h>
#include <libelf.h>
#include <stdlib.h>
#include <assert.h>
#include <sys/types.h>

#include "module/module.h"

#define array_size(array) (sizeof(array) / sizeof((array)[0]))

enum {
	/* Executables have tens of sections, a few hundred at most; more is damage. */
	SECTION_COUNT_MAX = 4096,
	SEGMENT_COUNT_MAX = 1024,
	SECTION_NAMES_MAX = 1 << 20,
	NOTE_NAME = 4, /* "GNU" or "Go", padded with zeros */
};
/* The small code model ends at 2 GB (psABI 3.5.1); no section that we load needs to be larger. */
#define LOAD_MAX (UINT64_C(1) << 31)

/* Bytes of the file, followed by one zero that does not count, so that names end. */
struct bytes {
	uint8_t *data;
	size_t size;
};

/* One ELF file on disk: the module itself or its separate debug file. */
struct image {
	int fd; /* -1: not open */
	Elf *elf;
	uint64_t size;
	dev_t device;
	ino_t inode;
	size_t section_count; /* 0: no usable section headers */
	struct bytes section_names;
};

struct segment {
	uint64_t vaddr, offset, file_size, memory_size;
	uint32_t flags;
	uint8_t *data; /* of an executable segment, once text_load has run */
};

struct symbols;
struct frames;
struct rseq;

struct module {
	char *path;
	char *debug_root; /* NULL: look for no separate debug file */
	struct image main, debug;
	struct segment *segments; /* PT_LOAD, sorted, disjoint */
	size_t segment_count;
	struct module_range *code; /* executable sections, or else segments; sorted */
	size_t code_count;
	struct module_range *stubs; /* those sections that the linker makes: .plt and relatives */
	size_t stub_count;
	size_t build_id_size;
	uint8_t build_id[MODULE_BUILD_ID_MAX];
	bool is_go, is_fixed, text_loaded;
	struct symbols *symbols; /* these three are made on first use */
	struct frames *frames;
	struct rseq *rseq;
};

/* image.c */
int image_open(const char *path, struct image *image);
void image_close(struct image *image);
/* Reads all of `size` bytes, or fails. */
int image_read(const struct image *image, uint64_t offset, void *buffer, size_t size);
const Elf64_Shdr *image_section(const struct image *image, size_t index);
/* Index of the first section of that name; 0 (the null section) if there is none. */
size_t image_find(const struct image *image, const char *name);
/* The contents, decompressed where need be. -ENOENT without contents, -ENOEXEC if damaged. */
int image_load(const struct image *image, size_t index, struct bytes *bytes);
void bytes_free(struct bytes *bytes);
size_t image_build_id(const struct image *image, uint8_t id[MODULE_BUILD_ID_MAX]);
/* Walks the notes of PT_NOTE segments and SHT_NOTE sections; true if that note exists. */
bool image_note(const struct image *image, const char name[NOTE_NAME], uint32_t type,
                uint8_t *description, size_t *size);

/* module.c */
const struct segment *segment_at(const struct module *module, uint64_t vaddr);
bool is_code(const struct module *module, uint64_t vaddr);
/* Linkage stubs jump to the entries of functions, and nowhere else. */
bool is_stub(const struct module *module, uint64_t vaddr);
/* Bring the executable segments into memory. */
int text_load(struct module *module);
/* The bytes from `vaddr` to the end of its executable segment's contents; NULL if none. */
const uint8_t *text_at(const struct module *module, uint64_t vaddr, size_t *size);

/* debugfile.c: finds, verifies and opens the separate debug file as module->debug. */
void debug_file_open(struct module *module);

/* symbols.c */
void symbols_free(struct symbols *symbols);
/*
 * The nearest addresses at which symbols start, `before` <= vaddr < `after`; 0 and UINT64_MAX
 * where there is none. False if there are no symbols at all.
 */
bool symbol_starts_near(struct module *module, uint64_t vaddr, uint64_t *before, uint64_t *after);
/* The symbols that start exactly there, by name; NULL and 0 if none does. */
const struct module_symbol *symbols_starting_at(struct module *module, uint64_t vaddr,
                                                size_t *count);
/*
 * Calls `visit` for each symbol that names a part of the same function as `symbol`: its
 * .cold fragments, and if it is such a fragment itself, everything of the same base name.
 * Stops when `visit` returns false.
 */
void symbol_parts(struct module *module, const struct module_symbol *symbol,
                  bool (*visit)(void *context, const struct module_symbol *part), void *context);

/*
 * reader.c - a cursor over bytes that knows the address they are at. Once it has been asked
 * for more than there is, or for an encoding that we do not know, `bad` stays set, and what
 * it returns is 0.
 */
struct reader {
	const uint8_t *at, *end;
	uint64_t address; /* of `at` */
	bool bad;
};

uint64_t read_fixed(struct reader *reader, unsigned size); /* 1 to 8 bytes, little-endian */
uint64_t read_uleb(struct reader *reader);
int64_t read_sleb(struct reader *reader);
/* A pointer encoded as DW_EH_PE_* (LSB 5.0 Core, 10.5.1); `function`: base of funcrel. */
uint64_t read_encoded(struct reader *reader, uint8_t encoding, uint64_t function);
void read_skip(struct reader *reader, uint64_t size);

/* frames.c: call-frame information (DWARF 5, 6.4; LSB 5.0 Core, 10.6). */
enum {
	REGISTER_COUNT = 17, /* psABI figure 3.36: 0 to 15 are general, 16 is the return address */
	REGISTER_RSP = 7,
	REGISTER_RETURN = 16,
};

struct cie {
	const uint8_t *entry; /* identifies it: FDEs point here */
	struct reader program;
	uint64_t code_align;
	int64_t data_align;
	uint8_t pointer_encoding, lsda_encoding;
	bool has_augmentation, usable;
};

struct fde {
	uint64_t start, end;
	uint32_t cie;
	bool overlapped; /* by another FDE: neither is to be believed */
	bool bad_lsda;
	uint64_t lsda; /* 0: none */
	struct reader program;
};

void frames_free(struct frames *frames);
/* The FDE that covers vaddr; NULL if none or more than one does. */
const struct fde *fde_at(struct module *module, uint64_t vaddr);
/* The first FDE that starts at or after vaddr, or covers it; NULL if there is none. */
const struct fde *fde_from(struct module *module, uint64_t vaddr);
/* As symbol_starts_near. */
bool fde_starts_near(struct module *module, uint64_t vaddr, uint64_t *before, uint64_t *after);
const struct cie *fde_cie(struct module *module, const struct fde *fde);
/*
 * Calls `visit` for each landing pad of the FDE's LSDA. Adds the bytes looked at to `*work`.
 * -ENOEXEC: it cannot be read to its end.
 */
int landing_pads(struct module *module, const struct fde *fde,
                 bool (*visit)(void *context, uint64_t vaddr), void *context, uint64_t *work);

/* rows.c */
struct rule {
	uint32_t kind, reg;
	int64_t value; /* offset, or the hash of an expression */
};

struct row {
	struct rule cfa, registers[REGISTER_COUNT];
};

enum { ROW_STACK_MAX = 16 };

/* Runs an FDE's program forwards: cheap for a series of rising addresses. */
struct row_cursor {
	const struct fde *fde;
	const struct cie *cie;
	struct reader program;
	uint64_t location;
	struct row row, initial;
	unsigned depth;
	bool bad;
	struct row stack[ROW_STACK_MAX];
};

/* The row at vaddr, kept in cursor->row. A zeroed cursor is a valid start. False: no row. */
bool row_at(struct module *module, struct row_cursor *cursor, uint64_t vaddr);
/* Equal rows have equal hashes; so different hashes prove that rows differ. */
uint64_t row_hash(const struct row *row);
/* CFA is rsp+8: the return address is on top of the stack. */
bool row_returns(const struct row *row);
/* CFA is rsp+8 and nothing is saved but the return address: the row of a function's entry. */
bool row_is_entry(const struct row *row);

/* rseq.c */
void rseq_free(struct rseq *rseq);

/* function.c: a function in all its parts, decoded. */
struct piece {
	uint64_t start, end;
	uint8_t *boundaries; /* one bit a byte: an instruction starts here */
};

enum { PIECE_COUNT_MAX = 256 };

struct function {
	struct module *module;
	const struct module_symbol *symbol; /* what it was found by; either may be NULL */
	const struct fde *fde;
	struct piece pieces[PIECE_COUNT_MAX];
	size_t piece_count;
	uint64_t *rows; /* hashes of the rows at its indirect jumps */
	size_t row_count, row_room;
	uint64_t *pads; /* its landing pads */
	size_t pad_count, pad_room;
	bool unknown;      /* does not decode, or is too much to look at */
	bool rowless_jump; /* an indirect jump without a row, or what may be one in disguise */
	uint64_t budget;   /* bytes that may still be looked at */
};

/*
 * Makes `function` the one that holds vaddr, at no cost if it is already. It starts zeroed but
 * for module and budget.
 */
void function_analyse(struct function *function, uint64_t vaddr);
/* The piece that holds vaddr; NULL if none does. */
const struct piece *function_piece(const struct function *function, uint64_t vaddr);
bool piece_boundary(const struct piece *piece, uint64_t vaddr);
void function_clear(struct function *function);

/* branches.c: sets MODULE_DANGER_BRANCH for ranges that a direct branch may target. *source,
 * unless NULL, gets the address of the last one found. */
int branches_scan(struct module *module, const struct module_range *ranges, size_t n,
                  uint32_t *dangers, uint64_t *budget, uint64_t *source);

#endif
