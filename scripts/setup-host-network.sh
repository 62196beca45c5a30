#!/bin/sh
# What the daemon does to the host's network at its start, by hand: to look at, to have in place beforehand, to remove.
#
#   setup-host-network.sh show    what is there now, and what is wrong with it
#   setup-host-network.sh up      make bridge, rules and settings; repeating is fine
#   setup-host-network.sh down    remove all of it
#
# Thin over `dataplane network`, so that it is the same thing: it reads the daemon's variables (DATA_DIR, BRIDGE_NAME,
# SUBNET_CIDR, SUBNET_GATEWAY, UPLINK_INTERFACE, DNS_SERVER), and DATAPLANE names the program. Needs root and nft.
set -eu

die() {
    echo "setup-host-network: $*" >&2
    exit 1
}

here=$(cd "$(dirname "$0")/.." && pwd)
dataplane=${DATAPLANE:-}
if [ -z "$dataplane" ]; then
    if [ -x "$here/bin/dataplane" ]; then
        dataplane=$here/bin/dataplane
    else
        dataplane=$(command -v dataplane) || die "no program dataplane; try \`make build\`"
    fi
fi

case ${1:-} in
show) exec "$dataplane" network status ;;
up) exec "$dataplane" network up ;;
down) exec "$dataplane" network teardown ;;
*) die "usage: $0 show|up|down" ;;
esac
