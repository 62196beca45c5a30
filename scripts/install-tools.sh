#!/bin/bash
# Installs what building, testing and demonstrating need, and only what is missing.
#
#   scripts/install-tools.sh [packages|demo|test|lint|fuzz ...]      default: all five
#
#   packages  from the distribution: compiler, emulator, disk and network tools
#   demo      a registry, and what makes an image to put into it
#   test      cargo-nextest, and a name server's client
#   lint      shellcheck, rustfmt, clippy, cargo-deny
#   fuzz      the C++ compiler that builds the fuzzer
set -euo pipefail

# program (or file) that shows the package to be there : package
packages=(
	gcc:gcc make:make /usr/include/stdio.h:libc6-dev xz:xz-utils cpio:cpio curl:curl jq:jq git:git
	/etc/ssl/certs/ca-certificates.crt:ca-certificates
	qemu-system-x86_64:qemu-system-x86 busybox:busybox-static mkfs.erofs:erofs-utils mke2fs:e2fsprogs
	ip:iproute2 nft:nftables setpriv:util-linux inotifywait:inotify-tools
)
demo=(docker-registry:docker-registry skopeo:skopeo umoci:umoci mmdebstrap:mmdebstrap)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin

there() {
	case $1 in
	/*) [ -e "$1" ] ;;
	*) command -v "$1" >/dev/null ;;
	esac
}

# Installs the packages of those "program:package" pairs whose program is not there.
install_packages() {
	local pair missing=()
	for pair in "$@"; do
		there "${pair%:*}" || missing+=("${pair##*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
		echo "install-tools: missing: ${missing[*]}" >&2
		echo "install-tools: as root on Debian: apt-get install ${missing[*]}" >&2
		return 1
	fi
	echo "installing ${missing[*]}"
	local options=(-qq -y --no-install-recommends -o Dpkg::Use-Pty=0)
	export DEBIAN_FRONTEND=noninteractive
	# The lists may be absent or too old to find a file: refresh them once and try again.
	apt-get "${options[@]}" install "${missing[@]}" >/dev/null 2>&1 || {
		apt-get -qq update
		apt-get "${options[@]}" install "${missing[@]}" >/dev/null
	}
}

install_cargo() {
	command -v "$1" >/dev/null || {
		echo "building $1 (a few minutes)"
		cargo install --quiet --locked "$1"
	}
}

install_component() {
	cargo "${2:-$1}" --version >/dev/null 2>&1 || rustup component add "$1"
}

command -v cargo >/dev/null || {
	echo "install-tools: no cargo: install a Rust toolchain first" >&2
	exit 1
}
[ $# -gt 0 ] || set -- packages demo test lint fuzz
for group in "$@"; do
	case $group in
	packages) install_packages "${packages[@]}" ;;
	demo) install_packages "${demo[@]}" ;;
	test)
		install_packages dig:bind9-dnsutils
		install_cargo cargo-nextest
		;;
	fuzz) install_packages g++:g++ ;;
	lint)
		install_packages shellcheck:shellcheck
		install_component rustfmt fmt
		install_component clippy
		install_cargo cargo-deny
		;;
	*)
		echo "install-tools: unknown group $group" >&2
		exit 2
		;;
	esac
done
