# SPDX-License-Identifier: MIT
#
# bench/*.c  programs that bench/run measures; like the tests' victims, none of our flags
# bench/code.c  measures by itself: make bench-code
BENCH := $(patsubst %.c,$(B)/%,$(sort $(filter-out bench/code.c,$(wildcard bench/*.c))))

$(B)/bench/%: bench/%.c Makefile bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -Wall -Wextra $< -o $@ -lpthread

# This one measures the library from inside.
$(B)/bench/keys: bench/keys.c $(HEADERS) $(B)/libsuture.a bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -Wall -Wextra -Iinclude $< -o $@ $(B)/libsuture.a $(LIBS) -lpthread

$(B)/bench/code: bench/code.c $(B)/libsuture.a Makefile bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -O2 -g -D_GNU_SOURCE -Wall -Wextra -Iinclude $< -o $@ $(B)/libsuture.a $(LIBS) -lpthread

bench: deps-bench all victims $(BENCH) $(B)/bench/code
	@BUILD=$(abspath $(B)) bench/run $(BENCH_FLAGS)
	@$(if $(BENCH_FLAGS),,$(B)/bench/code)
.PHONY: bench

bench-code: $(B)/bench/code
	@$(B)/bench/code
.PHONY: bench-code
