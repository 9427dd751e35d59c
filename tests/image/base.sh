#!/bin/sh
# Makes the base that tests/image builds the image on, where no registry is reached: Debian with its Python, from Debian's
# packages. Needs root, mmdebstrap and buildah. It is kept in .tools/image.
set -eu
cd "$(dirname "$0")/../.."
store=$PWD/.tools/image/store
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$store"
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/base.tar"
buildah() { command buildah --root "$store" --runroot "$work/run" "$@"; }
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/base.tar" / >/dev/null
buildah commit --quiet --rm "$container" localhost/authsvc-base >/dev/null
touch .tools/image/base.stamp
