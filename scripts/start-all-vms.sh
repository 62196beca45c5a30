#!/bin/bash
# Makes and starts every virtual machine that scripts/setup-vms.sh prepared, and shows all that run. Repeating is safe:
# what is there is left as it is.
#
#   scripts/start-all-vms.sh
#
# DATAPLANE_SOCKET and VMS_DIR as in scripts/setup-vms.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
socket=${DATAPLANE_SOCKET:-/run/dataplane/api.sock}
directory=${VMS_DIR:-.cache/vms}
failed=0
shopt -s nullglob
requests=("$directory"/*.json)
[ ${#requests[@]} -gt 0 ] || { echo "start-all-vms: no requests in $directory; scripts/setup-vms.sh writes them" >&2; exit 1; }
for request in "${requests[@]}"; do
	answer=$(curl -sS --fail-with-body --unix-socket "$socket" http://localhost/instances \
		-H 'content-type: application/json' --data-binary "@$request") || {
		echo "start-all-vms: $request: $(jq -r '.code + ": " + .message' <<<"$answer" 2>/dev/null || echo "$answer")" >&2
		failed=1
	}
done
curl -sS --fail-with-body --unix-socket "$socket" 'http://localhost/instances?limit=1000' |
	jq -r '.items[] | [.id, .state, .private_ip // "-", .image] | @tsv'
exit "$failed"
