#!/bin/bash
# Rebuilds and restarts the daemon on every change of the sources. Virtual machines keep running: the daemon leaves
# them alone when it stops and takes them up again when it starts. A change that does not compile changes nothing.
#
# Arguments go to the daemon; its variables are taken from the environment.
set -euo pipefail
cd "$(dirname "$0")/.."
export KERNEL_PATH="${KERNEL_PATH:-$PWD/bin/vmlinux}" INITRD_PATH="${INITRD_PATH:-$PWD/bin/initrd.img}"
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

start() {
	"$target/debug/dataplane" serve "$@" &
	daemon=$!
}

# One watch for the whole time: what changes during a build is the next event.
exec 9< <(exec inotifywait -qmr -e close_write,create,delete,move --format %w%f --exclude '/(target|\.git)/' \
	src lib initrd openapi.yaml Cargo.toml)
watch=$!

if build; then start "$@"; fi
while read -r file <&9; do
	# An editor's save, or a checkout, is a burst of events.
	while read -rt 0.3 _ <&9; do :; done
	echo "dev: $file changed, building"
	if build; then
		stop
		start "$@"
	else
		echo 'dev: does not build; the daemon from before goes on'
	fi
done
