#!/usr/bin/env bash
# Installs the Debian packages that telbridge needs, says which and why, and skips what is there.
#   system-packages.sh run     for `make run`
#   system-packages.sh test    for `make test`: the real telephones and recordings that the tests use
#   system-packages.sh interop for `make interop`: what it drives besides
# (`make pjsua2` asks for its compilers itself.) Elsewhere than on Debian or Ubuntu it says what to look for and goes on.
set -euo pipefail

case "${1:-}" in
run) wanted=(
  "python3-venv|a virtual environment of the project's own") ;;
test) wanted=(
  "gcc|compiles the way of a frame"
  "libc6-dev|what gcc needs for that"
  "sip-tester|SIPp, a SIP client that the tests drive call by call"
  "baresip-core|baresip, a softphone that the tests call with"
  "postgresql|a PostgreSQL server that the tests start for themselves, for records"
  "asterisk-core-sounds-en-wav|recorded speech at 8 kHz (CC-BY-SA-3.0)"
  "asterisk-core-sounds-en|the texts of that speech") ;;
interop) wanted=(
  "chromium|the browser that telephones"
  "debootstrap|makes the folder with a real Asterisk (Debian sid)"
  "prometheus|Prometheus, which runs the dashboards' queries, and promtool for the rules"
  "asterisk-core-sounds-en-wav|recorded speech at 8 kHz (CC-BY-SA-3.0)") ;;
*) echo "usage: $0 run|test|interop" >&2; exit 2 ;;
esac

# Any Python that can make virtual environments will do, not only Debian's.
if [ "$1" = run ] && "${PYTHON:-python3}" -c 'import venv, ensurepip' 2>/dev/null; then exit 0; fi

missing=()
for entry in "${wanted[@]}"; do
  package=${entry%%|*}
  if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
    missing+=("$package")
    echo "needs $package: ${entry#*|}"
  fi
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
  echo "no apt-get here: install the equivalents of ${missing[*]} by hand" >&2
  exit 0
fi
# `make test` builds pjsua2 meanwhile, and apt takes one at a time.
if command -v flock >/dev/null; then exec 9>"${TMPDIR:-/tmp}/telbridge-apt-$(id -u).lock"; flock 9; fi
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"
