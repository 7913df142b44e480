# SPDX-License-Identifier: MIT
#
# tests/unit/*.c     one TAP program per subject, linked with libsuture.a
# tests/victims/*.c  programs that the tests work on; a first line `// link: FLAGS` adds flags
# tests/preload/*.c  libraries that the tests preload
# tests/fuzz/*.c     targets of fuzzers; with main.c they are plain programs
# tests/t/*.t        black-box tests of the built command (any language with a #! line)

UNIT_SRC   := $(sort $(wildcard tests/unit/*.c))
UNIT       := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)
VICTIM_SRC := $(sort $(wildcard tests/victims/*.c))
VICTIM     := $(VICTIM_SRC:tests/victims/%.c=$(B)/tests/victims/%) \
              $(addprefix $(B)/tests/victims/,sums-musl tiny32 many sums-go sums-rust \
                Sums.class throwing libplugin.so sums-stripped sums-chroot sums-lld)
PRELOAD    := $(patsubst tests/preload/%.c,$(B)/tests/%.so,$(wildcard tests/preload/*.c))
FUZZERS    := isa text litmus
FUZZ       := $(patsubst %,$(B)/tests/fuzz/%,isa text module litmus)
TESTS      := $(sort $(wildcard tests/t/*.t))

$(B)/tests/unit/%: tests/unit/%.c $(wildcard tests/unit/*.h tests/fuzz/*.h) tests/tap.h $(B)/internal.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) $(INCLUDE) -Itests $< -o $@ $(B)/internal.a $(LIBS) -lpthread

# The public interface, as a program sees it.
$(B)/tests/unit/own_%: tests/unit/own_%.c $(wildcard tests/unit/own_*.h) tests/tap.h $(HEADERS) \
                       $(B)/libsuture.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(SANITIZED) -std=gnu11 -Wall -Wextra -D_GNU_SOURCE -Iinclude -Itests \
	      $< -o $@ $(THREAD_SANITIZED) $(B)/libsuture.a $(LIBS) -lpthread

# What the library does in our own process, with all names.
$(B)/tests/unit/ownint_%: tests/unit/ownint_%.c $(wildcard tests/unit/*.h) tests/tap.h $(OWN_OBJ) \
                          $(COMMON_OBJ)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) -Iinclude -Isrc -Isrc/port/linux -Itests -fexceptions $< -o $@ \
	      $(OWN_OBJ) $(COMMON_OBJ) $(LIBS) -lpthread

# Where few pages are left for puns, and below 2 GB, where jumps can not lead backwards: windows, and
# traps. Threads that take traps all the time make each removal wait for their turn.
SHAPES = $(B)/tests/unit/own_shapes-window $(B)/tests/unit/own_shapes-nopie
UNIT  += $(SHAPES)
$(B)/tests/unit/own_shapes-window: SHAPES_FLAGS = -DWINDOWS -DFEWER=40
$(B)/tests/unit/own_shapes-nopie: SHAPES_FLAGS = -fno-pie -no-pie -DFEWER=25
$(SHAPES): tests/unit/own_shapes.c tests/unit/own_shapes.h tests/tap.h $(HEADERS) $(B)/libsuture.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(SANITIZED) -std=gnu11 -Wall -Wextra -D_GNU_SOURCE \
	      $(SHAPES_FLAGS) -Iinclude -Itests $< -o $@ $(B)/libsuture.a $(LIBS) -lpthread

# The checker's own: linked with its objects.
$(B)/tests/unit/check_%: tests/unit/check_%.c tests/tap.h $(CHECK_OBJ) $(ISA_OBJ)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) $(CHECK_INCLUDE) -Itests $< -o $@ \
	      $(filter-out %/check/main.o,$(CHECK_OBJ)) $(ISA_OBJ) -lZydis -ljansson -lpthread

# What a program sees of the library, and a decoder to predict its answers with.
FUZZ_DEPS = $(wildcard tests/fuzz/*.h) $(HEADERS) $(B)/libsuture.a $(ISA_OBJ)
FUZZ_LINK = $(CFLAGS) $(OURS) -Iinclude -Isrc -Itests
$(B)/tests/fuzz/%: tests/fuzz/%.c tests/fuzz/main.c $(FUZZ_DEPS)
	@mkdir -p $(@D)
	$(CC) $(FUZZ_LINK) $< tests/fuzz/main.c -o $@ $(B)/libsuture.a $(ISA_OBJ) $(LIBS) -lpthread

# A file with its debug file apart, for the reader of both, which is none of the public names.
SEED_SO = $(B)/tests/fuzz/seed.so
$(SEED_SO): tests/fuzz/module_seed.c tests/tests.mk
	@mkdir -p $(@D)
	gcc -O1 -g1 -fPIC -shared -nostdlib -fasynchronous-unwind-tables -Wl,--build-id $< -o $@.full
	objcopy --only-keep-debug $@.full $(@D)/seed.debug && cp $(@D)/seed.debug $@.debug
	cd $(@D) && objcopy --strip-all --add-gnu-debuglink=seed.debug seed.so.full seed.so
MODULE_FUZZ = $(FUZZ_LINK) -DSEED='"$(abspath $(SEED_SO))"'

$(B)/tests/fuzz/module: tests/fuzz/module.c tests/fuzz/main.c tests/fuzz/fuzz.h $(SEED_SO) \
                        $(B)/internal.a
	@mkdir -p $(@D)
	$(CC) $(MODULE_FUZZ) $< tests/fuzz/main.c -o $@ $(B)/internal.a $(LIBS) -lpthread

$(B)/libfuzzer/module: tests/fuzz/module.c tests/fuzz/fuzz.h $(SEED_SO) $(B)/internal.a
	@mkdir -p $(@D) $@-corpus
	$(CC) $(MODULE_FUZZ) -fsanitize=fuzzer $< -o $@ $(B)/internal.a $(LIBS) -lpthread

# The checker's own, with its objects.
CHECK_FUZZ_DEPS = $(wildcard tests/fuzz/*.h) $(CHECK_OBJ) $(ISA_OBJ)
CHECK_FUZZ_LINK = $(CFLAGS) $(OURS) $(CHECK_INCLUDE) -Itests $(filter-out %/check/main.o,$(CHECK_OBJ)) \
                  $(ISA_OBJ) -lZydis -ljansson -lpthread
$(B)/tests/fuzz/litmus: tests/fuzz/litmus.c tests/fuzz/main.c $(CHECK_FUZZ_DEPS)
	@mkdir -p $(@D)
	$(CC) $< tests/fuzz/main.c -o $@ $(CHECK_FUZZ_LINK)

$(B)/libfuzzer/litmus: tests/fuzz/litmus.c $(CHECK_FUZZ_DEPS)
	@mkdir -p $(@D) $@-corpus
	$(CC) -fsanitize=fuzzer $< -o $@ $(CHECK_FUZZ_LINK)

# With clang's libFuzzer, which has a main() of its own.
$(B)/libfuzzer/%: tests/fuzz/%.c $(FUZZ_DEPS)
	@mkdir -p $(@D) $@-corpus
	$(CC) $(FUZZ_LINK) -fsanitize=fuzzer $< -o $@ $(B)/libsuture.a $(ISA_OBJ) $(LIBS) -lpthread

# Victims are ordinary programs of other people: none of our flags.
VICTIM_CC = -O2 -g -D_GNU_SOURCE -Wall -Wextra

$(B)/tests/victims/%: tests/victims/%.c tests/victims/victim.h Makefile tests/tests.mk
	@mkdir -p $(@D)
	$(CC) $(VICTIM_CC) $< -o $@ $$(sed -n '1s|^// link: ||p' $<) -lpthread

$(B)/tests/victims/sums-nopie $(B)/tests/victims/sums-static: tests/victims/sums.c
$(B)/tests/victims/forms-nopie: tests/victims/forms.c
$(B)/tests/victims/twins: tests/victims/twins/other.c

$(B)/tests/victims/sums-musl: tests/victims/sums.c tests/victims/victim.h tests/tests.mk
	@mkdir -p $(@D)
	musl-gcc $(VICTIM_CC) -static -no-pie $< -o $@

# Against musl's dynamic loader: a libc that is not the one outside.
$(B)/tests/victims/sums-chroot: tests/victims/sums.c tests/victims/victim.h tests/tests.mk
	@mkdir -p $(@D)
	musl-gcc $(VICTIM_CC) -fPIE -pie $< -o $@

$(B)/tests/victims/sums-stripped: $(B)/tests/victims/sums
	strip -s -o $@ $<

# Its text begins inside a page.
$(B)/tests/victims/sums-lld: tests/victims/sums.c tests/victims/victim.h tests/tests.mk
	@mkdir -p $(@D)
	$(CC) $(VICTIM_CC) -fuse-ld=lld $< -o $@ -lpthread

# Other languages.
$(B)/tests/victims/sums-go: tests/victims/sums.go
	@mkdir -p $(@D)
	GOCACHE=$(abspath $(B))/go GO111MODULE=off CGO_ENABLED=0 go build -o $@ $<

$(B)/tests/victims/sums-rust: tests/victims/sums.rs
	@mkdir -p $(@D)
	MAKEFLAGS= rustc -O -g --edition 2021 $< -o $@

# The runtime has the compiler in it, without a command for it.
$(B)/tests/victims/Sums.class: tests/victims/Sums.java
	@mkdir -p $(@D)
	java -m jdk.compiler/com.sun.tools.javac.Main -d $(@D) $<

$(B)/tests/victims/throwing: tests/victims/throwing.cc
	@mkdir -p $(@D)
	g++ -O2 -g -Wall -Wextra -std=c++17 $< -o $@ -lpthread

$(B)/tests/victims/libplugin.so: tests/victims/plugin/sum.c tests/tests.mk
	@mkdir -p $(@D)
	$(CC) $(VICTIM_CC) -shared -fPIC $< -o $@

# A 32-bit program without a 32-bit C library.
$(B)/tests/victims/tiny32: tests/victims/tiny32.s tests/tests.mk
	@mkdir -p $(@D)
	as --32 $< -o $@.o && ld -m elf_i386 $@.o -o $@

# 10,000 functions, in parts so that they compile side by side. -O1: as good for our purpose,
# in a third of the time.
MANY       := $(B)/tests/victims/many.d
MANY_PARTS := 0 1 2 3 4 5 6 7
$(MANY)/part-%.c: tests/victims/gen-many.py
	@mkdir -p $(@D)
	tests/victims/gen-many.py $* $(words $(MANY_PARTS)) > $@.new && mv $@.new $@

$(MANY)/part-%.o: $(MANY)/part-%.c tests/victims/many/many.h
	$(CC) -O1 -foptimize-sibling-calls -fno-reorder-blocks-and-partition -Itests/victims/many -c $< -o $@

$(B)/tests/victims/many: tests/victims/many/main.c $(MANY_PARTS:%=$(MANY)/part-%.o) \
                         tests/victims/many/many.h tests/victims/victim.h
	$(CC) $(VICTIM_CC) -Itests/victims $< $(filter %.o,$^) -o $@ -lpthread

.SECONDARY: $(MANY_PARTS:%=$(MANY)/part-%.c) $(MANY_PARTS:%=$(MANY)/part-%.o)

$(B)/tests/%.so: tests/preload/%.c tests/tests.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -Wall -Wextra -shared -fPIC $< -o $@ -ldl

# Uses the library, which it brings along.
$(B)/tests/probeall.so: tests/preload/probeall.c $(HEADERS) $(B)/libsuture.a tests/tests.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Iinclude -shared -fPIC $< -o $@ \
	      $(B)/libsuture.a $(LIBS) -lpthread -Wl,--exclude-libs,ALL

victims: $(VICTIM) $(PRELOAD)

# One test at a time: `make check T=tests/t/count-redis.t`.
check: deps-check all $(UNIT) $(FUZZ) victims
	@BUILD=$(abspath $(B)) tools/check $(if $(T),$(T),$(UNIT) $(TESTS))

.PHONY: check victims

# Every kill point, longer campaigns.
torture: deps-check all $(UNIT) $(FUZZ) victims
	@SUTURE_TORTURE=1 BUILD=$(abspath $(B)) tools/check $(if $(T),$(T),$(UNIT) $(TESTS))
.PHONY: torture

# Each call of the port that the protocol makes is missed by suture-check.
check-mutants: deps-check $(B)/suture-check
	@tools/check-mutants $(B)
.PHONY: check-mutants

# Each for FUZZ_SECONDS; `make fuzz FUZZERS=text` one of them. The corpus stays in $(B)-fuzz.
FUZZ_SECONDS ?= 30
fuzz: deps-check
	@$(MAKE) CC=clang B=$(B)-fuzz SANITIZE=fuzzer-no-link,address,undefined \
	         CFLAGS='-O1 -g -fno-sanitize-recover=all' $(FUZZERS:%=$(B)-fuzz/libfuzzer/%)
	@cd $(B)-fuzz/libfuzzer && for fuzzer in $(FUZZERS); do \
	        ./$$fuzzer -max_total_time=$(FUZZ_SECONDS) -max_len=1024 -verbosity=0 -print_final_stats=1 \
	                   -artifact_prefix=$$fuzzer- $$fuzzer-corpus || exit 1; \
	done
.PHONY: fuzz

# ELF files and debug files, damaged.
fuzz-module:
	@$(MAKE) --no-print-directory fuzz FUZZERS=module
.PHONY: fuzz-module

# Our own process with sanitizers: programs that change themselves. Not own_alternatives: what
# instrumented functions leave on stacks keeps code from being replaced. No leaks are looked for:
# what a thread may still be in is kept for ever. ThreadSanitizer holds signals back, and threads
# that take traps with them, and can not follow a fork of several threads: it gets what does neither.
THREAD_UNIT := $(patsubst %,$(B)/tests/unit/own_%,calls code registers visible)
OWN_UNIT := $(filter-out %/own_alternatives,$(sort $(filter $(B)/tests/unit/own_%,$(UNIT))))
sanitize: deps-check
	@ASAN_OPTIONS=detect_leaks=0 $(MAKE) --no-print-directory B=$(B)-address \
	                             SANITIZE=address,undefined sanitized
	@$(MAKE) --no-print-directory B=$(B)-thread SANITIZE=thread sanitized
SANITIZED_UNIT := $(if $(filter thread,$(SANITIZE)),$(THREAD_UNIT),$(OWN_UNIT))
sanitized: $(SANITIZED_UNIT) $(B)/tests/plugin.so
	@BUILD=$(abspath $(B)) tools/check $(if $(T),$(T),$(SANITIZED_UNIT))
.PHONY: sanitize sanitized
