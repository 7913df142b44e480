# SPDX-License-Identifier: MIT
bench: deps-bench all victims
	@BUILD=$(abspath $(B)) bench/run
.PHONY: bench
