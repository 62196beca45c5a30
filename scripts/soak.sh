#!/bin/bash
# The long runs of what `make test` does briefly: the daemon killed, and the power cut, again and again.
#
#   scripts/soak.sh [kills|cuts ...]      default: kills cuts
#
# SOAK_KILLS (1000) and SOAK_SECONDS (3600) bound the first, POWER_CUTS (50) the second. SOAK_SEED and POWER_SEED repeat
# the choices of an earlier run, which it prints. Needs root; cuts need qemu-system-x86_64 besides.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "soak: needs root" >&2 && exit 1; }
scripts/install-tools.sh packages test
PROFILE=dev scripts/build.sh

# Without the runner of the tests, whose time limits are for short ones.
soak() {
	local binary
	binary=$(cargo test -p dataplane --test "$1" --no-run --message-format json | jq -r 'select(.executable and .target.name == "'"$1"'").executable')
	"$binary" what_was_answered --ignored --nocapture
}

[ $# -gt 0 ] || set -- kills cuts
for run in "$@"; do
	case $run in
	kills) SOAK_KILLS=${SOAK_KILLS:-1000} SOAK_SECONDS=${SOAK_SECONDS:-3600} soak soak ;;
	cuts) POWER_CUTS=${POWER_CUTS:-50} soak power ;;
	*) echo "soak: unknown run $run" >&2 && exit 1 ;;
	esac
done
