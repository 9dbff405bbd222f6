#!/bin/sh
# Writes the bindings in internal/bindings and internal/bytecodealliance anew, from ../wit. Only needed when the contract
# changes; what it writes is kept in the repository, so that a build needs nothing but Go.
#
# Needs Go, and `wit-bindgen` with its sources:
#   cargo install wit-bindgen-cli --version 0.63.0 --locked --no-default-features --features go
set -eu
cd "$(dirname "$0")"
version=0.63.0
module=github.com/pgstream-host/pgstream-host/plugins/sdk/go
wit-bindgen --version | grep -qF "$version" || { echo "generate.sh: wit-bindgen $version is needed" >&2; exit 1; }
source=$(echo "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/wit-bindgen-go-$version/src/pkg)
[ -d "$source" ] || { echo "generate.sh: the sources of wit-bindgen-go $version are not in cargo's registry" >&2; exit 1; }

rm -rf internal/bindings internal/bytecodealliance
mkdir -p internal/bindings internal/bytecodealliance
wit-bindgen go -w handler ../wit --out-dir internal/bindings
rm internal/bindings/go.mod
for part in runtime types async; do cp -R "$source/wit/$part" internal/bytecodealliance/; done
cp "$source/LICENSE" internal/bytecodealliance/LICENSE
# Futures and streams are not in our world.
rm -r internal/bytecodealliance/async internal/bytecodealliance/types/stream.go internal/bytecodealliance/types/future.go

# Inside this module, as a library instead of a program, and for components only.
find internal/bindings internal/bytecodealliance -name '*.go' | while read -r file; do
    sed -e "s|\"go.bytecodealliance.org/pkg/wit/|\"$module/internal/bytecodealliance/|" \
        -e "s|\"wit_component/export_wit_world\"|export_wit_world \"$module/internal/exports\"|" \
        -e "s|\"wit_component/|\"$module/internal/bindings/|" \
        -e 's|^package main$|package bindings|' \
        -e '/^\/\/ Unused, but present to make the compiler happy$/d' -e '/^func main() {}$/d' \
        "$file" >"$file.new"
    { printf '//go:build wasip1\n\n'; cat "$file.new"; } >"$file"
    rm "$file.new"
done
gofmt -w internal/bindings internal/bytecodealliance
