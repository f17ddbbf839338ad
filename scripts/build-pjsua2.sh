#!/usr/bin/env bash
# Builds pjsua2 for one Python interpreter, from the PJSIP source inside Debian's asterisk source package.
#
#   scripts/build-pjsua2.sh [PYTHON]        default: python3
#
# Takes about 2.5 minutes on 2 cores and 500 MB while it runs. The result stays in the user's cache folder, one
# folder for each PJSIP version and interpreter, where telbridge finds it by itself. Runs on Debian and its kin.
#
#   DEBIAN_SUITE=sid        which suite's source package
#   DEBIAN_MIRROR=URL       where to take it from; default: the mirror in this machine's apt sources
#   KEEP=1                  keep the build folder and say where it is
set -euo pipefail

python=$(command -v "${1:-python3}") || { echo "no such Python: ${1:-python3}" >&2; exit 2; }
python=$(realpath --no-symlinks "$python") # a venv's python is a symlink, and must stay one
suite=${DEBIAN_SUITE:-sid}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/telbridge/pjsua2
max_calls=1024

say() { echo "pjsua2: $*" >&2; }
die() { say "$*"; exit 1; }

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
work=$(mktemp -d "${TMPDIR:-/tmp}/pjsua2-build.XXXXXX")
finish() { if [ -n "${KEEP:-}" ]; then say "build folder kept: $work"; else rm -rf "$work"; fi; }
trap finish EXIT

install_missing() {
    # What each is for: compilers and make, the Python glue, TLS, SRTP, the Opus codec, UUIDs, the source archive.
    local wanted=(gcc g++ make swig libssl-dev libsrtp2-dev libopus-dev uuid-dev xz-utils dpkg-dev)
    local missing=() package
    for package in "${wanted[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing what the build needs: ${missing[*]}"
    # `make test` installs the tests' packages meanwhile, and apt takes one at a time.
    if command -v flock >/dev/null; then exec 9>"${TMPDIR:-/tmp}/telbridge-apt-$(id -u).lock"; flock 9; fi
    "${as_root[@]}" apt-get -qq update
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    exec 9>&-
}

fetch_source() {
    # An apt state of its own: the system's sources and lists stay as they are. apt verifies the signature.
    local mirror
    mirror=${DEBIAN_MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{sources,list} 2>/dev/null |
        grep -v '^ *#' | grep -oE '(https?|file)://[^ ]*/debian/?( |$)' | head -n 1 | tr -d ' ' || true)}
    [ -n "$mirror" ] || die "no Debian mirror in this machine's apt sources: give one as DEBIAN_MIRROR="
    mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/source"
    echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
    local options=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State=$work/apt" -o "Dir::Cache=$work/apt"
        -o Acquire::Check-Valid-Until=false) # some mirrors lag behind sid
    [ "$(id -u)" != 0 ] || options+=(-o APT::Sandbox::User=root) # _apt may not write in a private folder
    apt-get "${options[@]}" -qq update
    (cd "$work/source" && apt-get "${options[@]}" -qq source --download-only asterisk)
    mkdir "$work/tree"
    tar -C "$work/tree" --strip-components=1 -xf "$work"/source/asterisk_*orig-Xpjproject.tar.xz
}

configure_source() {
    cat >pjlib/include/pj/config_site.h <<EOF
#define PJSUA_MAX_CALLS          $max_calls
#define PJSUA_MAX_ACC            64
#define PJSUA_MAX_PLAYERS        8
#define PJSUA_MAX_RECORDERS      8
#define PJSUA_MAX_CONF_PORTS     (2 * PJSUA_MAX_CALLS + 52)
#define PJ_IOQUEUE_MAX_HANDLES   (8 * PJSUA_MAX_CALLS)
#define PJSIP_MAX_TSX_COUNT      8191
#define PJSIP_MAX_DIALOG_COUNT   4095
#define PJSIP_UDP_SO_SNDBUF_SIZE (1 << 22)
#define PJSIP_UDP_SO_RCVBUF_SIZE (1 << 22)
#define PJMEDIA_HAS_VIDEO        0
#define PJ_LOG_MAX_LEVEL         4
EOF
    # Debian strips what it may not ship; a file that the makefile still names is left empty.
    local object
    for object in $(sed -n '/PJMEDIA_AUDIODEV_OBJS/,/[^\\]$/p' pjmedia/build/Makefile | grep -oE '[a-z_0-9]+\.o'); do
        compgen -G "pjmedia/src/pjmedia-audiodev/${object%.o}.*" >/dev/null ||
            : >"pjmedia/src/pjmedia-audiodev/${object%.o}.c"
    done
    local flags="-O2 -fPIC -DNDEBUG"
    ./configure CFLAGS="$flags" CXXFLAGS="$flags" --enable-epoll --with-external-srtp --disable-video \
        --disable-sound --disable-resample --disable-speex-codec --disable-speex-aec --disable-ilbc-codec \
        --disable-gsm-codec --disable-g7221-codec --disable-libwebrtc --disable-libwebrtc-aec3 --disable-libyuv \
        --disable-v4l2 --disable-sdl --disable-ffmpeg --disable-openh264 --disable-vpx --disable-bcg729 \
        --disable-silk --disable-lyra --disable-upnp
}

compile() {
    # distutils left the standard library with 3.12: the glue's setup.py needs setuptools.
    make dep &&
        { make -j"$(nproc)" lib || make -j"$(nproc)"; } &&
        "$python" -m venv "$work/venv" &&
        "$work/venv/bin/pip" --quiet install setuptools &&
        make -C pjsip-apps/src/swig/python PYTHON_EXE="$work/venv/bin/python"
}

logged() { # NAME COMMAND…: its output goes to a log, whose end is shown if it fails
    "${@:2}" >"$work/$1.log" 2>&1 || { tail -n 25 "$work/$1.log" >&2; die "$1 failed"; }
}

tag=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("SOABI"))')
[ -x "$(command -v apt-get)" ] || die "needs Debian or a system of its kind (apt-get)"
if [ -z "${REBUILD:-}" ]; then
    present=$(compgen -G "$cache/*-$tag/_pjsua2*.so" | sort -V | tail -n 1 || true)
    if [ -n "$present" ]; then
        say "already there: $(dirname "$present") (REBUILD=1 builds anew)"
        exit 0
    fi
fi

install_missing
fetch_source
cd "$work/tree"
version=$(sed -n 's/^export PJ_VERSION_\(MAJOR\|MINOR\|REV\) *:= *\([0-9]*\) *$/\2/p' version.mak | grep . | paste -sd.)
say "building $version for $tag"
logged configure configure_source
logged compile compile

result=$cache/$version-$tag
mkdir -p "$cache"
staging=$(mktemp -d "$cache/.staging.XXXXXX")
cp pjsip-apps/src/swig/python/build/lib*/{_pjsua2*.so,pjsua2.py} "$staging/"
chmod 755 "$staging"
(cd "$staging" && "$python" -c 'import pjsua2; c = pjsua2.EpConfig(); assert c.uaConfig.maxCalls == '"$max_calls") ||
    { rm -rf "$staging"; die "the result does not load"; }
rm -rf "$staging/__pycache__" "$result"
mv -T "$staging" "$result"
say "built: $result"
