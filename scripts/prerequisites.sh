#!/usr/bin/env bash
# Sees that this machine can build Trilith, and installs what is missing where it may.
#
#     prerequisites.sh            to build and run
#     prerequisites.sh tests      and to test and measure beside other people's programs
#
# RocksDB is C++, and its Rust bindings are generated with libclang: beside Rust that takes
# a C++ compiler, clang with its headers, and libclang. Everything else comes with cargo.
# Tests compare with a real Redis and use the doors with the clients that people have.
set -euo pipefail

for_what=${1:-}

oldest_rust=1.95

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# The versions in order: whether $1 is at least $2.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort --version-sort | head -n 1)" = "$2" ]
}

has_libclang() {
    # The names that the bindings look for, in the places where they look.
    local found
    for folder in "${LIBCLANG_PATH:-}" /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib; do
        [ -n "$folder" ] || continue
        for found in "$folder"/libclang.so* "$folder"/libclang-*.so*; do
            [ -e "$found" ] && return 0
        done
    done
    return 1
}

if ! command -v cargo >/dev/null; then
    fail "Rust is missing: install it as https://rustup.rs says, open a new terminal, and come again."
fi
rust=$(rustc --version | cut -d ' ' -f 2)
if ! at_least "${rust%%-*}" "$oldest_rust"; then
    fail "Rust $rust is too old; $oldest_rust or newer is needed. With rustup: rustup update stable"
fi

missing=()
command -v cc >/dev/null && command -v c++ >/dev/null || missing+=(g++)
command -v clang >/dev/null || missing+=(clang)
has_libclang || missing+=(libclang-dev)
if [ "$for_what" = tests ]; then
    command -v redis-server >/dev/null || missing+=(redis-server)
    command -v redis-cli >/dev/null || missing+=(redis-tools)
    command -v curl >/dev/null || missing+=(curl)
    command -v chromium >/dev/null || missing+=(chromium)
    command -v socat >/dev/null || missing+=(socat)
    # The netcat that ends when the other side closes, and when its input ends.
    nc -h 2>&1 | grep -q -- -N || missing+=(netcat-openbsd)
    command -v wrk >/dev/null || missing+=(wrk)
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    command -v javac >/dev/null || missing+=(default-jdk-headless)
    command -v mvn >/dev/null || missing+=(maven)
    # Where nginx has its modules apart, balancing plain streams is one of them.
    command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || missing+=(nginx-light libnginx-mod-stream)
fi
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    fail "Missing: ${missing[*]} (Debian's names). Install your system's packages for them, and come again."
fi
install="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if [[ " ${missing[*]} " == *" redis-server "* ]]; then
    # Debian would start it as a service, now and after every restart of the machine. Tests
    # start their own. (Within single quotes below, so there is none in here.)
    policy=/usr/sbin/policy-rc.d
    refuse="printf \"#!/bin/sh\\nexit 101\\n\" >$policy && chmod +x $policy"
    disable="if command -v systemctl >/dev/null; then systemctl --quiet disable redis-server; fi"
    install="[ -e $policy ] || { trap \"rm $policy\" EXIT; $refuse; }; $install && $disable"
fi
if [ "$(id -u)" -eq 0 ]; then
    root=(env)
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    root=(sudo -n env)
else
    fail "Missing: ${missing[*]}. Type this, and come again:" "" "    sudo sh -c '$install'"
fi
if [ "$for_what" = tests ]; then
    echo "Installing ${missing[*]}, which building RocksDB and testing the doors take."
else
    echo "Installing ${missing[*]}, which building RocksDB takes."
fi
"${root[@]}" DEBIAN_FRONTEND=noninteractive sh -c "$install" </dev/null
