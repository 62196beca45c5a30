#!/bin/bash
# Runs every fuzz target, or those that are named, for FUZZ_SECONDS each (30), and prints how many inputs each was given.
#
#   scripts/fuzz.sh [TARGET ...]
#
# Needs no nightly compiler: coverage is the compiler's own pass, and the code under test has no unsafe block for a
# memory sanitizer to watch. What is found lies in target/fuzz/artifacts, what was learnt in target/fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${FUZZ_SECONDS:-30}
out=${CARGO_TARGET_DIR:-target}/fuzz
triple=x86_64-unknown-linux-gnu
command -v g++ >/dev/null || {
	echo 'fuzz: g++ is missing: it compiles the fuzzer (on Debian: apt-get install g++)' >&2
	exit 1
}

coverage='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-pc-table'
coverage+=' -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-trace-compares'
# An explicit target keeps the flags away from build scripts and macros.
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 $coverage" \
	cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$triple" --target-dir "$out"

[ $# -gt 0 ] || set -- agent_host agent_guest agent_streams tar_entries dns
failed=0
for name in "$@"; do
	mkdir -p "$out/corpus/$name" "$out/artifacts/$name"
	log=$out/$name.log
	# Bounded in time, in memory, and in the time and size of one input.
	if "$out/$triple/release/$name" "$out/corpus/$name" -dict="fuzz/${name%%_*}.dict" -max_total_time="$seconds" -timeout=10 \
		-rss_limit_mb=1024 -max_len=70000 -artifact_prefix="$out/artifacts/$name/" -print_final_stats=1 >"$log" 2>&1; then
		verdict=ok
	else
		verdict='FAILED' failed=1
		tail -n 30 "$log" >&2
	fi
	count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	covered=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1 | tr -dc 0-9)
	printf 'fuzz %-12s %10s executions in %s s, %s edges: %s\n' "$name" "${count:-0}" "$seconds" "${covered:-0}" "$verdict"
done
exit "$failed"
