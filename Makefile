# SPDX-License-Identifier: MIT
#
#   make            build/suture, build/suture-check, build/libsuture.a, build/libsuture.so
#   make run        count three functions of a live redis-server (installs what is missing)
#   make check      all tests (installs what is missing)
#   make bench      figures beside those of peers, taken in the same run
#   make torture    long campaigns
#   make fuzz       libFuzzer on the instruction layer and on transactions, FUZZ_SECONDS each
#   make fuzz-module   libFuzzer on the reader of ELF files and their debug files
#   make sanitize   the tests of one's own process, built with address, undefined, thread
#   make bare       libsuture-bare.a for kernels; make check-bare: example kernels under QEMU
#   make check-mutants   each port call of the protocol left out: suture-check must miss it
#   make install    to $(DESTDIR)$(PREFIX)
#
# CC=clang, WERROR=1 and SANITIZE=address,undefined do what they say; build trees other than the
# default are chosen with B=directory.

CROSS    ?=
B        ?= build$(if $(CROSS),-$(CROSS))
PREFIX   ?= /usr/local
DESTDIR  ?=
VERSION  := 0.1.0

ifeq ($(origin CC),default)
CC       := $(if $(CROSS),$(CROSS)-gcc,gcc)
endif
AR       := $(if $(CROSS),$(CROSS)-)ar
LD       := $(if $(CROSS),$(CROSS)-)ld
OBJCOPY  := $(if $(CROSS),$(CROSS)-)objcopy
CFLAGS   ?= -O2 -g
SANITIZED := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer)
OURS     := -std=gnu11 -Wall -Wextra -Wmissing-prototypes -Wvla -fvisibility=hidden -fPIC \
            -D_GNU_SOURCE -DSUTURE_VERSION='"$(VERSION)"' -MMD -MP \
            $(if $(WERROR),-Werror) $(SANITIZED)
ifneq ($(filter thread,$(SANITIZE)),)
OURS     += -Dpthread_mutex_clocklock=clocklock
THREAD_SANITIZED := tests/clocklock.c
endif
# Each layer sees only the headers that it may include; tools/lint-layers checks the rest.
INCLUDE  := -Iinclude -Isrc -Isrc/port/ptrace
LIBS     := -ldw -lelf -lZydis
CLI_LIBS := -ljansson -lncurses -ltinfo

# The library has two ports in it, and the protocol once for each: another process, our own.
PROTOCOL_SRC := $(sort $(wildcard src/sync/*.c src/patch/*.c))
COMMON_SRC   := $(sort $(wildcard src/isa/*.c src/module/*.c src/tramp/*.c))
REMOTE_SRC   := $(PROTOCOL_SRC) $(sort $(wildcard src/port/ptrace/*.c src/api/*.c))
OWN_SRC      := $(PROTOCOL_SRC) $(sort $(wildcard src/port/linux/*.c src/api/own/*.c))
CLI_SRC      := $(sort $(wildcard src/cli/*.c))

COMMON_OBJ := $(COMMON_SRC:%.c=$(B)/%.o)
REMOTE_OBJ := $(REMOTE_SRC:%.c=$(B)/%.o)
OWN_OBJ    := $(OWN_SRC:%.c=$(B)/own/%.o)
LIB_OBJ    := $(COMMON_OBJ) $(REMOTE_OBJ)
CLI_OBJ  := $(CLI_SRC:%.c=$(B)/%.o)
HEADERS  := $(wildcard include/suture/*.h)

# suture-check: the protocol's sources as they are, compiled for the simulated machine.
CHECK_SRC    := $(sort $(wildcard src/port/model/*.c check/*.c check/scenarios/*.c check/litmus/*.c))
CHECK_OBJ    := $(PROTOCOL_SRC:%.c=$(B)/model/%.o) $(CHECK_SRC:%.c=$(B)/model/%.o) \
                $(B)/model/sources.o
ISA_OBJ       := $(patsubst %.c,$(B)/%.o,$(wildcard src/isa/*.c))
CHECK_INCLUDE := -Iinclude -Isrc -Isrc/port/model -I.

all: $(B)/suture $(B)/suture-check $(B)/libsuture.a $(B)/libsuture.so

-include $(LIB_OBJ:.o=.d) $(OWN_OBJ:.o=.d) $(CLI_OBJ:.o=.d) $(CHECK_OBJ:.o=.d)

$(B)/%.o: %.c Makefile | deps-build
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) $(INCLUDE) -c $< -o $@

# In our own process the protocol and the trap path must not be patched, nor call what may be: they
# are in a section of their own, call libc for nothing, and the compiler shall not do so either.
NOINSTR_OBJ   := $(PROTOCOL_SRC:%.c=$(B)/own/%.o) \
                 $(patsubst %,$(B)/own/src/port/linux/%.o,memory cores trap map park tasks stacks) \
                 $(B)/own/src/api/own/gate.o
NOINSTR_FLAGS := -fno-stack-protector -fcf-protection=none -fno-sanitize=all \
                 $(if $(findstring clang,$(CC)),-fno-builtin,-fno-tree-loop-distribute-patterns)

# What runs between a trampoline and a handler keeps vector registers by not touching them.
$(B)/own/src/api/own/gate.o: NOINSTR_FLAGS += -mgeneral-regs-only

$(B)/own/%.o: %.c Makefile | deps-build
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) -Iinclude -Isrc -Isrc/port/linux \
	      $(if $(filter $@,$(NOINSTR_OBJ)),$(NOINSTR_FLAGS)) -c $< -o $@
	$(if $(filter $@,$(NOINSTR_OBJ)),$(OBJCOPY) --rename-section .text=suture_noinstr \
	      --rename-section .text.unlikely=suture_noinstr $@)

# One object for each port, whose names do not meet.
$(B)/remote.o: $(REMOTE_OBJ)
$(B)/own.o: $(OWN_OBJ)
$(B)/remote.o $(B)/own.o:
	$(LD) -r -o $@ $^
	$(OBJCOPY) -w --keep-global-symbol='suture_*' $@

# What a program links statically shows only the public names, as the shared library does.
$(B)/libsuture.a: $(B)/remote.o $(B)/own.o $(COMMON_OBJ)
	$(LD) -r -o $(B)/libsuture.o $^
	$(OBJCOPY) --localize-hidden $(B)/libsuture.o
	rm -f $@ && $(AR) rcs $@ $(B)/libsuture.o

# All names, for the unit tests.
$(B)/internal.a: $(LIB_OBJ)
	rm -f $@ && $(AR) rcs $@ $^

$(B)/libsuture.so: $(B)/remote.o $(B)/own.o $(COMMON_OBJ) libsuture.map
	$(CC) $(CFLAGS) $(OURS) -shared -Wl,-soname,libsuture.so.0 -Wl,--version-script=libsuture.map \
	      -Wl,-z,defs,-z,now,-z,relro,-z,nodelete -o $@ $(filter %.o,$^) $(LIBS)

$(B)/suture: $(CLI_OBJ) $(B)/libsuture.a
	$(CC) $(CFLAGS) $(OURS) -o $@ $^ $(LIBS) $(CLI_LIBS)

$(B)/model/%.o: %.c Makefile | deps-build
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) $(CHECK_INCLUDE) -c $< -o $@

# What the report names as checked is what the link is made of.
$(B)/model/sources.c: $(PROTOCOL_SRC) Makefile
	@mkdir -p $(@D)
	@{ echo '#include "check/check.h"'; echo 'const char *const check_sources[] = {'; \
	   printf '"%s",\n' $(PROTOCOL_SRC); echo '0};'; } > $@

$(B)/model/sources.o: $(B)/model/sources.c
	$(CC) $(CFLAGS) $(OURS) $(CHECK_INCLUDE) -c $< -o $@

$(B)/suture-check: $(CHECK_OBJ) $(ISA_OBJ)
	$(CC) $(CFLAGS) $(OURS) -o $@ $^ -lZydis -ljansson -lpthread

# --- packages -------------------------------------------------------------------------------
# `deps-NAME` installs the packages of that group if one is missing; see tools/deps.
deps-build deps-run deps-check deps-bench deps-bare: deps-%:
	@tools/deps $*
.PHONY: deps-build deps-run deps-check deps-bench deps-bare

include tests/tests.mk
include bench/bench.mk
include src/port/bare/bare.mk

run: deps-run all
	@tools/demo $(B)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/pkgconfig \
	           $(DESTDIR)$(PREFIX)/include/suture $(DESTDIR)$(PREFIX)/share/man/man1 \
	           $(DESTDIR)$(PREFIX)/share/man/man3 \
	           $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	           $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	           $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 $(B)/suture $(B)/suture-check $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/libsuture.a $(DESTDIR)$(PREFIX)/lib/
	install -m 755 $(B)/libsuture.so $(DESTDIR)$(PREFIX)/lib/libsuture.so.0
	ln -sf libsuture.so.0 $(DESTDIR)$(PREFIX)/lib/libsuture.so
	install -m 644 $(HEADERS) $(DESTDIR)$(PREFIX)/include/suture/
	install -m 644 man/suture.1 man/suture-check.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 644 man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3/
	@# a page for each call: those that share one are led to it
	@for page in man/*.3; do \
	  for name in $$(sed -n '/^\.SH NAME/{n;s/\\-.*//;s/,/ /g;p}' $$page); do \
	    [ -e man/$$name.3 ] || echo ".so man3/$${page##*/}" \
	      > $(DESTDIR)$(PREFIX)/share/man/man3/$$name.3; \
	  done; done
	@# bash looks for a file of the command's name, and one file completes both
	install -m 644 completions/suture.bash \
	        $(DESTDIR)$(PREFIX)/share/bash-completion/completions/suture
	ln -sf suture $(DESTDIR)$(PREFIX)/share/bash-completion/completions/suture-check
	install -m 644 completions/_suture completions/_suture-check \
	        $(DESTDIR)$(PREFIX)/share/zsh/site-functions/
	install -m 644 completions/suture.fish completions/suture-check.fish \
	        $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/
	sed 's|@PREFIX@|$(PREFIX)|; s|@VERSION@|$(VERSION)|' suture.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/suture.pc

docs: $(B)/suture-check
	@tools/draw-cases $(B)

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build build-*

.PHONY: all run install docs format clean
.DEFAULT_GOAL := all
