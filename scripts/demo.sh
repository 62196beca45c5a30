#!/bin/bash
# A container image becomes a virtual machine: pulled from a registry, booted, its log followed, its page fetched, put
# into standby, restored where it stopped, deleted. Registry, daemon and clients live in a network namespace of their own with a temporary data directory;
# nothing is left behind, and that is checked.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
[ "$(id -u)" = 0 ] || { echo "demo: needs root, for a network namespace, a bridge and a TAP" >&2; exit 1; }

begin=$EPOCHREALTIME
elapsed() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f s", b - a }'; }
step() { printf '\n[%7s] %s\n' "$(elapsed "$begin")" "$*"; }

step "packages, binaries, and the image's content: a Debian root file system with nginx"
scripts/install-tools.sh packages demo
[ -x bin/dataplane ] || scripts/build.sh
work=$(mktemp -d /tmp/dataplane-demo.XXXXXX)
space=dataplane-demo-$$
pids=()

# Ends a process that this script started, and waits for it.
end() {
	kill -TERM "$1" 2>/dev/null || return 0
	tail --pid="$1" -f /dev/null
}

clean_up() {
	local pid
	for pid in "${pids[@]}"; do end "$pid"; done
	# A virtual machine outlives its daemon: that is the point of it. What a failed demo leaves is ended by namespace.
	for pid in $(ip netns pids "$space" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
	ip netns del "$space" 2>/dev/null || true
	rm -rf "$work"
}
trap clean_up EXIT
fail() { echo "demo: $*" >&2; tail -n 30 "$work"/*.log >&2 || true; exit 1; }

scripts/make-image.sh "$work/nginx.tar" nginx:demo
begin=$EPOCHREALTIME

step "a network namespace ($space) with a registry and the daemon in it"
ip netns add "$space"
ip netns exec "$space" ip link set lo up
cat >"$work/registry.yml" <<END
version: 0.1
storage: {filesystem: {rootdirectory: $work/registry}}
http: {addr: 127.0.0.1:5000}
END
ip netns exec "$space" docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
pids+=($!)
export DATA_DIR=$work/data RUNTIME_DIR=$work/run LOG_FORMAT=text RESERVED_BYTES=0
ip netns exec "$space" bin/dataplane serve >"$work/dataplane.log" 2>&1 &
daemon=$!
pids+=("$daemon")

client=(ip netns exec "$space" curl -sS --fail-with-body --unix-socket "$work/run/api.sock")
api() { "${client[@]}" "$@"; }
url=http://localhost
ip netns exec "$space" curl -sS --retry 100 --retry-all-errors --retry-delay 0 --retry-max-time 30 -o /dev/null http://127.0.0.1:5000/v2/ 2>/dev/null ||
	fail "the registry did not start"
api --retry 100 --retry-all-errors --retry-delay 0 --retry-max-time 30 -o /dev/null $url/health 2>/dev/null || fail "the daemon did not start"
grep -m 1 -o 'hypervisor chosen.*' "$work/dataplane.log" || true

step "push the image to the registry with skopeo, pull it with the daemon: POST /images"
ip netns exec "$space" skopeo copy -q --insecure-policy --dest-tls-verify=false \
	"docker-archive:$work/nginx.tar" docker://127.0.0.1:5000/nginx:demo
api $url/images -H 'content-type: application/json' -d '{"name":"127.0.0.1:5000/nginx:demo"}' >"$work/image.json" || fail "$(cat "$work/image.json")"
jq '{id, digest, status, size_bytes, virtual_size_bytes, entrypoint, cmd}' "$work/image.json"

step "create and start an instance of it: POST /instances"
start=$EPOCHREALTIME
api $url/instances -H 'content-type: application/json' -d '{"id":"my-instance","name":"My Workload","image":"img-nginx","memory_mb":2048,"memory_max_mb":4096,"vcpus":2,"env":{"NODE_ENV":"production"}}' >"$work/instance.json" || fail "$(cat "$work/instance.json")"
jq '{id, name, state, private_ip, mac, hypervisor, hypervisor_version}' "$work/instance.json"
echo "created in $(elapsed "$start")"
ip=$(jq -r .private_ip "$work/instance.json")

step "follow its log: GET /instances/my-instance/logs?follow=true, server-sent events"
# The stream is read until the first line that the image's own program wrote.
exec 3< <(exec "${client[@]}" -N --max-time 120 -H 'accept: text/event-stream' "$url/instances/my-instance/logs?follow=true&tail=1000")
stream=$!
found=
while IFS= read -r line <&3; do
	case $line in id:* | data:*) echo "    $line" ;; esac
	case $line in data:*nginx\ starts\ on*) found=1; break ;; esac
done
end "$stream"
exec 3<&-
[ -n "$found" ] || fail "the guest's line did not come"
echo "first guest line $(elapsed "$start") after the request"

step "fetch its page from $ip"
ip netns exec "$space" curl -sS --retry 100 --retry-all-errors --retry-delay 0 --retry-max-time 60 "http://$ip/" 2>/dev/null |
	grep -m 1 '<title>' || fail "nginx did not answer"
api $url/instances/my-instance | jq '{state, ready}'
sed -n 's/.*program has started.*init_ms=\([0-9]*\).*/of that, init took \1 ms from the kernel to the program/p' "$work/dataplane.log"

# The numbers that the guest's program has counted to, with the ids of their events. Where the log ends now, a line may
# still be in the middle; the one before is whole.
counts() { sed -n '/^id: /{s///;h};/^data: .*"count [0-9]*"/{s/.*"count \([0-9]*\)".*/\1/;G;s/\n/ /;p}'; }
last_count() { api "$url/instances/my-instance/logs?tail=20" | counts | tail -n 2 | head -n 1; }

step "put it into standby: scripts/standby-vm.sh my-instance"
export DATAPLANE_SOCKET=$work/run/api.sock
start=$EPOCHREALTIME
ip netns exec "$space" scripts/standby-vm.sh my-instance || fail "standby"
echo "in standby after $(elapsed "$start")"
api "$url/instances?state=Standby" | jq -c '.items[] | {id, state, has_snapshot}'
[ "$(ip netns pids "$space" | wc -l)" = 2 ] || fail "a VMM is left: $(ip netns pids "$space" | xargs -r ps -o pid,args -p)"
echo "no VMM process is left; the snapshot of its 2048 MiB takes $(du -sm "$work/data/instances/my-instance/snapshot" | cut -f1) MiB on disk"
read -r stopped_at event < <(last_count) || fail "the guest's program has not counted"
sleep 1
read -r still _ < <(last_count)
[ "$still" = "$stopped_at" ] || fail "it counts on in standby: $stopped_at, $still"
echo "its program has counted to $stopped_at, and stands still"

step "restore it: scripts/restore-vm.sh my-instance"
start=$EPOCHREALTIME
ip netns exec "$space" scripts/restore-vm.sh my-instance || fail "restore"
echo "back after $(elapsed "$start")"
[ "$(api $url/instances/my-instance | jq -c '[.state, .private_ip, .mac, .has_snapshot]')" = "$(jq -c '["Running", .private_ip, .mac, false]' "$work/instance.json")" ] ||
	fail "it is not what it was: $(api $url/instances/my-instance)"
ip netns exec "$space" curl -sS --retry 100 --retry-all-errors --retry-delay 0 --retry-max-time 60 "http://$ip/" 2>/dev/null |
	grep -m 1 '<title>' || fail "nginx did not answer after the restore"

step "its log goes on in the same stream: Last-Event-ID: $event"
exec 3< <(exec "${client[@]}" -N --max-time 60 -H "last-event-id: $event" "$url/instances/my-instance/logs?follow=true")
stream=$!
expected=$((stopped_at + 1))
while [ "$expected" -le $((stopped_at + 10)) ] && IFS= read -r line <&3; do
	[[ $line =~ \"count\ ([0-9]+)\" ]] || continue
	[ "${BASH_REMATCH[1]}" = "$expected" ] || fail "after $((expected - 1)) it counted ${BASH_REMATCH[1]}"
	expected=$((expected + 1))
done
end "$stream"
exec 3<&-
[ "$expected" -gt $((stopped_at + 10)) ] || fail "it did not count on after $((expected - 1))"
echo "$stopped_at before, then $((stopped_at + 1)) to $((expected - 1)), none missing and none twice: it went on where it stopped"

step "delete the instance, then the image"
api -X DELETE "$url/instances/my-instance" || fail "delete"
[ "$(ip netns exec "$space" curl -s -o /dev/null -w '%{http_code}' --unix-socket "$work/run/api.sock" $url/instances/my-instance)" = 404 ] ||
	fail "the instance is still there"
api -X DELETE "$url/images/img-nginx" || fail "delete the image"

step "nothing is left"
left=$(find "$work/data/instances" "$work/data/images/disks" "$work/data/trash" "$work/data/images/work" -mindepth 1)
[ -z "$left" ] || fail "files are left: $left"
taps=$(ip -n "$space" -o link show type tun | wc -l)
[ "$taps" = 0 ] || fail "$taps TAPs are left"
[ "$(ip netns pids "$space" | wc -l)" = 2 ] || fail "more than registry and daemon run: $(ip netns pids "$space" | xargs -r ps -o pid,args -p)"
end "$daemon"
end "${pids[0]}"
[ -z "$(ip netns pids "$space")" ] || fail "processes are left in the namespace"
trap - EXIT
clean_up
! ip netns list | grep -qw "$space" || fail "the namespace is left"
[ ! -e "$work" ] || fail "$work is left"
echo "no process, TAP, namespace or file. The whole took $(elapsed "$begin")."
