#!/bin/sh
# Starts deploy/compose.yaml. It can be run again: what is there stays as it is.
#
#   deploy/compose/start.sh
#
# Secrets and keys are in deploy/secrets. To begin anew: `docker compose -f deploy/compose.yaml down --volumes`, then
# remove that directory.
set -eu
cd "$(dirname "$0")/.."

compose() { docker compose -f compose.yaml "$@"; }

# Write standard input into a file, which is there as a whole or not at all.
keep() {
  cat >"secrets/$1.new"
  if ! [ -s "secrets/$1.new" ]; then
    rm -f "secrets/$1.new"
    echo "start.sh: there is nothing to write into deploy/secrets/$1; see the message above" >&2
    exit 1
  fi
  mv "secrets/$1.new" "secrets/$1"
}

# Characters that need no escape in a URL.
password() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

# Containers read the files as users of their own; nobody else can enter the directory.
umask 022
mkdir -p secrets
chmod 700 secrets
for name in postgres-password owner-password server-password grafana-password; do
  [ -s "secrets/$name" ] || password | keep "$name"
done
url() { printf 'postgresql://%s:%s@postgres/authsvc' "$1" "$(cat "secrets/$2")"; }
[ -s secrets/database-url ] || url authsvc_server server-password | keep database-url
[ -s secrets/migration-database-url ] || url authsvc_owner owner-password | keep migration-database-url
# Compose refuses a secret whose file does not exist, also for services that are not started yet.
touch secrets/admin-key secrets/gateway-key

compose build
compose up --detach --wait authsvc
[ -s secrets/admin-key ] || compose run --rm -T bootstrap | keep admin-key
[ -s secrets/gateway-key ] || compose run --rm -T authsvc-cli keys create authsvc gateway \
  --scope keys:verify --scope sessions:verify | tr -d '\n' | keep gateway-key
compose up --detach --wait

cat <<'END'
gRPC is at 127.0.0.1:50051, HTTP and the console at http://127.0.0.1:8090/. The administrator key is in
deploy/secrets/admin-key.
Envoy is at http://127.0.0.1:8080/: 401 without a key.
Prometheus is at http://127.0.0.1:9090/, Grafana at http://127.0.0.1:3000/: user admin, and the password in
deploy/secrets/grafana-password.
END
