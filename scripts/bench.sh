#!/bin/bash
# Sizes of what is shipped, times of what everything else waits for, and what the daemon costs beside its VMMs.
# Arguments choose the sections of the last part: see benches/lifecycle/main.rs.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

for file in dataplane vmlinux initrd.img; do
	printf 'size %-12s %10d bytes\n' "$file" "$(stat -c %s "bin/$file")"
done

# The kernel alone: from the emulator's start to its end, with an initramfs of the usual modules whose first program
# does nothing but switch off.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${CARGO_TARGET_DIR:-target}/debug/mkinitramfs" --initrd "$work/initrd.img" --init scripts/nested/guest \
	--kernel-package ".cache/kernel/$(cut -d ' ' -f 1 bin/.initrd.stamp)" \
	--file "/bin/busybox=$(realpath "$(command -v busybox)")" >/dev/null
for round in 1 2 3; do
	started=$(date +%s%N)
	timeout 60 qemu-system-x86_64 -accel tcg -machine q35 -cpu max -m 256 -nodefaults -no-user-config -display none \
		-no-reboot -kernel bin/vmlinux -initrd "$work/initrd.img" -append 'quiet panic=-1' </dev/null >/dev/null
	ended=$(date +%s%N)
	printf 'time kernel %d     %10d ms\n' "$round" $(((ended - started) / 1000000))
done
if command -v cloud-hypervisor >/dev/null; then scripts/nested-host --selftest | grep -E '^(guest|emulated)'; fi

# Root, and TAPs in a namespace of its own.
if [ "$(id -u)" = 0 ] && [ -c /dev/net/tun ]; then
	cargo bench --quiet -p dataplane-testkit --bench lifecycle -- "$@"
	if [ $# = 0 ]; then cargo bench --quiet -p dataplane-network --bench network; fi
else
	echo 'lifecycle: skipped, it needs root and /dev/net/tun'
fi
