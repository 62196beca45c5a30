#!/bin/sh
# What the daemon does to the host's network at its start, by hand: to look at, to have in place beforehand, to remove.
#
#   setup-host-network.sh show    what is there now
#   setup-host-network.sh up      make the bridge, the rules and forwarding; repeating is fine
#   setup-host-network.sh down    remove what `up` made; a bridge that a daemon has taken over is the daemon's to remove
#
# Reads BRIDGE_NAME, SUBNET_CIDR, SUBNET_GATEWAY and UPLINK_INTERFACE, with the daemon's defaults. Needs root, ip, nft.
# TAP devices are not its business: the daemon makes one for each instance.
set -eu

bridge=${BRIDGE_NAME:-vmbr0}
subnet=${SUBNET_CIDR:-192.168.100.0/24}
gateway=${SUBNET_GATEWAY:-192.168.100.1}
uplink=${UPLINK_INTERFACE:-}
table=dataplane_$bridge
conf=/proc/sys/net/ipv4/conf

# The mark on the bridge. "host": for whichever daemon comes; it will put its own name there.
mark=dataplane:host

die() {
    echo "setup-host-network: $*" >&2
    exit 1
}

# Without an uplink of your choice: the interface of the default route with the lowest metric.
find_uplink() {
    [ -z "$uplink" ] || return 0
    uplink=$(ip -4 route show default |
        awk '{ dev = ""; metric = 0
               for (i = 1; i < NF; i++) { if ($i == "dev") dev = $(i + 1); if ($i == "metric") metric = $(i + 1) }
               if (dev != "" && (best == "" || metric < least)) { best = dev; least = metric } }
             END { print best }')
}

# Asked by netlink: /sys shows the namespace in which it was mounted, not ours.
bridge_alias() {
    ip link show dev "$bridge" 2>/dev/null | sed -n 's/^ *alias //p'
}

# Prints the uplink on which forwarding was switched on by us, from the bridge's mark.
marked_uplink() {
    bridge_alias | sed -n 's/.*:forwarding=//p'
}

# The bridge's own MAC: 02:d1 and the gateway's address. Without one it would follow its first port.
bridge_mac() {
    echo "$gateway" | awk -F. '{ printf "02:d1:%02x:%02x:%02x:%02x\n", $1, $2, $3, $4 }'
}

rules() {
    cat <<RULES
table inet $table
delete table inet $table
table inet $table {
  chain arrive {
    type filter hook prerouting priority raw; policy accept;
    iifname "$bridge" ip saddr 127.0.0.0/8 drop
    iifname "$bridge" ip daddr 127.0.0.0/8 drop
    iifname "$bridge" meta nfproto ipv6 drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "$bridge" jump from_guests
    oifname "$bridge" jump to_guests
RULES
    if [ -n "$guarded" ]; then
        cat <<RULES
    iifname "$uplink" oifname != "$bridge" ct status dnat accept
    iifname "$uplink" oifname != "$bridge" ct state new drop
RULES
    fi
    cat <<RULES
  }
  chain from_guests {
    oifname "$bridge" drop
    ip saddr != $subnet drop
    ip daddr 169.254.0.0/16 drop
    ${uplink:+oifname "$uplink" accept}
    drop
  }
  chain to_guests {
    ${uplink:+iifname "$uplink" ct state established,related accept}
    drop
  }
RULES
    if [ -n "$uplink" ]; then
        cat <<RULES
  chain leave {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr $subnet oifname "$uplink" masquerade
  }
RULES
    fi
    echo "}"
}

up() {
    find_uplink
    if ip link show dev "$bridge" >/dev/null 2>&1; then
        case $(bridge_alias) in
        "$mark" | "$mark":*) ;;
        *) die "$bridge exists and is not ours (alias '$(bridge_alias)'); choose another BRIDGE_NAME" ;;
        esac
    fi
    # Forwarding that we switch on ourselves is guarded by a rule and remembered by the bridge, so that `down` can undo it.
    guarded=
    if [ -n "$uplink" ]; then
        [ -d "$conf/$uplink" ] || die "uplink $uplink does not exist; check UPLINK_INTERFACE"
        if [ "$(cat "$conf/$uplink/forwarding")" = 0 ]; then
            guarded=yes
        elif [ "$(marked_uplink)" = "$uplink" ] && [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]; then
            guarded=yes
        fi
    fi
    # One transaction: there is no instant with half of the rules, and none with a bridge but no rules.
    rules | nft -f -
    ip link show dev "$bridge" >/dev/null 2>&1 ||
        ip link add name "$bridge" address "$(bridge_mac)" type bridge forward_delay 0
    [ ! -d "/proc/sys/net/ipv6/conf/$bridge" ] || echo 1 >"/proc/sys/net/ipv6/conf/$bridge/disable_ipv6"
    echo 0 >"$conf/$bridge/accept_redirects"
    ip link set dev "$bridge" alias "$mark${guarded:+:forwarding=$uplink}" up
    ip -4 addr replace "$gateway/${subnet#*/}" brd + dev "$bridge"
    if [ -z "$uplink" ]; then
        echo 0 >"$conf/$bridge/forwarding"
        echo "no uplink: the host has no default route, guests reach the gateway only"
        return
    fi
    echo 1 >"$conf/$bridge/forwarding"
    echo 1 >"$conf/$uplink/forwarding"
    echo "$bridge is up with $gateway/${subnet#*/}, guests leave by $uplink"
}

down() {
    case $(bridge_alias) in
    "$mark" | "$mark":*)
        was_off=$(marked_uplink)
        ip link del dev "$bridge"
        if [ -n "$was_off" ] && [ -d "$conf/$was_off" ] && [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]; then
            echo 0 >"$conf/$was_off/forwarding"
        fi
        ;;
    *)
        ! ip link show dev "$bridge" >/dev/null 2>&1 ||
            die "$bridge has the alias '$(bridge_alias)': not ours to remove"
        ;;
    esac
    # Naming the table first makes the removal of an absent one succeed.
    printf 'table inet %s\ndelete table inet %s\n' "$table" "$table" | nft -f -
}

show() {
    ip -d addr show dev "$bridge" || echo "no bridge $bridge"
    ip -br link show master "$bridge" 2>/dev/null || true
    nft list table inet "$table" 2>/dev/null || echo "no nftables table inet $table"
    find_uplink
    for interface in "$bridge" $uplink; do
        [ ! -d "$conf/$interface" ] ||
            echo "net.ipv4.conf.$interface.forwarding = $(cat "$conf/$interface/forwarding")"
    done
}

case ${1:-} in
show | up | down) "$1" ;;
*) die "usage: $0 show|up|down" ;;
esac
