/* SPDX-License-Identifier: MIT */
/* Function symbols are those that readelf and nm list, wherever they are kept. */
#include <errno.h>
#include <sys/stat.h>

#include "module_sample.h"

struct expected {
	uint64_t vaddr;
	char name[496];
};

static int compare(const void *a, const void *b)
{
	const struct expected *left = a, *right = b;

	if (left->vaddr != right->vaddr)
		return left->vaddr < right->vaddr ? -1 : 1;
	return strcmp(left->name, right->name);
}

static size_t unique(struct expected *items, size_t count)
{
	size_t kept = 0;

	qsort(items, count, sizeof(*items), compare);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || compare(&items[kept - 1], &items[i]))
			items[kept++] = items[i];
	return kept;
}

/* Defined functions of readelf's listing, versions cut off. */
static size_t by_readelf(const char *path, struct expected **out)
{
	char command[512], line[8192];
	struct expected *items = NULL;
	size_t count = 0;
	FILE *pipe;

	snprintf(command, sizeof(command), "readelf -sW %s", path);
	pipe = popen(command, "r");
	while (pipe && fgets(line, sizeof(line), pipe)) {
		char type[16], bind[16], section[16], name[4096];
		uint64_t value;

		if (sscanf(line, " %*d: %" SCNx64 " %*s %15s %15s %*s %15s %4095s", &value, type,
		           bind, section, name) != 5 ||
		    (strcmp(type, "FUNC") && strcmp(type, "IFUNC")) || !strcmp(section, "UND") ||
		    value == 0)
			continue;
		if (count % 4096 == 0)
			items = realloc(items, (count + 4096) * sizeof(*items));
		items[count].vaddr = value;
		name[strcspn(name, "@")] = 0;
		snprintf(items[count++].name, sizeof(items->name), "%.495s", name);
	}
	if (pipe)
		pclose(pipe);
	*out = items;
	return unique(items, count);
}

static void same_as_readelf(const char *path)
{
	struct expected *wanted;
	const struct module_symbol *symbols;
	struct module *module = open_sample(path, NULL);
	size_t count = by_readelf(path, &wanted), found = module_symbols(module, &symbols), at = 0;

	while (at < count && at < found && wanted[at].vaddr == symbols[at].vaddr &&
	       !strncmp(wanted[at].name, symbols[at].name, 495))
		at++;
	ok(at == count && at == found, "%s: the %zu functions that readelf lists", path, count);
	if (at < count && at < found)
		note("%zu: %" PRIx64 " %s, but %" PRIx64 " %s", at, wanted[at].vaddr,
		     wanted[at].name, symbols[at].vaddr, symbols[at].name);
	free(wanted);
	module_close(module);
}

/* Of the same address and name, as `nm -D` prints them. */
static void same_as_nm(const char *path)
{
	char command[512], line[8192];
	struct expected *lines = NULL;
	size_t count = 0, found, missing = 0;
	const struct module_symbol *symbols;
	struct module *module = open_sample(path, NULL);
	FILE *pipe;

	snprintf(command, sizeof(command), "{ nm -D %s; nm %s; } 2>/dev/null", path, path);
	pipe = popen(command, "r");
	while (pipe && fgets(line, sizeof(line), pipe)) {
		char type, name[4096];
		uint64_t value;

		if (sscanf(line, "%" SCNx64 " %c %4095s", &value, &type, name) != 3 ||
		    !strchr("TtWwi", type))
			continue;
		if (count % 4096 == 0)
			lines = realloc(lines, (count + 4096) * sizeof(*lines));
		lines[count].vaddr = value;
		name[strcspn(name, "@")] = 0;
		snprintf(lines[count++].name, sizeof(lines->name), "%.495s", name);
	}
	if (pipe)
		pclose(pipe);
	count = unique(lines, count);
	found = module_symbols(module, &symbols);
	for (size_t i = 0; i < found; i++) {
		struct expected key = {.vaddr = symbols[i].vaddr};

		snprintf(key.name, sizeof(key.name), "%.495s", symbols[i].name);
		missing += !bsearch(&key, lines, count, sizeof(key), compare);
	}
	ok(found > 0 && missing == 0, "%s: each of %zu symbols is in nm's list", path, found);
	free(lines);
	module_close(module);
}

static const char source[] =
        "__attribute__((noinline)) int inner(int x) { return x * 3; }\n"
        "static __attribute__((noinline, used)) int hidden(int x) { return x ^ 5; }\n"
        "int alias_long(int) __attribute__((alias(\"inner\")));\n"
        "static int also(int) __attribute__((alias(\"inner\"), used));\n"
        "int outer(int x) { return inner(x) + hidden(x); }\n"
        "static int (*pick(void))(int) { return inner; }\n"
        "int choice(int) __attribute__((ifunc(\"pick\")));\n"
        "int data = 4;\n";

static const struct module_symbol *find(struct module *module, const char *name)
{
	const struct module_symbol *symbols;
	size_t count = module_symbols(module, &symbols);

	for (size_t i = 0; i < count; i++)
		if (!strcmp(symbols[i].name, name))
			return &symbols[i];
	return NULL;
}

static void attributes(void)
{
	struct module *module = open_sample("plain.so", NULL);
	const struct module_symbol *inner = find(module, "inner"), *hidden = find(module, "hidden");
	const struct module_symbol *choice = find(module, "choice");
	uint64_t start, end;

	ok(inner && inner->is_global && inner->size, "a global function");
	ok(hidden && !hidden->is_global, "a local one");
	ok(choice && choice->indirect && !inner->indirect, "an indirect one");
	ok(!find(module, "data"), "variables are no functions");
	ok(module_symbol_at(module, inner->vaddr + inner->size - 1) == inner,
	   "the global, short alias names an address");
	ok(module_symbol_at(module, 1) == NULL, "no symbol at address 1");
	ok(!module_function_extent(module, inner->vaddr + 1, &start, &end) &&
	           start == inner->vaddr && end == start + inner->size,
	   "the extent of a function");
	ok(module_function_extent(module, 1, &start, &end) == -ENOENT, "no function at address 1");
	module_close(module);
}

/* A symbol in `file` once its separate debug file is found under `root`. */
static bool finds_hidden(const char *file, const char *root)
{
	struct module *module = open_sample(file, root);
	bool found = find(module, "hidden") != NULL;

	module_close(module);
	return found;
}

static void debug_files(void)
{
	char root[300];

	snprintf(root, sizeof(root), "%s/root", sample_folder);
	run("objcopy --only-keep-debug plain.so plain.debug && strip -o bare.so plain.so");
	ok(!finds_hidden("bare.so", root), "stripped: no local symbol");
	run("id=$(readelf -n plain.so | sed -n 's/.*Build ID: //p') &&"
	    "d=root/usr/lib/debug/.build-id/$(echo $id | cut -c1-2) && mkdir -p $d &&"
	    "cp plain.debug $d/$(echo $id | cut -c3-).debug");
	ok(finds_hidden("bare.so", root), "debug file by build ID");
	ok(!finds_hidden("bare.so", NULL), "none looked for without a root");
	run("gcc -shared -fPIC -O1 -Wl,--build-id=sha1 -o other.so other.c &&"
	    "id=$(readelf -n plain.so | sed -n 's/.*Build ID: //p') && cp other.so "
	    "root/usr/lib/debug/.build-id/$(echo $id | cut -c1-2)/$(echo $id | cut -c3-).debug");
	ok(!finds_hidden("bare.so", root), "a debug file of another build ID is ignored");

	run("rm -r root && mkdir root && gcc -shared -fPIC -O1 -Wl,--build-id=none -o anon.so "
	    "plain.c && objcopy --only-keep-debug anon.so anon.debug && strip -o link.so anon.so "
	    "&& objcopy --add-gnu-debuglink=anon.debug link.so");
	ok(finds_hidden("link.so", root), "debug file by link, beside the file");
	run("mkdir .debug && mv anon.debug .debug/");
	ok(finds_hidden("link.so", root), "in .debug");
	run("mkdir -p root/usr/lib/debug/$PWD root/$PWD && mv .debug/anon.debug "
	    "root/usr/lib/debug/$PWD/ && cp link.so root/$PWD/");
	ok(finds_hidden("link.so", root), "under the debug root");
	snprintf(root, sizeof(root), "%s/root%s/link.so", sample_folder, sample_folder);
	run("mv link.so elsewhere.so");
	{
		char inside[300];

		snprintf(inside, sizeof(inside), "%s/root", sample_folder);
		ok(finds_hidden(root, inside), "of a file that is itself named through the root");
		run("mv elsewhere.so link.so && printf x >> root/usr/lib/debug/$PWD/anon.debug");
		ok(!finds_hidden("link.so", inside), "a link whose CRC is wrong is ignored");
	}
	run("touch x.so y.so && for l in 'x y' 'y x'; do set -- $l; objcopy "
	    "--add-gnu-debuglink=$2.so bare.so $1.tmp; done; mv x.tmp x.so; mv y.tmp y.so");
	ok(!finds_hidden("x.so", root), "two files that link to each other");
	run("objcopy --add-gnu-debuglink=x.so bare.so x.tmp && mv x.tmp x.so");
	ok(!finds_hidden("x.so", root), "a file that links to itself");
}

static int opens(const char *name)
{
	struct module *module;
	int error = module_open(sample_path(name), "", &module);

	module_close(module);
	return error;
}

static void refusals(void)
{
	run("mkfifo fifo; mkdir folder; : > empty; head -c 40 plain.so > short; head -c 3000 "
	    "plain.so "
	    "> cut; echo hello, this is a text that is longer than the header of an ELF file is > "
	    "text");
	ok(opens("fifo") == -ENOEXEC, "a FIFO is refused, not waited for");
	ok(opens("folder") == -ENOEXEC, "a directory is refused");
	ok(opens("/dev/zero") == -ENOEXEC, "a device is refused");
	ok(opens("nothing") == -ENOENT, "no file");
	ok(opens("empty") == -ENOEXEC && opens("short") == -ENOEXEC && opens("text") == -ENOEXEC,
	   "empty, cut and text files are refused");
	ok(opens("cut") == -ENOEXEC, "a file that ends before its segments is refused");
	run("gcc -c -o object.o plain.c");
	ok(opens("object.o") == -ENOEXEC, "a relocatable object is refused");
	if (run("gcc -m32 -c -o object32.o other.c 2>/dev/null && ld -m elf_i386 -shared -o "
	        "lib32.so "
	        "object32.o 2>/dev/null"))
		skip("no 32-bit compiler");
	else
		ok(opens("lib32.so") == -ENOEXEC, "a 32-bit file is refused");
}

static void headers(void)
{
	struct module *module = open_sample("plain.so", NULL), *fixed;
	uint8_t id[MODULE_BUILD_ID_MAX], byte[4];
	uint64_t vaddr = label("plain.so", "outer"), offset, back;
	char text[MODULE_BUILD_ID_MAX * 2 + 1] = "";
	size_t size = module_build_id(module, id);

	for (size_t i = 0; i < size; i++)
		snprintf(text + 2 * i, 3, "%02x", id[i]);
	ok(size == 20 && !run("readelf -n plain.so | grep -q 'Build ID: %s$'", text), "build ID");
	ok(!module_is_fixed(module) && !module_is_go(module), "a shared object, not of Go");
	ok(!module_vaddr_to_offset(module, vaddr, &offset) &&
	           !module_offset_to_vaddr(module, offset, &back) && back == vaddr,
	   "from address to offset and back");
	ok(module_offset_to_vaddr(module, UINT64_MAX, &back) == -ENOENT &&
	           module_vaddr_to_offset(module, 0, &offset) == -ENOENT,
	   "an offset or address that is not in text");
	ok(module_read(module, vaddr, byte, sizeof(byte)) == 4, "read of text");
	ok(module_read(module, UINT64_MAX - 1, byte, sizeof(byte)) == -EFAULT, "read of nowhere");
	run("echo 'int main(void) { return 0; }' > main.c && gcc -no-pie -o fixed main.c");
	fixed = open_sample("fixed", NULL);
	ok(module_is_fixed(fixed), "a fixed executable");
	module_close(fixed);
	module_close(module);
}

/* .symtab spells versions out: f@V1, f@@V2. */
static void versions(void)
{
	struct module *module;
	const struct module_symbol *symbols;
	size_t count, named = 0, marked = 0;

	write_sample("ver.c", "__asm__(\".symver a, f@V1\");\n__asm__(\".symver b, f@@V2\");\n"
	                      "int a(int x) { return x + 1; }\nint b(int x) { return x + 2; }\n");
	write_sample("ver.map", "V1 { global: f; local: *; };\nV2 { global: f; } V1;\n");
	run("gcc -shared -fPIC -O1 -Wl,--version-script=ver.map -o ver.so ver.c");
	module = open_sample("ver.so", NULL);
	count = module_symbols(module, &symbols);
	for (size_t i = 0; i < count; i++) {
		named += !strcmp(symbols[i].name, "f");
		marked += strchr(symbols[i].name, '@') != NULL;
	}
	ok(named == 2 && marked == 0, "versions are cut off");
	module_close(module);
}

static void objects(void)
{
	struct module *module;
	uint64_t vaddr = 0;

	write_sample("objects.c", "const int answer = 42;\nint f(void) { return 1; }\n"
	                          "static const int hidden = 7;\n"
	                          "const int *g(void) { return &hidden; }\n");
	run("gcc -shared -fPIC -O1 -o objects.so objects.c");
	module = open_sample("objects.so", NULL);
	ok(module_object(module, "answer", &vaddr) == 0 && vaddr == label("objects.so", "answer"),
	   "a data object is where nm says");
	ok(module_object(module, "f", &vaddr) == -ENOENT &&
	           module_object(module, "hidden", &vaddr) == -ENOENT &&
	           module_object(module, "none", &vaddr) == -ENOENT,
	   "a function, a local object and none are no such objects");
	module_close(module);
}

/* sstrip: the section headers are gone; the segments are what is left. */
static void no_sections(void)
{
	struct module *module;
	const struct module_symbol *symbols;
	uint64_t start, end, vaddr = label("plain.so", "outer");

	run("cp plain.so bald.so && printf '\\0\\0\\0\\0\\0\\0\\0\\0' | dd of=bald.so bs=1 seek=40 "
	    "conv=notrunc status=none && printf '\\0\\0\\0\\0\\0\\0' | dd of=bald.so bs=1 seek=58 "
	    "conv=notrunc status=none");
	module = open_sample("bald.so", NULL);
	ok(module_symbols(module, &symbols) == 0, "without section headers, no symbols");
	ok(!module_function_extent(module, vaddr + 1, &start, &end) && start == vaddr,
	   "but FDEs, through PT_GNU_EH_FRAME");
	module_close(module);
}

int main(void)
{
	sample_start();
	write_sample("plain.c", source);
	write_sample("other.c", "int hidden(int x) { return x; }\n");
	run("gcc -shared -fPIC -O1 -Wl,--build-id=sha1 -o plain.so plain.c");
	for (size_t i = 0; i < sizeof(sample_libraries) / sizeof(*sample_libraries); i++) {
		if (access(sample_libraries[i], R_OK)) {
			skip("%s is not installed", sample_libraries[i]);
			continue;
		}
		same_as_readelf(sample_libraries[i]);
		same_as_nm(sample_libraries[i]);
	}
	same_as_readelf(sample_path("plain.so"));
	attributes();
	objects();
	headers();
	no_sections();
	versions();
	debug_files();
	refusals();
	return done();
}
