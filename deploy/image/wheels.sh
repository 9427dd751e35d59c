#!/bin/sh
# Checks that each locked dependency has a wheel for Linux on x86-64 and on ARM, for the Python of the image. It installs
# nothing: pip reads the metadata of the wheels.
set -eu
cd "$(dirname "$0")/../.."
python=$(sed -n 's/^ARG BASE=python:\([0-9.]*\)-slim$/\1/p' deploy/Containerfile | head -n 1)
for machine in x86_64 aarch64; do
  "${PYTHON:-python3}" -m pip --disable-pip-version-check install --quiet --dry-run --no-deps --ignore-installed \
    --target /nonexistent --only-binary :all: --require-hashes --implementation cp --python-version "$python" \
    --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
    -r requirements.lock
  echo "Python $python on $machine: all wheels exist"
done
