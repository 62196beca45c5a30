#!/bin/bash
# Sizes of what is shipped, and times of what everything else waits for. Plain numbers, one a line.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

for file in dataplane vmlinux initrd.img; do
	printf 'size %-12s %10d bytes\n' "$file" "$(stat -c %s "bin/$file")"
done

# Kernel and initramfs on the emulator, three times: until the first program in the guest has ended. There are no
# disks, so the guest's init gives up at once, and that is the end of what is timed.
for round in 1 2 3; do
	started=$(date +%s%N)
	timeout 60 qemu-system-x86_64 -accel tcg -machine q35 -cpu max -m 256 -nodefaults -no-user-config -display none \
		-no-reboot -kernel bin/vmlinux -initrd bin/initrd.img -append 'quiet panic=-1' </dev/null >/dev/null
	ended=$(date +%s%N)
	printf 'time boot %d       %10d ms\n' "$round" $(((ended - started) / 1000000))
done
if command -v cloud-hypervisor >/dev/null; then scripts/nested-host --selftest | grep -E '^(guest|emulated)'; fi
