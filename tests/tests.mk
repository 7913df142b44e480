# SPDX-License-Identifier: MIT
#
# tests/unit/*.c     one TAP program per subject, linked with libsuture.a
# tests/victims/*.c  programs that the tests work on; a first line `// link: FLAGS` adds flags
# tests/t/*.t        black-box tests of the built command (any language with a #! line)

UNIT_SRC   := $(sort $(wildcard tests/unit/*.c))
UNIT       := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)
VICTIM_SRC := $(sort $(wildcard tests/victims/*.c))
VICTIM     := $(VICTIM_SRC:tests/victims/%.c=$(B)/tests/victims/%)
TESTS      := $(sort $(wildcard tests/t/*.t))

$(B)/tests/unit/%: tests/unit/%.c tests/tap.h $(B)/libsuture.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) $(INCLUDE) -Itests $< -o $@ $(B)/libsuture.a $(LIBS) -lpthread

# Victims are ordinary programs of other people: none of our flags.
$(B)/tests/victims/%: tests/victims/%.c Makefile tests/tests.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -Wall -Wextra $< -o $@ $$(sed -n '1s|^// link: ||p' $<) -lpthread

victims: $(VICTIM)

# One test at a time: `make check T=tests/t/count-redis.t`.
check: deps-check all $(UNIT) victims
	@BUILD=$(abspath $(B)) tools/check $(if $(T),$(T),$(UNIT) $(TESTS))

.PHONY: check victims
