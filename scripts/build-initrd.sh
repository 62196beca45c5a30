#!/bin/sh
# Puts the guest kernel and its initramfs into bin/: bin/vmlinux and bin/initrd.img.
#
# The kernel is the distribution's own cloud kernel: its package is downloaded and unpacked, never installed. The
# initramfs holds one static program and the kernel's modules. Nothing is done where nothing has changed.
#
# Needs no root, except to refresh package lists that are not there at all. `KERNEL_PACKAGE` names another package.
set -eu
cd "$(dirname "$0")/.."

meta=linux-image-cloud-amd64
cache=.cache/kernel
target=${CARGO_TARGET_DIR:-target}
triple=x86_64-unknown-linux-gnu

# The versioned package behind the distribution's meta package; empty where the package lists do not know it.
resolve() {
	apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

# The newest kernel unpacked earlier, for machines that are offline by now.
newest_cached() {
	find "$cache" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*' -printf '%f\n' 2>/dev/null | sort -V | tail -n 1
}

fetch() {
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' INT TERM
	echo "fetching $1"
	(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$1")
	dpkg -x "$work/$1"_*.deb "$work/tree"
	# Later releases ship compressed modules; the initramfs is compressed as a whole.
	find "$work/tree" -name '*.ko.xz' -exec xz -d {} +
	rm -rf "$work/tree/usr/share"
	# Somebody else may have been faster.
	mv -T "$work/tree" "$cache/$2" 2>/dev/null || [ -d "$cache/$2/boot" ]
	rm -rf "$work"
	trap - EXIT INT TERM
}

mkdir -p "$cache" bin
package=${KERNEL_PACKAGE:-$(resolve)}
if [ -z "$package" ] && [ -z "$(newest_cached)" ] && [ "$(id -u)" = 0 ]; then
	apt-get -qq update
	package=$(resolve)
fi
if [ -n "$package" ]; then
	version=${package#linux-image-}
	[ -d "$cache/$version" ] || fetch "$package" "$version"
else
	version=$(newest_cached)
	[ -n "$version" ] || {
		echo "build-initrd: the package lists do not know $meta; as root, run: apt-get update" >&2
		exit 1
	}
fi

cargo build --quiet -p dataplane-initramfs
# Every guest carries it in memory and every boot unpacks it: made small, at the price of a slower build.
export CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 CARGO_PROFILE_RELEASE_OPT_LEVEL=s
# An explicit target keeps the static C library out of build scripts and macros, which must stay dynamic.
RUSTFLAGS='-C target-feature=+crt-static' \
	cargo build --quiet --release -p dataplane-init --target "$triple" --target-dir "$target/guest"

tool=$target/debug/mkinitramfs
init=$target/guest/$triple/release/dataplane-init
wanted="$version $(cat "$tool" "$init" | sha256sum | cut -d ' ' -f 1)"
stamp=bin/.initrd.stamp
if [ -f bin/vmlinux ] && [ -f bin/initrd.img ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
	exit 0
fi
"$tool" --kernel-package "$cache/$version" --init "$init" --vmlinux bin/vmlinux --initrd bin/initrd.img
echo "$wanted" >"$stamp"
