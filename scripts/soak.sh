#!/bin/bash
# The long runs of what `make test` does briefly: the daemon killed, and the power cut, again and again.
#
#   scripts/soak.sh [kills|cuts|real-cuts|rounds|guests ...]      default: all
#
# SOAK_KILLS (1000) and SOAK_SECONDS (3600) bound the first, POWER_CUTS (50) the second, POWER_REAL_CUTS (10) the third,
# which is with real guests on Cloud Hypervisor. The next puts real guests into standby and back STANDBY_ROUNDS (20)
# times; the last runs DATAPLANE_TEST_EXECS (10,000) programs in one, sends DATAPLANE_TEST_STREAM_MIB (1,024) through a
# program and a file of DATAPLANE_TEST_FILE_MIB (5,120; 512 where the host is emulated) in and out, and follows a log
# over DATAPLANE_TEST_LOG_ROUNDS (10) restarts: both on QEMU and, in an emulated host, on Cloud Hypervisor. SOAK_SEED and POWER_SEED repeat the choices of an earlier
# run, which prints them. Needs root; cuts need qemu-system-x86_64 besides, real ones a cloud-hypervisor on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "soak: needs root" >&2 && exit 1; }
scripts/install-tools.sh packages test
PROFILE=dev scripts/build.sh

# The program of a suite: package and name.
suite() {
	cargo test -p "$1" --test "$2" --no-run --message-format json | jq -r 'select(.executable and .target.name == "'"$2"'").executable'
}

# Suite and test. Without the runner of the tests, whose time limits are for short ones.
soak() {
	local binary
	binary=$(suite dataplane "$1")
	"$binary" "$2" --ignored --nocapture
}

# Some tests of a suite on QEMU, then on Cloud Hypervisor in an emulated host: binary, variables to take along, tests.
on_both() {
	local binary=$1 variables=$2 variable inside=()
	shift 2
	HYPERVISOR=qemu DATAPLANE_TEST_VMM=qemu "$binary" "$@" --test-threads=1 --nocapture
	command -v cloud-hypervisor >/dev/null || return 0
	for variable in $variables; do inside+=(--env "$variable"); done
	scripts/nested-host --timeout 7200 --memory 4000 --env HYPERVISOR=cloud-hypervisor \
		--env DATAPLANE_TEST_VMM=cloud-hypervisor "${inside[@]}" --share "${CARGO_TARGET_DIR:-target}/debug/dataplane" \
		--share "$(command -v busybox)" --share "$(command -v mke2fs)" -- "$binary" "$@" --test-threads=1 --nocapture
}

# Real guests, busy with their memory and a disk, in both classes; and snapshots that are loaded before they are used.
rounds() {
	local package name filter
	export STANDBY_ROUNDS=${STANDBY_ROUNDS:-20}
	while read -r package name filter; do
		on_both "$(suite "$package" "$name")" 'STANDBY_ROUNDS STANDBY_DIRTY_MIB' "$filter"
	done <<-END
		dataplane vm goes_on_where_it_stopped
		dataplane-vmm conformance a_restore_alone_spends_nothing
	END
}

# Real guests that people work in.
guests() {
	export DATAPLANE_TEST_EXECS=${DATAPLANE_TEST_EXECS:-10000} DATAPLANE_TEST_STREAM_MIB=${DATAPLANE_TEST_STREAM_MIB:-1024}
	export DATAPLANE_TEST_FILE_MIB=${DATAPLANE_TEST_FILE_MIB:-5120} DATAPLANE_TEST_LOG_ROUNDS=${DATAPLANE_TEST_LOG_ROUNDS:-10}
	on_both "$(suite dataplane vm)" \
		'DATAPLANE_TEST_EXECS DATAPLANE_TEST_STREAM_MIB DATAPLANE_TEST_FILE_MIB=512 DATAPLANE_TEST_LOG_ROUNDS' \
		many_short_programs bytes_go_through a_large_file a_follower_sees
}

[ $# -gt 0 ] || set -- kills cuts real-cuts rounds guests
for run in "$@"; do
	case $run in
	kills) SOAK_KILLS=${SOAK_KILLS:-1000} SOAK_SECONDS=${SOAK_SECONDS:-3600} soak soak what_was_answered ;;
	cuts) POWER_CUTS=${POWER_CUTS:-50} soak power what_was_answered ;;
	rounds) rounds ;;
	guests) guests ;;
	real-cuts) POWER_REAL_CUTS=${POWER_REAL_CUTS:-10} soak power real_guests ;;
	*) echo "soak: unknown run $run" >&2 && exit 1 ;;
	esac
done
