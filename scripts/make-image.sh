#!/bin/bash
# Makes a container image out of Debian packages, as a `docker save` archive: a layer with a real root file system and
# nginx, and a layer with its entrypoint, which also counts aloud, so that one sees whether it goes on or began anew.
#
#   scripts/make-image.sh ARCHIVE [NAME]      NAME as the archive's tag, default nginx:demo
#
# The root file system is fetched once and kept in .cache/; needs mmdebstrap and jq.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
archive=${1:?usage: scripts/make-image.sh ARCHIVE [NAME]}
name=${2:-nginx:demo}
layer=$root/.cache/images/nginx-layer.tar
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ ! -s "$layer" ]; then
	mkdir -p "$(dirname "$layer")"
	suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016  # mmdebstrap itself puts the directory in for $1
	mmdebstrap --quiet --format=tar --variant=minbase --include=nginx-light \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--customize-hook='ln -sf /dev/stdout "$1/var/log/nginx/access.log"' \
		--customize-hook='ln -sf /dev/stderr "$1/var/log/nginx/error.log"' \
		"$suite" "$layer.new"
	mv "$layer.new" "$layer"
fi

mkdir "$work/top"
cat >"$work/top/entrypoint" <<'END'
#!/bin/sh
echo "nginx starts on $(hostname), $(uname -sr), as process $$, NODE_ENV=$NODE_ENV"
(
	n=0
	while sleep 0.2; do
		n=$((n + 1))
		echo "count $n"
	done
) &
exec "$@"
END
chmod 755 "$work/top/entrypoint"
tar -C "$work/top" --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name -cf "$work/entrypoint.tar" entrypoint

digest() { echo "sha256:$(sha256sum "$1" | cut -d' ' -f1)"; }
jq -cn --arg layer "$(digest "$layer")" --arg top "$(digest "$work/entrypoint.tar")" '{
	architecture: "amd64", os: "linux",
	config: {
		Entrypoint: ["/entrypoint"], Cmd: ["nginx", "-g", "daemon off;"], StopSignal: "SIGQUIT",
		Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], ExposedPorts: {"80/tcp": {}}
	},
	rootfs: {type: "layers", diff_ids: [$layer, $top]}
}' >"$work/config"
config=$(sha256sum "$work/config" | cut -d' ' -f1).json
mv "$work/config" "$work/$config"
ln "$layer" "$work/layer.tar" 2>/dev/null || cp "$layer" "$work/layer.tar"
jq -cn --arg config "$config" --arg name "$name" \
	'[{Config: $config, RepoTags: [$name], Layers: ["layer.tar", "entrypoint.tar"]}]' >"$work/manifest.json"
tar -C "$work" -cf "$archive" "$config" layer.tar entrypoint.tar manifest.json
