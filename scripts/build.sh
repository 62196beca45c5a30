#!/bin/bash
# Fills bin/: dataplane, fake-ch, vmlinux, initrd.img.
#
# PROFILE=dev takes the daemon from the build that the tests use, so that a run of all checks compiles it once;
# the default is the release build.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}

scripts/build-initrd.sh
case ${PROFILE:-release} in
release)
	cargo build --release -p dataplane -p dataplane-vmm --bins
	built=$target/release
	;;
dev)
	# With the tests: their features are then the same, and nothing is compiled twice.
	cargo build --workspace --bins --tests
	built=$target/debug
	;;
*)
	echo "build: PROFILE is release or dev, not $PROFILE" >&2
	exit 2
	;;
esac
mkdir -p bin
for program in dataplane fake-ch; do
	# Renamed into place: the old file may be running.
	if ! cmp -s "$built/$program" "bin/$program"; then
		cp "$built/$program" "bin/.$program.new"
		mv "bin/.$program.new" "bin/$program"
	fi
done
