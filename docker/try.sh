#!/usr/bin/env bash
# Builds the images of this folder and runs what compose.yaml describes, on a machine without Docker: as root, with
# buildah, debootstrap, iproute2, and PostgreSQL and Prometheus of the machine's own in the place of their images.
#
#   docker/try.sh DIR            DIR: a fresh folder, some gigabytes; the images are kept there
#
# It ends with a call: Asterisk dials telbridge, the record is in PostgreSQL, Prometheus has the figures. Nothing
# listens outside of a network namespace of its own. Grafana has no package here and is left out.
set -euo pipefail

[ $# = 1 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
dir=$(mkdir -p "$1" && realpath "$1")
namespace=telbridge-try-$$
postgres=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
mirror=${DEBIAN_MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{sources,list} 2>/dev/null |
  grep -oE '^(deb|URIs:) .*' | grep -oE '(https?|file):[^ ]+' | head -n 1 || true)}
[ -n "$mirror" ] || { echo "no Debian mirror in this machine's apt sources: give one as DEBIAN_MIRROR=" >&2; exit 1; }
export BUILDAH_ISOLATION=chroot
telbridge='' asterisk=''

say() { echo "try: $*" >&2; }
inside() { nsenter --net="/run/netns/$namespace" "$@"; } # `ip netns exec` would hide the images' mounts
image() { buildah --root "$dir/images" --runroot "$dir/run" "$@"; }
finish() { # everything in the namespace is ours
  for signal in TERM KILL; do
    ip netns pids "$namespace" 2>/dev/null | xargs -r kill -s "$signal" 2>/dev/null || true
    for _ in $(seq 60); do [ -n "$(ip netns pids "$namespace" 2>/dev/null)" ] || break; sleep 1; done
  done
  ip netns delete "$namespace" 2>/dev/null || true
}
trap finish EXIT

base() { # SUITE NAME: in the place of Docker Hub's
  image inspect --type image "$2" >/dev/null 2>&1 && return
  say "making $2"
  [ -d "$dir/$1" ] || debootstrap --variant=minbase "$1" "$dir/$1" "$mirror" >"$dir/$1.log"
  local made
  made=$(image from scratch)
  image add -q "$made" "$dir/$1" / >/dev/null
  image commit -q "$made" "$2" >/dev/null
  image rm "$made" >/dev/null
}

build() { # NAME ARGUMENTS…; TRY_BUILD: more, such as a --volume with this machine's pip.conf
  say "building $1"
  # shellcheck disable=SC2086 # several arguments
  image bud --layers --pull-never --network host ${TRY_BUILD:-} -t "$1" "${@:2}" >"$dir/$1.log" 2>&1 ||
    { tail -n 30 "$dir/$1.log" >&2; say "$1 does not build"; exit 1; }
}

start() { # NAME IMAGE COMMAND…: a container on the namespace's network; VOLUMES: what compose mounts
  local name=$1 container
  container=$(image from --pull-never "$2")
  # shellcheck disable=SC2086 # several arguments
  inside buildah --root "$dir/images" --runroot "$dir/run" run --network host $VOLUMES "$container" -- \
    "${@:3}" >"$dir/$name.out" 2>&1 &
  printf -v "$name" %s "$container"
}

until_true() { # WHAT COMMAND…: within two minutes
  for _ in $(seq 240); do
    if "${@:2}" >/dev/null 2>&1; then say "$1"; return; fi
    sleep 0.5
  done
  tail -n 30 "$dir"/*.out >&2
  say "never: $1"
  exit 1
}

base bookworm docker.io/library/debian:bookworm-slim
base sid docker.io/library/debian:sid-slim
build telbridge --ignorefile docker/Dockerfile.dockerignore -f docker/Dockerfile .
build telbridge-asterisk docker/asterisk

ip netns add "$namespace"
inside ip link set lo up

say "PostgreSQL, on a socket alone"
rm -rf "$dir/postgres" "$dir/socket" "$dir/state" "$dir/prometheus"
mkdir -p "$dir/socket" "$dir/state" "$dir/prometheus"
install -d -o postgres "$dir/postgres"
chown postgres "$dir/socket" && chown 10001 "$dir/state"
as_postgres() { inside runuser -u postgres -- "$postgres/$1" "${@:2}"; }
as_postgres initdb -D "$dir/postgres" -U telbridge -A trust -E UTF8 >/dev/null
as_postgres pg_ctl -D "$dir/postgres" -w -l "$dir/postgres/log" -o "-c listen_addresses= -k $dir/socket" start >/dev/null
as_postgres createdb -h "$dir/socket" -U telbridge telbridge

VOLUMES="--volume $PWD/docker/telbridge:/etc/telbridge:ro --volume $dir/state:/var/lib/telbridge --volume $dir/socket:/postgres"
start telbridge telbridge tini -- telbridge serve --config telbridge.toml
VOLUMES=""
start asterisk telbridge-asterisk asterisk -f -n -vvv

healthy() { # what the image's HEALTHCHECK asks
  inside buildah --root "$dir/images" --runroot "$dir/run" run --network host "$telbridge" -- \
    python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8081/$1', timeout=3)"
}
until_true "telbridge is alive" healthy live
until_true "telbridge is ready" healthy ready
on_console() {
  inside buildah --root "$dir/images" --runroot "$dir/run" run --network host "$asterisk" -- asterisk -rx "$1"
}
trunk_is_up() { on_console "pjsip show contacts" | grep Avail; }
until_true "Asterisk knows that telbridge answers" trunk_is_up

say "Prometheus"
sed "s#/etc/prometheus/rules/#$PWD/grafana/rules/#" docker/prometheus/prometheus.yml >"$dir/prometheus.yml"
promtool check config "$dir/prometheus.yml"
inside prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/prometheus" \
  --web.listen-address=127.0.0.1:9090 >"$dir/prometheus.out" 2>&1 &

for extension in 700 701 702 703; do
  on_console "channel originate Local/$extension@from-phones application Playback demo-congrats" >/dev/null
done
recorded() {
  [ "$(as_postgres psql -h "$dir/socket" -U telbridge -Atc 'SELECT count(*) FROM calls WHERE answered')" = 4 ]
}
until_true "four calls, each another way, are in PostgreSQL" recorded
scraped() {
  inside curl -sf 'http://127.0.0.1:9090/api/v1/query?query=up%7Bjob%3D%22telbridge%22%7D' | grep '"1"\]'
}
until_true "Prometheus has the figures" scraped
as_postgres psql -h "$dir/socket" -U telbridge -c 'SELECT ingress, ending, duration_ms, worst FROM calls ORDER BY ingress'
image images
say "all of it works"
