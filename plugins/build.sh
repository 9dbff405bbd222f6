#!/bin/sh
# Builds handlers written in Rust as components, with whichever way to `wasm32-wasip2` this machine has.
#
#   plugins/build.sh NAME...         builds plugins/NAME; prints where each component is
#   plugins/build.sh --save NAME...  also keeps them in the repository, with what they were built from
#   plugins/build.sh --stamp NAME    prints what NAME is built from: a hash of each source, a line for each dependency
#
# GUEST_TOOLCHAIN=rustup|debian insists on one way.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
cargo=${CARGO:-cargo}
target=wasm32-wasip2
out=${CARGO_TARGET_DIR:-$root/target}
debian=$out/guest-toolchain

say() { echo "build.sh: $*" >&2; }
die() { say "$@"; exit 1; }
hash() { if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

stamp() {
    find "plugins/$1/Cargo.toml" "plugins/$1/src" plugins/sdk/rust/Cargo.toml plugins/sdk/rust/src wit -type f \
        ! -name tests.rs ! -path '*/sdk/rust/src/testing.rs' |
        LC_ALL=C sort | while read -r file; do hash "$file"; done
    sed -n '/^\[profile.guest\]/,/^$/p' Cargo.toml | hash - | sed 's/-$/[profile.guest]/'
    # The lines of packages outside the repository: name and version, the same on every machine.
    "$cargo" tree --package "$1" --target $target --edges normal --prefix none --format '{p}' --locked |
        sed 's/ ([^)]*)//g; s/ \*$//' | LC_ALL=C sort -u
}

has_target() { [ -d "$(${RUSTC:-rustc} --print sysroot)/lib/rustlib/$target/lib" ]; }

# The standard library's sources, of exactly this rustc, and a C library for it: both from Debian, as root or not.
fetch_debian() {
    [ -e "$debian/ready" ] && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    release=$(${RUSTC:-rustc} -vV | sed -n 's/^release: //p')
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1)
    [ -n "$mirror" ] && [ -e $keys ] || return 1
    rm -rf "$debian"
    mkdir -p "$debian/apt/lists/partial" "$debian/apt/cache/archives/partial" "$debian/deb"
    for suite in bookworm trixie trixie-backports sid; do
        echo "deb [signed-by=$keys] $mirror $suite main"
    done >"$debian/apt/sources.list"
    apt="-o Dir::Etc::sourcelist=$debian/apt/sources.list -o Dir::Etc::sourceparts=/dev/null
        -o Dir::State=$debian/apt -o Dir::State::lists=$debian/apt/lists -o Dir::Cache=$debian/apt/cache
        -o Acquire::Languages=none -o Debug::NoLocking=1 -o APT::Sandbox::User=root"
    # shellcheck disable=SC2086 # the options are words of their own
    apt-get $apt -q=2 update >&2 || return 1
    # shellcheck disable=SC2086
    version=$(apt-cache $apt madison rust-src | awk -v r="$release" '$3 ~ "^" r "[+]" { print $3; exit }')
    [ -n "$version" ] || { say "Debian has no rust-src of $release"; return 1; }
    # shellcheck disable=SC2086
    (cd "$debian/deb" && apt-get $apt -q=2 download "rust-src=$version" wasi-libc >&2) || return 1
    dpkg --fsys-tarfile "$debian"/deb/rust-src_*.deb |
        tar -x -C "$debian" --strip-components=4 --wildcards './usr/src/rustc-*/library/*' || return 1
    dpkg --fsys-tarfile "$debian"/deb/wasi-libc_*.deb |
        tar -x -C "$debian" --strip-components=3 ./usr/lib/$target || return 1
    rm -rf "$debian/apt" "$debian/deb"
    touch "$debian/ready"
}

# Sets `way`, and what cargo needs for it.
choose() {
    extra= flags=
    wanted=${GUEST_TOOLCHAIN:-}
    if [ "$wanted" != debian ]; then
        if has_target; then way="the installed target $target"; return; fi
        if command -v rustup >/dev/null && rustup target add $target >&2 && has_target; then
            way="the target $target, which rustup just added"; return
        fi
    fi
    if [ "$wanted" != rustup ] && fetch_debian; then
        way="the standard library's sources from Debian (in $debian)"
        extra="-Zbuild-std=std,panic_abort"
        flags="-Clink-self-contained=no -Lnative=$debian/$target -Clink-arg=$debian/$target/crt1-reactor.o"
        flags="$flags --remap-path-prefix=$debian=rust"
        export RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT="$debian/library"
        return
    fi
    die "there is no way to build for $target here: run \`rustup target add $target\`, with a rustup that reaches its server"
}

build() {
    packages=
    for name in "$@"; do packages="$packages --package $name"; done
    # No path of this machine may end up in a component: it would be told to whoever gets the file.
    flags="$flags --remap-path-prefix=$root=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    flags="$flags --remap-path-prefix=$(${RUSTC:-rustc} --print sysroot)=rust"
    # Flags for all targets would replace those for this one.
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    # shellcheck disable=SC2086
    CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS="$flags" \
        "$cargo" build --quiet --locked --lib --profile guest --target $target $packages $extra >&2
}

save=
case "${1:-}" in
--stamp) stamp "${2:?name}"; exit ;;
--save) save=1; shift ;;
esac
[ $# -gt 0 ] || die "which handler? For instance \`plugins/build.sh documents-rust\`"
choose
say "building $* with $way"
build "$@"
for name in "$@"; do
    file=$(echo "$name" | tr - _).wasm
    built=$out/$target/guest/$file
    if [ -n "$save" ]; then
        kept=plugins/$name/${name%-rust}.wasm
        cp "$built" "$kept"
        { stamp "$name"; hash "$kept"; } >"$kept.built-from"
        built=$root/$kept
    fi
    echo "$built"
done
