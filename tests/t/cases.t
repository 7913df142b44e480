#!/bin/sh
# SPDX-License-Identifier: MIT
# The pictures and timelines of docs/cases.md are what suture-check says today.
exec tools/draw-cases "$BUILD" --check
