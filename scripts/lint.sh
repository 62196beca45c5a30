#!/bin/bash
# Every check that needs no running program; each step is named with its time, all of them run, one failure fails.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
passed=0 failed=0 skipped=0

step() {
	local name=$1 started=$SECONDS
	shift
	if "$@"; then
		passed=$((passed + 1))
		echo "lint: $name: ok ($((SECONDS - started)) s)"
	else
		failed=$((failed + 1))
		echo "lint: $name: FAILED ($((SECONDS - started)) s)"
	fi
}

shell_scripts() {
	git ls-files --cached --others --exclude-standard scripts .ci | while read -r file; do
		if [ -f "$file" ] && head -n 1 "$file" | grep -qE '^#!.*sh$|^#!.* sh$'; then echo "$file"; fi
	done
}

check_scripts() {
	local files
	mapfile -t files < <(shell_scripts)
	shellcheck -x "${files[@]}"
}

step 'fmt' cargo fmt --all --check
step 'clippy' cargo clippy --quiet --workspace --all-targets -- -D warnings
step 'licences, bans, sources' cargo deny --log-level error check licenses bans sources
step 'shellcheck' check_scripts
# The advisory database is a repository of its own; without it there is nothing to compare with.
if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-db*/*" >/dev/null; then
	step 'advisories' cargo deny --offline --log-level error check advisories
else
	skipped=1
	echo '1 step skipped: advisories (database out of reach)'
fi
echo "lint: $passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
