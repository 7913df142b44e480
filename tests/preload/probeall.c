/* SPDX-License-Identifier: MIT */
/*
 * probeall.c - probe every function, or many instructions, of a module of the program that loads
 * this, before it begins.
 *
 *   PROBE_MODULE=libz.so   the first module whose file name has that in it
 *   PROBE_FILE=path        hexadecimal addresses in the module, one a line, instead of all
 * functions PROBE_OUT=path         what was done, as lines "name value", at exit
 *
 * Functions are those of .dynsym and .symtab, and all that have call-frame information. All are
 * probed in one transaction. One that is refused is dropped, and told of. Children run without.
 */
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "suture/probe.h"

enum { REFUSED_SHOWN = 20 };

static struct module {
	const char *wanted;
	char path[4096];
	uint64_t base;
	const uint8_t *frames; /* .eh_frame_hdr */
	struct {
		uint64_t start, end;
	} text[8];
	unsigned texts;
} module;

static uint64_t *places;
static size_t places_count, places_room;
static unsigned long *hits;
static struct suture_probe **probes;
static size_t installed;
static FILE *out;
static pid_t owner;

/* ---- what is there ---- */

static int is_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	const char *name = strrchr(info->dlpi_name, '/');

	(void)size, (void)arg;
	if (!strstr(name ? name : info->dlpi_name, module.wanted))
		return 0;
	snprintf(module.path, sizeof(module.path), "%s", info->dlpi_name);
	module.base = info->dlpi_addr;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
		uint64_t start = module.base + segment->p_vaddr;

		if (segment->p_type == PT_GNU_EH_FRAME)
			module.frames = (const uint8_t *)(uintptr_t)start;
		if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) && module.texts < 8) {
			module.text[module.texts].start = start;
			module.text[module.texts++].end = start + segment->p_memsz;
		}
	}
	return 1;
}

static void add(uint64_t address)
{
	bool text = false;

	for (unsigned i = 0; i < module.texts; i++)
		text = text || (address >= module.text[i].start && address < module.text[i].end);
	if (!text)
		return;
	if (places_count == places_room) {
		places_room = places_room ? 2 * places_room : 4096;
		places = realloc(places, places_room * sizeof(*places));
	}
	places[places_count++] = address;
}

static void add_symbols(const uint8_t *file)
{
	const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
	const Elf64_Shdr *sections = (const Elf64_Shdr *)(file + header->e_shoff);

	for (unsigned i = 0; i < header->e_shnum; i++) {
		const Elf64_Sym *symbols = (const Elf64_Sym *)(file + sections[i].sh_offset);

		if (sections[i].sh_type != SHT_DYNSYM && sections[i].sh_type != SHT_SYMTAB)
			continue;
		for (size_t k = 0; k < sections[i].sh_size / sizeof(*symbols); k++)
			if (ELF64_ST_TYPE(symbols[k].st_info) == STT_FUNC && symbols[k].st_size &&
			    symbols[k].st_shndx != SHN_UNDEF)
				add(module.base + symbols[k].st_value);
	}
}

/* The table of .eh_frame_hdr as every linker makes it: distances from its own start. */
static void add_framed(void)
{
	const uint8_t *at = module.frames;
	int32_t pair[2];
	uint32_t count;

	if (!at || at[0] != 1 || at[2] != 0x03 /* udata4 */ || at[3] != 0x3b /* datarel sdata4 */)
		return;
	memcpy(&count, at + 8, sizeof(count));
	for (uint32_t i = 0; i < count; i++) {
		memcpy(pair, at + 12 + 8 * i, sizeof(pair));
		add((uint64_t)(uintptr_t)at + (uint64_t)(int64_t)pair[0]);
	}
}

static void add_listed(const char *path)
{
	FILE *file = fopen(path, "re");
	unsigned long address;

	while (file && fscanf(file, "%lx", &address) == 1)
		add(module.base + address);
	if (file)
		fclose(file);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void find_places(void)
{
	struct stat status;
	size_t kept = 0;
	void *file;
	int fd;

	if (getenv("PROBE_FILE")) {
		add_listed(getenv("PROBE_FILE"));
	} else {
		fd = open(module.path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && fstat(fd, &status) == 0) {
			file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
			if (file != MAP_FAILED) {
				add_symbols(file);
				munmap(file, (size_t)status.st_size);
			}
			close(fd);
		}
		add_framed();
	}
	qsort(places, places_count, sizeof(*places), by_value);
	for (size_t i = 0; i < places_count; i++)
		if (!kept || places[kept - 1] != places[i])
			places[kept++] = places[i];
	places_count = kept;
}

/* ---- probes ---- */

static void on_hit(struct suture_regs *regs, void *arg)
{
	(void)regs;
	__atomic_fetch_add((unsigned long *)arg, 1, __ATOMIC_RELAXED);
}

static size_t drop(struct suture_probe_spec *specs, size_t count, size_t i)
{
	memmove(&specs[i], &specs[i + 1], (--count - i) * sizeof(*specs));
	return count;
}

static void install(void)
{
	struct suture_probe_spec *specs = calloc(places_count + 1, sizeof(*specs));
	char message[200] = "";
	struct suture_text_options options = {.size = sizeof(options),
	                                      .deadline_ns = 20000000000,
	                                      .message = message,
	                                      .message_size = sizeof(message)};
	struct timespec a, b;
	size_t count = places_count, refused = 0;
	int rc;

	hits = calloc(places_count + 1, sizeof(*hits));
	probes = calloc(places_count + 1, sizeof(struct suture_probe *));
	for (size_t i = 0; i < count; i++)
		specs[i] = (struct suture_probe_spec){
		        .address = (void *)(uintptr_t)places[i], .pre = on_hit, .arg = &hits[i]};
	clock_gettime(CLOCK_MONOTONIC, &a);
	while ((rc = suture_probe_install(specs, count, probes, &options)) && count) {
		uint64_t address = (uintptr_t)specs[options.failed].address;

		if (refused++ < REFUSED_SHOWN)
			fprintf(out, "refusal %lx %d %s\n", (unsigned long)(address - module.base),
			        rc, message);
		count = drop(specs, count, options.failed);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	installed = count;
	fprintf(out, "places %zu\nrefused %zu\nmilliseconds %ld\n", places_count, refused,
	        (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000);
	fflush(out);
	free(specs);
}

/* Some programs, shells, have an unsetenv of their own that is not ready yet. */
static void forget(const char *name)
{
	for (char **at = environ; *at; at++)
		if (strncmp(*at, name, strlen(name)) == 0) {
			for (char **next = at; *next; next++)
				next[0] = next[1];
			break;
		}
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("PROBE_OUT");

	module.wanted = getenv("PROBE_MODULE");
	if (!module.wanted || !path)
		return;
	out = fopen(path, "we");
	if (!out)
		abort();
	owner = getpid();
	if (dl_iterate_phdr(is_module, NULL)) {
		find_places();
		install();
	}
	forget("LD_PRELOAD=");
	forget("PROBE_MODULE=");
}

/* Before the program's own end: what comes later still runs through the probes. */
__attribute__((destructor)) static void report(void)
{
	size_t kinds[SUTURE_SITE_TRAP + 1] = {0}, hit = 0;
	unsigned long total = 0;

	if (!out || getpid() != owner)
		return;
	for (size_t i = 0; i < installed; i++)
		kinds[suture_probe_kind(probes[i])]++;
	for (size_t i = 0; i < places_count; i++) {
		unsigned long n = __atomic_load_n(&hits[i], __ATOMIC_RELAXED);

		hit += n != 0;
		total += n;
	}
	fprintf(out, "pun %zu\nwindow %zu\ntrap %zu\nhit %zu\nhits %lu\n", kinds[SUTURE_SITE_PUN],
	        kinds[SUTURE_SITE_WINDOW], kinds[SUTURE_SITE_TRAP], hit, total);
	if (getenv("PROBE_TRAPS"))
		for (size_t i = 0; i < installed; i++)
			if (suture_probe_kind(probes[i]) == SUTURE_SITE_TRAP)
				fprintf(out, "trapped %zu\n", i);
	fclose(out);
	out = NULL;
}
