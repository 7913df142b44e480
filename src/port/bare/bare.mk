# SPDX-License-Identifier: MIT
#
#   make bare        libsuture-bare.a of each family, in $(B)-bare-FAMILY
#   make check-bare  both compilers, the example kernels under QEMU
#
# BARE_CC=clang builds with clang. A family is a folder of src/port/bare, one of examples/bare and
# four lines here.

BARE_CC      ?= gcc
BARE_FAMILIES := a64
BARE_TRIPLET_a64 := aarch64-linux-gnu
BARE_FLAGS_a64   := -mgeneral-regs-only -mno-outline-atomics -mstrict-align
BARE_ISA_a64     := src/isa/a64_isa.c

BARE_SRC   := $(PROTOCOL_SRC) $(sort $(wildcard src/port/bare/*.c src/api/bare/*.c))
BARE_FLAGS := -std=gnu11 -Wall -Wextra -Wmissing-prototypes -Wvla $(if $(WERROR),-Werror) -O2 -g \
              -ffreestanding -nostdinc -fno-pic -fno-stack-protector -fno-common -fno-strict-aliasing \
              -fno-asynchronous-unwind-tables -MMD -MP \
              $(if $(findstring clang,$(BARE_CC)),-fno-builtin,-fno-tree-loop-distribute-patterns)

# $(1): family. The compiler's own headers are all there is; sections are named after the library,
# for the linker script that keeps them from being patched; no name is seen but the public ones.
define BARE_FAMILY
BARE_DIR_$(1) := $(B)-bare-$(1)
BARE_OBJ_$(1) := $$(patsubst %.c,$$(BARE_DIR_$(1))/%.o,$$(BARE_SRC) $$(BARE_ISA_$(1)) \
                 $$(sort $$(wildcard src/port/bare/$(1)/*.c)))
BARE_BIN_$(1) := $$(BARE_TRIPLET_$(1))-
BARE_CMD_$(1) := $$(if $$(findstring clang,$$(BARE_CC)),$$(BARE_CC) \
                 --target=$$(BARE_TRIPLET_$(1)),$$(BARE_BIN_$(1))gcc)

-include $$(BARE_OBJ_$(1):.o=.d)

$$(BARE_DIR_$(1))/src/%.o: src/%.c src/port/bare/bare.mk | deps-bare
	@mkdir -p $$(@D)
	$$(BARE_CMD_$(1)) $$(BARE_FLAGS) $$(BARE_FLAGS_$(1)) \
	    -isystem $$$$($$(BARE_CMD_$(1)) -print-file-name=include) -Iinclude -Isrc \
	    -Isrc/port/bare -Isrc/port/bare/$(1) -c $$< -o $$@

$$(BARE_DIR_$(1))/libsuture-bare.a: $$(BARE_OBJ_$(1))
	$$(BARE_BIN_$(1))ld -r -o $$(@D)/suture-bare.o $$^
	$$(BARE_BIN_$(1))objcopy -w --keep-global-symbol='suture_*' \
	    --rename-section .text=.suture_text --rename-section .text.unlikely=.suture_text \
	    --rename-section suture_noinstr=.suture_text $$(@D)/suture-bare.o
	rm -f $$@ && $$(BARE_BIN_$(1))ar rcs $$@ $$(@D)/suture-bare.o

# The example kernel knows the public header only.
BARE_KERNEL_$(1) := $$(sort $$(wildcard examples/bare/$(1)/*.c examples/bare/$(1)/*.S))
$$(BARE_DIR_$(1))/kernel.elf: $$(BARE_KERNEL_$(1)) $$(wildcard examples/bare/$(1)/*.h) \
                              examples/bare/$(1)/kernel.ld $$(BARE_DIR_$(1))/libsuture-bare.a
	$$(BARE_CMD_$(1)) $$(filter-out -MMD -MP,$$(BARE_FLAGS)) $$(BARE_FLAGS_$(1)) \
	    -isystem $$$$($$(BARE_CMD_$(1)) -print-file-name=include) -Iinclude \
	    -nostdlib -static -Wl,-z,noexecstack -Wl,--build-id=none -Wl,--no-warn-rwx-segments \
	    $$(if $$(findstring clang,$$(BARE_CC)),--ld-path=$$$$(command -v $$(BARE_BIN_$(1))ld)) \
	    -Wl,-T,examples/bare/$(1)/kernel.ld -o $$@ $$(BARE_KERNEL_$(1)) \
	    $$(BARE_DIR_$(1))/libsuture-bare.a

bare: $$(BARE_DIR_$(1))/libsuture-bare.a
bare-kernels: $$(BARE_DIR_$(1))/kernel.elf
endef
$(foreach family,$(BARE_FAMILIES),$(eval $(call BARE_FAMILY,$(family))))

check-bare: deps-bare
	@BUILD=$(abspath $(B)) tools/check tests/t/bare.t

.PHONY: bare bare-kernels check-bare
