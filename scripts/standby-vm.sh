#!/bin/bash
# Puts a virtual machine into standby: its memory is written to disk, its VMM ends. scripts/restore-vm.sh brings it
# back. Repeating is safe: one that is in standby already is left as it is.
#
#   scripts/standby-vm.sh ID
#
# DATAPLANE_SOCKET as in scripts/setup-vms.sh.
set -euo pipefail
id=${1:?usage: scripts/standby-vm.sh ID}
[[ $id =~ ^[a-z0-9-]{1,63}$ ]] || { echo "standby-vm: $id is not an instance's id" >&2; exit 2; }
socket=${DATAPLANE_SOCKET:-/run/dataplane/api.sock}
answer=$(curl -sS --fail-with-body --unix-socket "$socket" -X POST "http://localhost/instances/$id/standby") || {
	echo "standby-vm: $id: $(jq -r '.code + ": " + .message' <<<"$answer" 2>/dev/null || echo "$answer")" >&2
	exit 1
}
jq -r '[.id, .state, .private_ip // "-", .image] | @tsv' <<<"$answer"
