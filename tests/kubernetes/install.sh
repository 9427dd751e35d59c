#!/usr/bin/env bash
# Installs what the tests of this directory run, below .tools/kubernetes: helm, kubeconform and JSON schemas. With
# KUBE_APISERVER=1 also a real API server, which is built from its source: that takes 13 minutes of a core.
set -euo pipefail
cd "$(dirname "$0")/../.."
tools="$PWD/.tools/kubernetes"
version=1.34.4                               # of the API server
mkdir -p "$tools"
command -v go >/dev/null || { echo "no Go: the tests of the chart will say what they lack"; exit 0; }

module() {   # downloads a module and prints its directory
  (cd "$(mktemp -d)" && go mod init x 2>/dev/null && go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
}

if [ ! -x "$tools/helm" ]; then
  echo "Installing helm ..."
  GOBIN="$tools" go install -trimpath -ldflags "-s -w" helm.sh/helm/v4/cmd/helm@v4.3.1 || true
fi
if [ ! -x "$tools/kubeconform" ]; then
  echo "Installing kubeconform ..."
  GOBIN="$tools" go install -trimpath -ldflags "-s -w" github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0 || true
fi
if [ ! -d "$tools/schemas" ]; then
  echo "Installing the schemas of Kubernetes, the Prometheus Operator and cert-manager ..."
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  {
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$scratch" kubernetes-validate==1.37.0 &&
      mkdir "$scratch/schemas" "$scratch/crds" &&
      operator=$(module github.com/prometheus-operator/prometheus-operator@v0.85.0) &&
      cp "$operator"/example/prometheus-operator-crd/*_{servicemonitors,prometheusrules}.yaml "$scratch/crds/" &&
      certificates=$(module github.com/cert-manager/cert-manager@v1.21.2) &&
      cp "$certificates"/deploy/crds/cert-manager.io_{certificates,issuers}.yaml "$scratch/crds/" &&
      chmod -R u+w "$scratch/crds" &&
      .venv/bin/python tests/kubernetes/schemas.py "$scratch"/*.whl "$scratch/crds" "$scratch/schemas" &&
      mv "$scratch/schemas" "$tools/schemas"
  } || true
fi
if [ "${KUBE_APISERVER:-}" = 1 ] && [ ! -x "$tools/kube-apiserver" ]; then
  echo "Building the API server of Kubernetes $version ..."
  build=$(mktemp -d)
  source=$(module "k8s.io/kubernetes@v$version")
  {
    # In the module of Kubernetes these are directories beside it; elsewhere they are modules of their own.
    printf 'module apiserver\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v%s\n\nreplace (\n' "$version"
    sed -n "s|^\t\(k8s.io/[a-z0-9-]*\) => ./staging/.*|\t\1 => \1 v0.${version#1.}|p" "$source/go.mod"
    printf ')\n'
  } >"$build/go.mod"
  printf 'package main\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver"\n' >"$build/main.go"
  sed -i '1i //go:build tools\n' "$build/main.go"
  stamp="-X k8s.io/component-base/version.gitVersion=v$version"
  (
    cd "$build" && go mod tidy 2>/dev/null &&
      nice go build -trimpath -ldflags "-s -w $stamp -X k8s.io/component-base/version.gitMajor=1
        -X k8s.io/component-base/version.gitMinor=$(echo "$version" | cut -d. -f2)" \
        -o "$tools/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
  ) || true
  rm -rf "$build"
fi
