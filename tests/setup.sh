#!/bin/sh
# Installs what a build needs and is not there; with the argument `test`, what the tests need as well.
# Where everything is there, nothing is run and nothing contacted.
set -eu

packages=

# need COMMAND PACKAGE
need() {
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}

# The TLS library is C in part.
need cc build-essential
if [ "${1-}" = test ]; then
    need openssl openssl
    need curl curl
    need strace strace
fi

if ! command -v "${CARGO:-cargo}" >/dev/null 2>&1; then
    echo "setup: cargo is not on the PATH: install Rust, see https://rustup.rs" >&2
    exit 1
fi
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: missing, and there is no apt-get to install it with:$packages" >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    root=
elif command -v sudo >/dev/null 2>&1; then
    root=sudo
else
    echo "setup: run this as root, or install sudo: apt-get install -y$packages" >&2
    exit 1
fi

echo "setup: installing$packages" >&2
# Package names hold no spaces, so these are meant to be split.
# shellcheck disable=SC2086
{
    $root apt-get update -qq
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $packages
} </dev/null >&2
