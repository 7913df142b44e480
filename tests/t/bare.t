#!/bin/bash
# SPDX-License-Identifier: MIT
# libsuture-bare: it needs nothing but the documented functions, with both compilers, and the example
# kernel's own tests pass under QEMU, with either.
set -u
export LC_ALL=C
cd "$(dirname "$0")/../.." || exit 1
tree=${BUILD:-$PWD/build}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
count=0

report() { # STATUS NAME: comments from stdin if it is not ok
	count=$((count + 1))
	if [ "$1" = 0 ]; then
		echo "ok $count - $2"
		cat >/dev/null
	else
		echo "not ok $count - $2"
		sed 's/^/#   /'
	fi
}

# The functions that the header declares before "start".
sed '/---- start ----/q' include/suture/bare.h | grep -o 'suture_machine_[a-z_]*(' | tr -d '(' |
	sort -u >"$scratch/hooks"
# What port.h declares.
grep -o 'port_[a-z_]*(' src/port/port.h | tr -d '(' | sort -u >"$scratch/port"
printf '%s\n' memcpy memmove memset memcmp >>"$scratch/port"
sort -o "$scratch/port" "$scratch/port"

check_symbols() { # NM FILE ALLOWED NAME
	"$1" -u "$2" | sed -n 's/^ *U //p' | sort -u | comm -23 - "$3" >"$scratch/left"
	[ ! -s "$scratch/left" ]
	report $? "$4" <"$scratch/left"
}

# The protocol for x86-64: no libc, no port of its own, both compilers.
for cc in gcc clang; do
	for file in src/sync/*.c src/patch/*.c; do
		$cc -std=gnu11 -O2 -ffreestanding -fno-stack-protector -fcf-protection=none -mno-sse \
			-mgeneral-regs-only -Isrc -Isrc/port/ptrace -c "$file" \
			-o "$scratch/$(basename "${file%/*}")-$(basename "$file").o" || exit 1
	done
	ld -r -o "$scratch/protocol.o" "$scratch"/*.c.o
	check_symbols nm "$scratch/protocol.o" "$scratch/port" \
		"x86-64, $cc: the protocol asks for functions of port.h only"
	echo "# x86-64, $cc: $(size "$scratch/protocol.o" | awk 'NR == 2 {print $1}') bytes of text"
done

for cc in gcc clang; do
	family=a64
	build=$tree-bare-$cc
	make -s --no-print-directory BARE_CC=$cc WERROR=1 B="$build" bare-kernels \
		>"$scratch/make" 2>&1
	report $? "$family, $cc: builds without a warning" <"$scratch/make"
	built=$build-bare-$family
	check_symbols aarch64-linux-gnu-nm "$built/libsuture-bare.a" "$scratch/hooks" \
		"$family, $cc: the library asks for the documented functions only"
	aarch64-linux-gnu-size -A "$built/libsuture-bare.a" >"$scratch/size"
	! grep -qE '^\.(text|data)[^ ]* +[1-9]' "$scratch/size"
	report $? "$family, $cc: its code is in .suture_text, and it has no data" <"$scratch/size"
	awk -v cc=$cc '$1 == ".suture_text" {text += $2} $1 ~ /^\.rodata/ {constants += $2}
		$1 == ".bss" {state += $2}
		END {print "# a64, " cc ": " text " bytes of text, " constants " of constants, " \
			state " of state"}' "$scratch/size"
	# Several threads of QEMU's translator can keep old code for good; one can not.
	timeout -k 1 60 qemu-system-aarch64 -M virt -cpu cortex-a57 -smp 4 -m 64 \
		-accel tcg,thread=single -nographic -nic none -no-reboot -semihosting \
		-kernel "$built/kernel.elf" </dev/null >"$scratch/run" 2>&1
	status=$?
	while IFS= read -r line; do
		case $line in
		"ok "* | "not ok "*)
			count=$((count + 1))
			echo "${line%%ok *}ok $count - $family, $cc: ${line#*ok * - }" ;;
		"# "*) echo "$line" ;;
		esac
	done < <(tr -d '\r' <"$scratch/run")
	[ $status = 0 ] && grep -qE '^1\.\.[0-9]+' "$scratch/run" &&
		[ "$(grep -cE '^(not )?ok ' "$scratch/run")" = \
			"$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$scratch/run")" ]
	report $? "$family, $cc: the kernel ran to its end, status $status" \
		< <(tail -5 "$scratch/run")
done
echo "1..$count"
