#!/bin/sh
# Makes the certificates of this folder, valid for a century. For tests only: their keys are public.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
days=36500

authority() { # name
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/$1.key" -out "$1.crt" -sha256 \
        -days $days -subj "/CN=pgstream-host test $1" -addext basicConstraints=critical,CA:TRUE
}
signed() { # name, subject alternative name, digest
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$work/$1.csr" -subj "/CN=$1"
    printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\n' "$2" > "$work/extensions"
    openssl x509 -req -in "$work/$1.csr" -CA authority.crt -CAkey "$work/authority.key" -CAcreateserial \
        -CAserial "$work/serial" -out "$1.crt" -days $days "-$3" -extfile "$work/extensions"
}
selfsigned() { # name, openssl's options for key and signature
    name=$1
    shift
    openssl req -x509 -nodes -keyout "$name.key" -out "$name.crt" -days $days -subj "/CN=$name" \
        -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE "$@"
}

# Signed by an authority that is still good, and over since the year 2001.
expired() { # name, authority
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$work/$1.csr" -subj "/CN=$1"
    printf 'subjectAltName=DNS:localhost\nbasicConstraints=critical,CA:FALSE\n' > "$work/extensions"
    touch "$work/index"
    printf '[ca]\ndefault_ca=ca\n[ca]\ndatabase=%s\nnew_certs_dir=%s\nserial=%s\npolicy=any\n[any]\ncommonName=supplied\n' \
        "$work/index" "$work" "$work/number" > "$work/ca"
    openssl ca -batch -notext -create_serial -config "$work/ca" -in "$work/$1.csr" -out "$1.crt" -cert "$2.crt" \
        -keyfile "$work/$2.key" -md sha256 -startdate 20000101000000Z -enddate 20010101000000Z -extfile "$work/extensions"
}

authority authority
authority stranger
authority lasting
expired expired lasting
signed localhost DNS:localhost sha256
signed client DNS:client sha256
signed sha384 DNS:localhost sha384
selfsigned rsa -newkey rsa:2048 -sha256
selfsigned rsa-pss -newkey rsa:2048 -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1
selfsigned ed25519 -newkey ed25519
