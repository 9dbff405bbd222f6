#!/bin/sh
# How this machine builds Rust for `wasm32-wasip2`: the installed target, or the sources of the standard library from
# Debian, or the target that rustup adds now.
#
#   rust-target.sh FOLDER    FOLDER is where Debian's sources are kept; they are fetched only if need be
#
# Prints a line for each thing that cargo needs, which a program can read as well as `plugins/build.sh`:
#
#   way TEXT         which way it is, for people
#   env NAME=VALUE   goes into the environment
#   flag FLAG        is a flag of rustc for the target
#   arg ARGUMENT     is an argument of `cargo build`
#
# GUEST_TOOLCHAIN=rustup|debian insists on one way.
set -eu
debian=${1:?where to keep what is fetched}
target=wasm32-wasip2
rustc=${RUSTC:-rustc}

has_target() { [ -d "$($rustc --print sysroot)/lib/rustlib/$target/lib" ]; }

# The standard library's sources, of exactly this rustc, and a C library for it: both from Debian, as root or not.
fetch_debian() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    release=$($rustc -vV | sed -n 's/^release: //p')
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
    [ -n "$mirror" ] && [ -e $keys ] || return 1
    # Another build may do the same at the same time: each into a folder of its own, the first one stays.
    part=$debian.$$
    rm -rf "$part"
    mkdir -p "$part/apt/lists/partial" "$part/apt/cache/archives/partial" "$part/deb"
    trap 'rm -rf "$part"' EXIT
    for suite in bookworm trixie trixie-backports sid; do
        echo "deb [signed-by=$keys] $mirror $suite main"
    done >"$part/apt/sources.list"
    fetch() {
        "$@" -o "Dir::Etc::sourcelist=$part/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
            -o "Dir::State=$part/apt" -o "Dir::State::lists=$part/apt/lists" -o "Dir::Cache=$part/apt/cache" \
            -o Acquire::Languages=none -o Debug::NoLocking=1 -o APT::Sandbox::User=root
    }
    fetch apt-get -q=2 update >&2 || return 1
    version=$(fetch apt-cache madison rust-src | awk -v r="$release" '$3 ~ "^" r "[+]" { print $3; exit }')
    [ -n "$version" ] || { echo "rust-target.sh: Debian has no rust-src of $release" >&2; return 1; }
    (cd "$part/deb" && fetch apt-get -q=2 download "rust-src=$version" wasi-libc >&2) || return 1
    dpkg --fsys-tarfile "$part"/deb/rust-src_*.deb |
        tar -x -C "$part" --strip-components=4 --wildcards './usr/src/rustc-*/library/*' || return 1
    dpkg --fsys-tarfile "$part"/deb/wasi-libc_*.deb |
        tar -x -C "$part" --strip-components=3 ./usr/lib/$target || return 1
    rm -rf "$part/apt" "$part/deb"
    touch "$part/ready"
    [ -e "$debian/ready" ] || { rm -rf "$debian" && mv "$part" "$debian"; }
}

from_debian() {
    echo "way the standard library's sources from Debian"
    echo "env RUSTC_BOOTSTRAP=1"
    echo "env __CARGO_TESTS_ONLY_SRC_ROOT=$debian/library"
    echo "flag -Clink-self-contained=no"
    echo "flag -Lnative=$debian/$target"
    echo "flag -Clink-arg=$debian/$target/crt1-reactor.o"
    echo "flag --remap-path-prefix=$debian=rust" # no path of this machine belongs into a component
    echo "arg -Zbuild-std=std,panic_abort"
    exit
}

wanted=${GUEST_TOOLCHAIN:-}
if [ "$wanted" != debian ]; then
    if has_target; then echo "way the installed target $target"; exit; fi
    if [ "$wanted" != rustup ] && [ -e "$debian/ready" ]; then from_debian; fi # rather than waiting for a server again
    if command -v rustup >/dev/null && rustup target add $target >&2 && has_target; then
        echo "way the target $target, which rustup just added"
        exit
    fi
fi
if [ "$wanted" != rustup ] && { [ -e "$debian/ready" ] || fetch_debian; }; then from_debian; fi
echo "there is no way to build for $target here: run \`rustup target add $target\`, with a rustup that reaches its server" >&2
exit 1
