#!/bin/bash
# Prepares N virtual machines: fetches their image, and writes one request each, to be looked at and edited.
# scripts/start-all-vms.sh then makes and starts them.
#
#   scripts/setup-vms.sh N [IMAGE]      IMAGE: what to pull, default docker.io/library/nginx:latest
#
# DATAPLANE_SOCKET is the daemon's Unix socket (default /run/dataplane/api.sock), VMS_DIR where the requests are kept
# (default .cache/vms). Running it again keeps requests that are there.
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:?usage: scripts/setup-vms.sh N [IMAGE]}
[[ $count =~ ^[1-9][0-9]{0,2}$ ]] || { echo "setup-vms: $count is not a number from 1 to 999" >&2; exit 2; }
image=${2:-docker.io/library/nginx:latest}
socket=${DATAPLANE_SOCKET:-/run/dataplane/api.sock}
directory=${VMS_DIR:-.cache/vms}
mkdir -p "$directory"

answer=$(curl -sS --fail-with-body --unix-socket "$socket" http://localhost/images \
	-H 'content-type: application/json' -d "$(jq -cn --arg name "$image" '{name: $name}')") ||
	{ echo "setup-vms: $answer" >&2; exit 1; }
id=$(jq -r .id <<<"$answer")
echo "image $id: $(jq -r '.status + ", " + .digest' <<<"$answer")"
for n in $(seq "$count"); do
	request=$directory/vm-$n.json
	[ -e "$request" ] || jq -n --arg id "vm-$n" --arg image "$id" '{id: $id, image: $image, memory_mb: 512, vcpus: 1}' >"$request"
	echo "$request"
done
