# SPDX-License-Identifier: MIT
#
# bench/*.c  programs that bench/run measures; like the tests' victims, none of our flags
BENCH := $(patsubst %.c,$(B)/%,$(sort $(wildcard bench/*.c)))

$(B)/bench/%: bench/%.c Makefile bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -Wall -Wextra $< -o $@ -lpthread

# This one measures the library from inside.
$(B)/bench/keys: bench/keys.c $(HEADERS) $(B)/libsuture.a bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -Wall -Wextra -Iinclude $< -o $@ $(B)/libsuture.a $(LIBS) -lpthread

bench: deps-bench all victims $(BENCH)
	@BUILD=$(abspath $(B)) bench/run $(BENCH_FLAGS)
.PHONY: bench
