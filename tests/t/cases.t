#!/bin/sh
# SPDX-License-Identifier: MIT
# The pictures and timelines of docs/cases.md are what suture-check says today.
if out=$(tools/draw-cases "$BUILD" --check 2>&1); then echo "ok 1 - pictures and timelines are up to date"
else echo "not ok 1 - pictures and timelines: make docs"; echo "$out" | sed "s/^/# /"; fi
echo 1..1
