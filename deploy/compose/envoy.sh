#!/bin/sh
# Starts Envoy with deploy/envoy/envoy.yaml, in which only the addresses and the file of the key are changed.
set -eu
sed -e 's|address: 127.0.0.1, port_value: 8080|address: 0.0.0.0, port_value: 8080|' \
  -e 's|address: 127.0.0.1, port_value: 8000|address: app, port_value: 8000|' \
  -e 's|address: 127.0.0.1, port_value: 50051|address: authsvc, port_value: 50051|' \
  -e 's|filename: gateway.key|filename: /run/secrets/gateway-key|' \
  "${ENVOY_SOURCE:-/etc/envoy/source.yaml}" >"${ENVOY_FILE:=/tmp/envoy.yaml}"
exec envoy -c "$ENVOY_FILE" "$@"
