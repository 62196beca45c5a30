#!/bin/bash
# Runs every test that can run on this machine, in four tiers, and says what ran, what did not, and why.
#
#   scripts/test.sh [TIER ...]      default: 1 2 3 4
#
#   1  everything in process, VMM = fake-ch            3  real guests on QEMU
#   2  bridge, TAP, nftables in namespaces (root)      4  real guests on Cloud Hypervisor
#
# The last line is "N passed, N failed, N skipped" over all tiers.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
target=${CARGO_TARGET_DIR:-target}
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/sbin:/sbin
# What needs root: namespaces of its own, loop mounts.
rooted='((package(/dataplane-(network|dns)/) & kind(test)) | binary(=fidelity) | (package(dataplane-erofs) & binary(=kernel)) | binary(=soak) | binary(=net) | (package(dataplane-init) & test(/the_kernel_takes_every_request|files::tests|cgroups::tests/)) | (package(dataplane-vmm) & test(confined_tests)))'
guests='binary(=vm)'
# A third test in there is the part that runs inside the emulated host.
power='(binary(=power) & test(what_was_answered))'
real_power='(binary(=power) & test(real_guests))'
# The conformance suite of the VMM drivers; against fake-ch it is part of tier 1.
conformance='binary(=conformance)'
# How long one test may take in an emulated host, in seconds.
nested_limit=300
passed=0 failed=0 skipped=0
report=()

is_root() { [ "$(id -u)" = 0 ]; }

count_tests() { cargo nextest list --workspace --message-format json "$@" 2>/dev/null | jq '[."rust-suites"[].testcases[] | select(."filter-match".status == "matches")] | length'; }

# A tier's result: number, name, passed, failed, skipped, why.
settle() {
	passed=$((passed + $3)) failed=$((failed + $4)) skipped=$((skipped + $5))
	report+=("tier $1 ($2): $(($3 + $4)) tests ran, $3 passed, $4 failed, $5 skipped${6:+: $6}")
}

# Tests marked as not runnable here, one line each with the reason that the mark gives.
ignored() {
	cargo nextest list --workspace --run-ignored ignored-only --message-format json -E "$1" 2>/dev/null |
		jq -r '."rust-suites"[] | ."binary-path" as $b | .testcases | to_entries[]
			| select(.value."filter-match".status == "matches") | [$b, .key] | @tsv' |
		while IFS=$'\t' read -r binary test; do
			"$binary" --exact "$test" 2>/dev/null | sed -n 's/^test \(.*\) \.\.\. ignored\(, \)\{0,1\}/skipped: \1: /p'
		done
}

# Runs the tests that a filter names: number, name, profile, filter; further arguments go to the runner.
tier() {
	local number=$1 name=$2 profile=$3 filter=$4 junit=$target/nextest/$3/junit.xml skips='' line total bad count
	shift 4
	echo "== tier $number: $name"
	rm -f "$junit"
	cargo nextest run --workspace --no-tests pass --profile "$profile" -E "$filter" "$@"
	local ended=$?
	[[ " $* " == *--run-ignored* ]] || skips=$(ignored "$filter")
	[ -z "$skips" ] || echo "$skips"
	skips=$(grep -c . <<<"$skips")
	line=$(grep -om 1 '<testsuites[^>]*>' "$junit" 2>/dev/null)
	total=$(sed -n 's/.* tests="\([0-9]*\)".*/\1/p' <<<"$line")
	bad=0
	for count in $(grep -oE '(failures|errors)="[0-9]+"' <<<"$line" | tr -dc '0-9\n'); do bad=$((bad + count)); done
	# A run that failed without a failing test did not get as far as running them.
	if [ "$ended" != 0 ] && [ "$bad" = 0 ]; then bad=1 total=$((${total:-0} + 1)); fi
	settle "$number" "$name" $((${total:-0} - bad)) "$bad" "$skips"
}

tier1() {
	tier 1 'in process' default "not ($rooted | $guests | binary(=power))"
}

tier2() {
	if ! is_root; then
		settle 2 'network namespaces, mounts' 0 0 "$(count_tests --run-ignored all -E "$rooted")" 'needs root'
	elif [ ! -c /dev/net/tun ]; then
		settle 2 'network namespaces, mounts' 0 0 "$(count_tests --run-ignored all -E "$rooted")" 'needs /dev/net/tun'
	else
		tier 2 'network namespaces, mounts' network "$rooted" --run-ignored all
	fi
}

tier3() {
	if command -v qemu-system-x86_64 >/dev/null; then
		HYPERVISOR=qemu DATAPLANE_TEST_VMM=qemu tier 3 'guests on QEMU' guests "$guests | $conformance"
		tier 3 'power cuts' guests "$power" --run-ignored all
	elif is_root && command -v apt-get >/dev/null; then
		settle 3 'guests on QEMU' 0 1 0 'qemu-system-x86_64 is missing although it can be installed'
	else
		settle 3 'guests on QEMU' 0 0 "$(count_tests --run-ignored all -E "$guests | $conformance | $power")" 'no qemu-system-x86_64, and no right to install it'
	fi
}

# Cloud Hypervisor needs virtualization in hardware; /dev/kvm alone does not prove it.
hardware_kvm() {
	[ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo && { [ -d /sys/module/kvm_intel ] || [ -d /sys/module/kvm_amd ]; }
}

tier4() {
	local name='guests on Cloud Hypervisor' all="$guests | $conformance"
	if ! command -v cloud-hypervisor >/dev/null; then
		settle 4 "$name" 0 0 "$(count_tests -E "$all")" 'no cloud-hypervisor on PATH'
	elif hardware_kvm; then
		HYPERVISOR=cloud-hypervisor DATAPLANE_TEST_VMM=cloud-hypervisor tier 4 "$name" guests "$all"
	else
		nested "$name" vm
		nested "$name: conformance" conformance
		tier 4 "$name: power cuts" guests "$real_power" --run-ignored all
	fi
}

# Runs tests of one suite inside an emulated host: log file, suite's binary, tests.
in_nested_host() {
	local log=$1 binary=$2 tool tools=()
	shift 2
	for tool in busybox mke2fs e2fsck debugfs tar; do tools+=(--share "$(command -v "$tool")"); done
	# A host that says nothing for longer than a test may take has frozen.
	scripts/nested-host --timeout "${NESTED_TIMEOUT:-1800}" --silence $((nested_limit + 60)) \
		--env HYPERVISOR=cloud-hypervisor --env DATAPLANE_TEST_VMM=cloud-hypervisor \
		--env "STANDBY_ROUNDS=${STANDBY_ROUNDS:-3}" --env STANDBY_DIRTY_MIB \
		--env "DATAPLANE_TEST_EXECS=${DATAPLANE_TEST_EXECS:-60}" \
		--env "DATAPLANE_TEST_STREAM_MIB=${DATAPLANE_TEST_STREAM_MIB:-8}" \
		--env "DATAPLANE_TEST_FILE_MIB=${DATAPLANE_TEST_FILE_MIB:-40}" --env RUST_LOG --env RUST_BACKTRACE \
		--share "$target/debug/dataplane" --share "$binary" "${tools[@]}" \
		-- scripts/nested/tests "$nested_limit" "$binary" "$@" 2>&1 | tee "$log"
}

# One suite inside emulated hosts. An emulator in an emulator stalls now and then: what fails there, or is cut short by
# a host that hangs, is tried once more in a fresh one, at most five tests are, and what passes only then is named.
nested() {
	local name=$1 suite=$2 binary log again='' good=0 bad=0 skips test left=() ignored=() failures=() rest=()
	echo "== tier 4: $name, in an emulated host"
	binary=$(cargo nextest list --workspace --list-type binaries-only --message-format json -E "binary(=$suite)" 2>/dev/null |
		jq -r --arg suite "$suite" '[."rust-binaries"[] | select(."binary-name" == $suite)][0]."binary-path"')
	mapfile -t ignored < <("$binary" --list --format terse --ignored | sed -n 's/: test$//p')
	skips=${#ignored[@]}
	[ "$skips" = 0 ] || printf 'skipped: %s\n' "${ignored[@]}"
	mapfile -t left < <("$binary" --list --format terse | sed -n 's/: test$//p' | grep -vxF -f <(printf '%s\n' "${ignored[@]}"))
	log=$(mktemp)
	while [ ${#left[@]} != 0 ]; do
		in_nested_host "$log" "$binary" "${left[@]}"
		failures=() rest=()
		for test in "${left[@]}"; do
			if grep -aq "^PASS $test " "$log"; then
				good=$((good + 1))
				if grep -qxF "$test" <<<"$again"; then echo "passed only when tried again: $test"; fi
			elif grep -aq "^FAIL $test " "$log"; then
				failures+=("$test")
			else
				rest+=("$test")
			fi
		done
		# The first that has no result is the one that the host hung in.
		failures+=("${rest[@]:0:1}")
		left=()
		for test in "${failures[@]}"; do
			if grep -qxF "$test" <<<"$again" || [ "$(grep -c . <<<"$again")" -ge 5 ]; then
				bad=$((bad + 1))
				echo "failed: $test"
			else
				again+=$test$'\n'
				left+=("$test")
			fi
		done
		left+=("${rest[@]:1}")
		[ ${#left[@]} = 0 ] || echo "in a fresh host: ${left[*]}"
	done
	rm -f "$log"
	settle 4 "$name" "$good" "$bad" "$skips"
}

if [ $# = 0 ]; then set -- 1 2 3 4; fi
scripts/install-tools.sh packages test || ! is_root || exit 1
if PROFILE=dev scripts/build.sh; then
	for number in "$@"; do "tier$number"; done
else
	settle 0 'build' 0 1 0 'nothing ran'
fi
echo
printf '%s\n' "${report[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
