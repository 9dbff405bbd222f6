#!/bin/sh
# Puts the Python library pgstream into target/ and prints the path of a Python that has it.
#
#   tests/bench/get-library.sh
#
# The library asks for Python 3.13. Where there is only an older one, it is installed all the same: it is Python alone, and
# runs with 3.11. PYTHON names an interpreter.
set -eu

version=0.2.0
home=$(cd "$(dirname "$0")/../.." && pwd)/target/python-library-$version

python=${PYTHON:-}
for name in python3.14 python3.13 python3; do
    [ -n "$python" ] || ! "$name" -c 'import ensurepip, venv' 2> /dev/null || python=$name
done
if [ -z "$python" ]; then
    echo "error: no Python with \`venv\`" >&2
    echo "  help: apt-get install python3-venv, or name one with PYTHON=/usr/local/bin/python3.13" >&2
    exit 1
fi

if [ ! -x "$home/bin/python" ]; then
    trap 'rm -rf "$home.new"' EXIT
    rm -rf "$home.new"
    {
        "$python" -m venv "$home.new"
        "$home.new/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: \
            --ignore-requires-python "pgstream[pgvector]==$version" psycopg2-binary==2.9.13 asyncpg==0.32.0
    } >&2
    rm -rf "$home" # an interpreter that is gone leaves the folder
    mv "$home.new" "$home"
fi
echo "$home/bin/python"
