#!/bin/bash
# The long runs of what `make test` does briefly: the daemon killed, and the power cut, again and again.
#
#   scripts/soak.sh [kills|cuts|real-cuts ...]      default: all
#
# SOAK_KILLS (1000) and SOAK_SECONDS (3600) bound the first, POWER_CUTS (50) the second, POWER_REAL_CUTS (10) the third,
# which is with real guests on Cloud Hypervisor. SOAK_SEED and POWER_SEED repeat the choices of an earlier run, which
# prints them. Needs root; cuts need qemu-system-x86_64 besides, real ones a cloud-hypervisor on PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "soak: needs root" >&2 && exit 1; }
scripts/install-tools.sh packages test
PROFILE=dev scripts/build.sh

# Suite and test. Without the runner of the tests, whose time limits are for short ones.
soak() {
	local binary
	binary=$(cargo test -p dataplane --test "$1" --no-run --message-format json | jq -r 'select(.executable and .target.name == "'"$1"'").executable')
	"$binary" "$2" --ignored --nocapture
}

[ $# -gt 0 ] || set -- kills cuts real-cuts
for run in "$@"; do
	case $run in
	kills) SOAK_KILLS=${SOAK_KILLS:-1000} SOAK_SECONDS=${SOAK_SECONDS:-3600} soak soak what_was_answered ;;
	cuts) POWER_CUTS=${POWER_CUTS:-50} soak power what_was_answered ;;
	real-cuts) POWER_REAL_CUTS=${POWER_REAL_CUTS:-10} soak power real_guests ;;
	*) echo "soak: unknown run $run" >&2 && exit 1 ;;
	esac
done
