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

# Sets `way`, and what cargo needs for it.
choose() {
    way= extra= flags=
    lines=$(plugins/rust-target.sh "$out/guest-toolchain") || exit 1
    while read -r kind value; do
        case $kind in
        way) way=$value ;;
        env) export "${value?}" ;;
        flag) flags="$flags $value" ;;
        arg) extra="$extra $value" ;;
        esac
    done <<EOT
$lines
EOT
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
