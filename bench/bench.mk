# SPDX-License-Identifier: MIT
#
# bench/*.c        programs that bench/run measures; like the tests' victims, none of our flags
# bench/code.c     measures by itself: make bench-code
# bench/peers/*.c  what others do instead; one that can not be built is left out
BENCH     := $(patsubst %.c,$(B)/%,$(sort $(filter-out bench/code.c,$(wildcard bench/*.c))))
# With the library, as a program of somebody else's links it.
BENCH_OWN := $(addprefix $(B)/bench/,own install keys code)
PEERS     := $(addprefix $(B)/bench/peers/,xray lttng uftrace)
BENCH_CC   = -O2 -g -D_GNU_SOURCE -Wall -Wextra -Iinclude -Itests/victims

$(B)/bench/%: bench/%.c Makefile bench/bench.mk
	@mkdir -p $(@D)
	$(CC) $(BENCH_CC) $< -o $@ -lpthread

$(BENCH_OWN): $(B)/bench/%: bench/%.c $(wildcard bench/*.h) $(HEADERS) $(B)/libsuture.a Makefile \
              bench/bench.mk
	@mkdir -p $(@D)
	$(CC) $(BENCH_CC) $(filter %.c %.o,$^) -o $@ $(B)/libsuture.a $(LIBS) -lpthread

$(B)/bench/install: $(MANY_PARTS:%=$(MANY)/part-%.o)

# The functions of tests/victims/many once more, each with a sled at its entry.
XRAY       := -fxray-instrument -fxray-instruction-threshold=1
XRAY_ENTRY := $(XRAY) -fxray-instrumentation-bundle=function-entry
XRAY_PARTS := $(MANY_PARTS:%=$(B)/bench/peers/many-%.o)
$(XRAY_PARTS): $(B)/bench/peers/many-%.o: $(MANY)/part-%.c tests/victims/many/many.h bench/bench.mk
	@mkdir -p $(@D)
	-clang -O1 $(XRAY_ENTRY) -w -Itests/victims/many -c $< -o $@

$(PEERS): bench/measure.h bench/bench.mk
$(B)/bench/peers/xray: bench/peers/xray.c bench/peers/xray_both.c bench/crowd.h $(XRAY_PARTS)
	@mkdir -p $(@D)
	-clang $(BENCH_CC) $(XRAY_ENTRY) -c $< -o $@.o && \
	 clang $(BENCH_CC) $(XRAY) bench/peers/xray_both.c $@.o $(XRAY_PARTS) -o $@ -lpthread

$(B)/bench/peers/lttng: bench/peers/lttng.c bench/peers/lttng_events.h
	@mkdir -p $(@D)
	-$(CC) $(BENCH_CC) -Ibench/peers $< -o $@ -llttng-ust -ldl

# -pg for what is compiled only: linked with it, the program would profile itself.
$(B)/bench/peers/uftrace: bench/peers/uftrace.c
	@mkdir -p $(@D)
	-$(CC) $(BENCH_CC) -pg -c $< -o $@.o && $(CC) $@.o -o $@

bench: deps-bench all victims $(BENCH) $(B)/bench/code $(PEERS)
	@BUILD=$(abspath $(B)) bench/run $(BENCH_FLAGS)
	@$(if $(BENCH_FLAGS),,$(B)/bench/code)
.PHONY: bench

bench-code: $(B)/bench/code
	@$(B)/bench/code
.PHONY: bench-code
