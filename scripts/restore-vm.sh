#!/bin/bash
# Brings a virtual machine back from standby: it goes on where it stopped, at the same address, with the same log.
# Repeating is safe: one that runs already is left as it is.
#
#   scripts/restore-vm.sh ID
#
# A snapshot goes with the hypervisor version, kernel and image that it was taken on; where one of them is another now,
# the answer is hypervisor_mismatch. Then either run the old version again, or give up what was in memory and boot anew
# from the disk: POST /instances/ID/start?discard_snapshot=true
#
# DATAPLANE_SOCKET as in scripts/setup-vms.sh.
set -euo pipefail
id=${1:?usage: scripts/restore-vm.sh ID}
[[ $id =~ ^[a-z0-9-]{1,63}$ ]] || { echo "restore-vm: $id is not an instance's id" >&2; exit 2; }
socket=${DATAPLANE_SOCKET:-/run/dataplane/api.sock}
answer=$(curl -sS --fail-with-body --unix-socket "$socket" -X POST "http://localhost/instances/$id/restore") || {
	echo "restore-vm: $id: $(jq -r '.code + ": " + .message' <<<"$answer" 2>/dev/null || echo "$answer")" >&2
	exit 1
}
jq -r '[.id, .state, .private_ip // "-", .image] | @tsv' <<<"$answer"
