/* SPDX-License-Identifier: MIT */
/*
 * symbols.c - function symbols, sorted, and which of them holds an address.
 *
 * Work and memory are in proportion to the file's size, whatever is in it: names are counted
 * against the size of their string table (two tables of one linker share tails, never more),
 * and overlapping extents are flattened once, so that a lookup is a binary search.
 */
#include <errno.h>
#include <string.h>

#include "module/internal.h"

enum { SYMBOL_COUNT_MAX = 1 << 24 };

/* [start, next extent's start) belongs to `symbol`; UINT32_MAX: to nobody. */
struct extent {
	uint64_t start;
	uint32_t symbol;
};

/* For finding the parts of a function: sorted by base name, cold fragments first. */
struct part {
	const char *name;
	uint32_t base_length, symbol;
	bool is_cold;
};

struct symbols {
	struct module_symbol *items;
	size_t count, room;
	struct extent *extents;
	size_t extent_count;
	struct part *parts;  /* made on first use */
	struct bytes *names; /* string tables that the names are in */
	size_t name_count;
};

void symbols_free(struct symbols *symbols)
{
	if (!symbols)
		return;
	for (size_t i = 0; i < symbols->name_count; i++)
		bytes_free(&symbols->names[i]);
	free(symbols->names);
	free(symbols->items);
	free(symbols->extents);
	free(symbols->parts);
	free(symbols);
}

static bool add(struct symbols *symbols, struct module_symbol symbol)
{
	if (symbols->count == symbols->room) {
		size_t room = symbols->room ? 2 * symbols->room : 1024;
		void *grown = room > SYMBOL_COUNT_MAX
		                      ? NULL
		                      : realloc(symbols->items, room * sizeof(*symbols->items));

		if (!grown)
			return false;
		symbols->items = grown;
		symbols->room = room;
	}
	symbols->items[symbols->count++] = symbol;
	return true;
}

static bool is_function(const struct module *module, const Elf64_Sym *symbol)
{
	unsigned type = ELF64_ST_TYPE(symbol->st_info);

	return (type == STT_FUNC || type == STT_GNU_IFUNC) && symbol->st_shndx != SHN_UNDEF &&
	       symbol->st_shndx != SHN_ABS && symbol->st_value != 0 &&
	       is_code(module, symbol->st_value);
}

static void add_table(struct module *module, struct symbols *symbols, const struct bytes *table,
                      const struct bytes *names)
{
	/* A real table's names add up to little more than its strings. */
	uint64_t budget = 4 * (uint64_t)names->size + (1 << 20);

	for (size_t at = 0; table->size - at >= sizeof(Elf64_Sym); at += sizeof(Elf64_Sym)) {
		Elf64_Sym symbol;
		char *name, *version;
		size_t length;

		memcpy(&symbol, table->data + at, sizeof(symbol));
		if (!is_function(module, &symbol) || symbol.st_name >= names->size)
			continue;
		name = (char *)names->data + symbol.st_name;
		length = strlen(name);
		if (length > budget)
			return;
		budget -= length;
		/* `name@VER`, `name@@VER`: the string is ours to cut. */
		version = strchr(name, '@');
		if (version)
			*version = 0;
		if (!*name)
			continue;
		if (!add(symbols,
		         (struct module_symbol){
		                 .name = name,
		                 .vaddr = symbol.st_value,
		                 .size = symbol.st_size,
		                 .indirect = ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC,
		                 .is_global = ELF64_ST_BIND(symbol.st_info) != STB_LOCAL}))
			return;
	}
}

static void add_image(struct module *module, struct symbols *symbols, const struct image *image)
{
	for (size_t i = 1; i < image->section_count; i++) {
		const Elf64_Shdr *header = image_section(image, i);
		struct bytes table, names;
		void *grown;

		if (!header || (header->sh_type != SHT_SYMTAB && header->sh_type != SHT_DYNSYM) ||
		    header->sh_entsize != sizeof(Elf64_Sym) || symbols->name_count >= 8)
			continue;
		grown = realloc(symbols->names, (symbols->name_count + 1) * sizeof(names));
		if (!grown)
			return;
		symbols->names = grown;
		if (image_load(image, i, &table))
			continue;
		if (!image_load(image, header->sh_link, &names)) {
			add_table(module, symbols, &table, &names);
			symbols->names[symbols->name_count++] = names;
		}
		bytes_free(&table);
	}
}

static int find_object(const struct bytes *table, const struct bytes *names, const char *name,
                       uint64_t *vaddr)
{
	for (size_t at = 0; table->size - at >= sizeof(Elf64_Sym); at += sizeof(Elf64_Sym)) {
		Elf64_Sym symbol;

		memcpy(&symbol, table->data + at, sizeof(symbol));
		if (ELF64_ST_TYPE(symbol.st_info) != STT_OBJECT || symbol.st_shndx == SHN_UNDEF ||
		    symbol.st_name >= names->size ||
		    strcmp((char *)names->data + symbol.st_name, name))
			continue;
		*vaddr = symbol.st_value;
		return 0;
	}
	return -ENOENT;
}

int module_object(struct module *module, const char *name, uint64_t *vaddr)
{
	const struct image *image = &module->main;
	int error = -ENOENT;

	for (size_t i = 1; i < image->section_count && error; i++) {
		const Elf64_Shdr *header = image_section(image, i);
		struct bytes table, names;

		if (!header || header->sh_type != SHT_DYNSYM ||
		    header->sh_entsize != sizeof(Elf64_Sym) || image_load(image, i, &table))
			continue;
		if (!image_load(image, header->sh_link, &names)) {
			error = find_object(&table, &names, name, vaddr);
			bytes_free(&names);
		}
		bytes_free(&table);
	}
	return error;
}

static int compare_symbols(const void *a, const void *b)
{
	const struct module_symbol *left = a, *right = b;

	if (left->vaddr != right->vaddr)
		return left->vaddr < right->vaddr ? -1 : 1;
	return left->name == right->name ? 0 : strcmp(left->name, right->name);
}

/* .symtab repeats .dynsym: of the same name at the same address, keep what is known of both. */
static void merge(struct symbols *symbols)
{
	size_t kept = 0;

	for (size_t i = 0; i < symbols->count; i++) {
		const struct module_symbol *symbol = &symbols->items[i];
		struct module_symbol *last = kept ? &symbols->items[kept - 1] : NULL;

		if (!last || compare_symbols(last, symbol)) {
			symbols->items[kept++] = *symbol;
			continue;
		}
		if (symbol->size > last->size)
			last->size = symbol->size;
		last->is_global |= symbol->is_global;
		last->indirect |= symbol->indirect;
	}
	symbols->count = kept;
}

/* Is `a` the name to show for an address that both hold? */
static bool is_better(const struct module_symbol *a, const struct module_symbol *b)
{
	size_t left, right;

	if (a->is_global != b->is_global)
		return a->is_global;
	left = strlen(a->name);
	right = strlen(b->name);
	return left != right ? left < right : strcmp(a->name, b->name) < 0;
}

static int compare_extents(const void *a, const void *b)
{
	const struct module_symbol *left = *(struct module_symbol *const *)a;
	const struct module_symbol *right = *(struct module_symbol *const *)b;

	if (left->vaddr != right->vaddr)
		return left->vaddr < right->vaddr ? -1 : 1;
	return left->size == right->size ? 0 : left->size > right->size ? -1 : 1;
}

static uint64_t symbol_end(const struct module_symbol *symbol)
{
	return symbol->size > INT64_MAX - symbol->vaddr ? INT64_MAX : symbol->vaddr + symbol->size;
}

static void emit(struct symbols *symbols, uint64_t start, uint32_t symbol)
{
	struct extent *last =
	        symbols->extent_count ? &symbols->extents[symbols->extent_count - 1] : NULL;

	if (last && last->start == start)
		last->symbol = symbol;
	else if (!last || last->symbol != symbol)
		symbols->extents[symbols->extent_count++] = (struct extent){start, symbol};
}

/*
 * One pass over the extents in order of their starts. The stack holds the open ones, innermost
 * (started last) on top; an extent that ends before the one started after it is hidden for
 * good and dropped, so ends grow towards the bottom.
 */
static void flatten(struct symbols *symbols, struct module_symbol **sorted, size_t count,
                    struct module_symbol **stack)
{
	size_t depth = 0;

	for (size_t i = 0; i <= count; i++) {
		uint64_t now = i < count ? sorted[i]->vaddr : UINT64_MAX;

		while (depth && symbol_end(stack[depth - 1]) <= now) {
			uint64_t end = symbol_end(stack[--depth]);

			emit(symbols, end,
			     depth ? (uint32_t)(stack[depth - 1] - symbols->items) : UINT32_MAX);
		}
		if (i == count)
			break;
		/* Aliases come longest first: a shorter one counts where it is the better name. */
		if (depth && stack[depth - 1]->vaddr == now &&
		    !is_better(sorted[i], stack[depth - 1]))
			continue;
		while (depth && symbol_end(stack[depth - 1]) <= symbol_end(sorted[i]))
			depth--;
		stack[depth++] = sorted[i];
		emit(symbols, now, (uint32_t)(sorted[i] - symbols->items));
	}
}

static void find_extents(struct symbols *symbols)
{
	struct module_symbol **sorted = malloc((symbols->count + 1) * sizeof(*sorted));
	struct module_symbol **stack = malloc((symbols->count + 1) * sizeof(*stack));
	size_t count = 0;

	symbols->extents = malloc((2 * symbols->count + 1) * sizeof(*symbols->extents));
	if (sorted && stack && symbols->extents) {
		for (size_t i = 0; i < symbols->count; i++)
			if (symbols->items[i].size)
				sorted[count++] = &symbols->items[i];
		qsort(sorted, count, sizeof(*sorted), compare_extents);
		flatten(symbols, sorted, count, stack);
	}
	free(sorted);
	free(stack);
}

static struct symbols *symbols_get(struct module *module)
{
	struct symbols *symbols = module->symbols;

	if (symbols)
		return symbols;
	symbols = calloc(1, sizeof(*symbols));
	if (!symbols)
		return NULL;
	module->symbols = symbols;
	debug_file_open(module);
	add_image(module, symbols, &module->main);
	if (module->debug.fd >= 0)
		add_image(module, symbols, &module->debug);
	if (symbols->count)
		qsort(symbols->items, symbols->count, sizeof(*symbols->items), compare_symbols);
	merge(symbols);
	find_extents(symbols);
	return symbols;
}

size_t module_symbols(struct module *module, const struct module_symbol **out)
{
	struct symbols *symbols = symbols_get(module);

	*out = symbols ? symbols->items : NULL;
	return symbols ? symbols->count : 0;
}

const struct module_symbol *module_symbol_at(struct module *module, uint64_t vaddr)
{
	struct symbols *symbols = symbols_get(module);
	size_t low = 0, high = symbols ? symbols->extent_count : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->extents[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || symbols->extents[low - 1].symbol == UINT32_MAX)
		return NULL;
	return &symbols->items[symbols->extents[low - 1].symbol];
}

/* How many symbols start at or before vaddr. */
static size_t count_until(const struct symbols *symbols, uint64_t vaddr)
{
	size_t low = 0, high = symbols->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->items[middle].vaddr <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool symbol_starts_near(struct module *module, uint64_t vaddr, uint64_t *before, uint64_t *after)
{
	struct symbols *symbols = symbols_get(module);
	size_t next;

	if (!symbols || symbols->count == 0)
		return false;
	next = count_until(symbols, vaddr);
	*before = next ? symbols->items[next - 1].vaddr : 0;
	*after = next < symbols->count ? symbols->items[next].vaddr : UINT64_MAX;
	return true;
}

const struct module_symbol *symbols_starting_at(struct module *module, uint64_t vaddr,
                                                size_t *count)
{
	struct symbols *symbols = symbols_get(module);
	size_t first, next;

	*count = 0;
	if (!symbols || vaddr == 0)
		return NULL;
	first = count_until(symbols, vaddr - 1);
	next = count_until(symbols, vaddr);
	*count = next - first;
	return *count ? &symbols->items[first] : NULL;
}

int module_function_extent(struct module *module, uint64_t vaddr, uint64_t *start, uint64_t *end)
{
	const struct module_symbol *symbol = module_symbol_at(module, vaddr);
	const struct segment *segment;
	uint64_t limit;

	if (!symbol)
		return module_fde_extent(module, vaddr, start, end);
	/* A symbol's size is the file's word; it does not reach beyond the code that is there. */
	segment = segment_at(module, symbol->vaddr);
	limit = segment->vaddr + segment->file_size;
	*start = symbol->vaddr;
	*end = symbol_end(symbol) < limit ? symbol_end(symbol) : limit;
	return vaddr < *end ? 0 : -ENOENT;
}

static int compare_base(const struct part *left, const char *name, size_t length)
{
	size_t shorter = left->base_length < length ? left->base_length : length;
	int order = memcmp(left->name, name, shorter);

	return order ? order : (left->base_length > length) - (left->base_length < length);
}

static int compare_parts(const void *a, const void *b)
{
	const struct part *left = a, *right = b;
	int order = left->name == right->name && left->base_length == right->base_length
	                    ? 0
	                    : compare_base(left, right->name, right->base_length);

	if (order)
		return order;
	if (left->is_cold != right->is_cold)
		return left->is_cold ? -1 : 1;
	return (left->symbol > right->symbol) - (left->symbol < right->symbol);
}

static struct part part_of(const struct module_symbol *symbol, uint32_t index)
{
	/* GCC: f.cold, f.part.0.cold, f.cold.1; LLVM: f.cold, f.cold.1, f.llvm.123.cold */
	size_t length = strlen(symbol->name);
	const char *dot = memchr(symbol->name + 1, '.', length - 1);

	return (struct part){.name = symbol->name,
	                     .base_length = dot ? (uint32_t)(dot - symbol->name) : (uint32_t)length,
	                     .symbol = index,
	                     .is_cold = dot && strstr(dot, ".cold")};
}

static bool find_parts(struct symbols *symbols)
{
	if (symbols->parts)
		return true;
	symbols->parts = malloc((symbols->count + 1) * sizeof(*symbols->parts));
	if (!symbols->parts)
		return false;
	for (size_t i = 0; i < symbols->count; i++)
		symbols->parts[i] = part_of(&symbols->items[i], (uint32_t)i);
	qsort(symbols->parts, symbols->count, sizeof(*symbols->parts), compare_parts);
	return true;
}

void symbol_parts(struct module *module, const struct module_symbol *symbol,
                  bool (*visit)(void *context, const struct module_symbol *part), void *context)
{
	struct symbols *symbols = symbols_get(module);
	struct part key = part_of(symbol, 0);
	size_t low = 0, high;

	if (!symbols || !find_parts(symbols))
		return;
	high = symbols->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_base(&symbols->parts[middle], key.name, key.base_length) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < symbols->count; low++) {
		const struct part *part = &symbols->parts[low];

		if (compare_base(part, key.name, key.base_length) ||
		    (!part->is_cold && !key.is_cold) ||
		    !visit(context, &symbols->items[part->symbol]))
			return;
	}
}
