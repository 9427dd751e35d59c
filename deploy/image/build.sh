#!/bin/sh
# Builds the image authsvc, with its labels, on a base whose digest is known.
#
#   deploy/image/build.sh docker            # or podman, or buildah; further arguments go to its build command
#   BASE=python:3.13-slim@sha256:… deploy/image/build.sh docker --platform linux/amd64,linux/arm64
#
# Without BASE, the digest is looked up: by docker buildx, or by skopeo. The time in the labels is SOURCE_DATE_EPOCH, or else
# that of the commit.
set -eu
engine=${1:?name docker, podman or buildah}
shift
cd "$(dirname "$0")/../.."

tag=python:3.13-slim
if [ -z "${BASE:-}" ]; then
  case $engine in
    docker) digest=$(docker buildx imagetools inspect "$tag" --format '{{.Manifest.Digest}}') ;;
    *) digest=$(skopeo inspect --format '{{.Digest}}' "docker://$tag") ;;
  esac
  BASE=$tag@$digest
fi
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' src/authsvc/__init__.py)
revision=$(git rev-parse HEAD)
git diff --quiet HEAD || revision=$revision-dirty
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export SOURCE_DATE_EPOCH
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ 2>/dev/null ||
  date -u -r "$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ) # of macOS

# The image format of OCI has no health check.
format="--format docker"
[ "$engine" != docker ] || format=""
echo "building authsvc:$version on $BASE" >&2
# shellcheck disable=SC2086
exec "$engine" build $format -f deploy/Containerfile --build-arg BASE="$BASE" --build-arg VERSION="$version" \
  --build-arg REVISION="$revision" --build-arg CREATED="$created" -t "authsvc:$version" -t authsvc:latest "$@" .
