#!/bin/sh
# SPDX-License-Identifier: MIT
# Each synchronise, cache, wait or mask call that the protocol makes is needed: without it some
# scenario is refuted.
exec tools/check-mutants "$BUILD"
