#!/usr/bin/env bash
# A real Asterisk for `make interop`, in a folder of its own: Debian's next release (sid) has one, the present
# ones have none. Needs root and debootstrap; nothing outside of the folder is changed.
#   interop-asterisk.sh make DIR                  Debian sid with Asterisk in DIR (about 700 MB, two minutes)
#   interop-asterisk.sh run DIR FOLDER COMMAND…   COMMAND in there, FOLDER being its /interop
# The tests take it from TELBRIDGE_ASTERISK=DIR.
set -euo pipefail

usage() { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }

make_in() {
  local dir=$1 mirror
  mirror=$(grep -rhE '^(deb|URIs:) ' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null |
    grep -oEm 1 'https?://[^ ]+/debian') || true
  mirror=${DEBIAN_MIRROR:-$mirror}
  [ -n "$mirror" ] || { echo "no Debian mirror in this machine's apt sources: give one as DEBIAN_MIRROR=" >&2; exit 1; }
  [ -x "$dir/bin/sh" ] || debootstrap --variant=minbase sid "$dir" "$mirror"
  # No service is to start, and a mirror's sid may be older than its own expiry date.
  printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
  chmod +x "$dir/usr/sbin/policy-rc.d"
  printf 'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n' >"$dir/etc/apt/apt.conf.d/90interop"
  chroot "$dir" env LC_ALL=C.UTF-8 apt-get -qq update
  chroot "$dir" env LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    apt-get -qq install -y --no-install-recommends asterisk asterisk-modules asterisk-core-sounds-en-wav
  chroot "$dir" asterisk -V
}

run_in() {
  local dir=$1 folder=$2
  shift 2
  mkdir -p "$dir/interop"
  touch "$dir/etc/resolv.conf" "$dir/etc/hosts"
  # The mounts are the command's own and end with it. It resolves no names: Asterisk asks for its own address
  # at each call, and would wait for servers that it cannot reach.
  printf '127.0.0.1 localhost %s\n' "$(hostname)" >"$folder/hosts"
  # shellcheck disable=SC2016 # the inner shell's variables
  exec unshare --mount --propagation private bash -c '
    dir=$1 folder=$2
    shift 2
    mount --bind "$folder" "$dir/interop"
    mount --bind /dev "$dir/dev"
    mount -t proc proc "$dir/proc"
    mount --bind /dev/null "$dir/etc/resolv.conf"
    mount --bind "$folder/hosts" "$dir/etc/hosts"
    exec chroot "$dir" env LC_ALL=C.UTF-8 HOME=/root "$@"' run "$dir" "$folder" "$@"
}

case "${1:-}" in
make) [ $# = 2 ] || usage; make_in "$2" ;;
run) [ $# -ge 4 ] || usage; run_in "${@:2}" ;;
*) usage ;;
esac
