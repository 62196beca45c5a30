#!/bin/bash
# Rebuilds and restarts the daemon on every change of the sources. Virtual machines keep running: the daemon leaves
# them alone when it stops and takes them up again when it starts. A change that does not compile changes nothing.
#
# Arguments go to the daemon; its variables are taken from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
export PROFILE=dev
scripts/install-tools.sh packages

target=${CARGO_TARGET_DIR:-target}
daemon=''
watch=''

stop() {
	[ -n "$daemon" ] || return 0
	kill "$daemon" 2>/dev/null || true
	wait "$daemon" 2>/dev/null || true
	daemon=''
}

# shellcheck disable=SC2317 # called by the traps below
finish() {
	trap - EXIT INT TERM
	[ -z "$watch" ] || kill "$watch" 2>/dev/null || true
	stop
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

build() {
	# Stubs follow the contract; everything else follows the stubs.
	if [ openapi.yaml -nt lib/api/src/generated ]; then
		cargo run --quiet -p dataplane-codegen || return 1
		touch lib/api/src/generated
	fi
	scripts/build-initrd.sh && cargo build --quiet -p dataplane
}

if build; then
	"$target/debug/dataplane" serve "$@" &
	daemon=$!
fi
while true; do
	# The watch starts before the build, so that nothing that changes meanwhile is missed: it waits for the next change.
	inotifywait -qq -r -e close_write,create,delete,move --exclude '/(target|\.git)/' \
		src lib initrd openapi.yaml Cargo.toml &
	watch=$!
	wait "$watch" || true
	watch=''
	echo 'dev: something changed, building'
	if build; then
		stop
		"$target/debug/dataplane" serve "$@" &
		daemon=$!
	else
		echo 'dev: does not build; the daemon from before goes on'
	fi
done
