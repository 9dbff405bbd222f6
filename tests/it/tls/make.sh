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

authority authority
authority stranger
signed localhost DNS:localhost sha256
signed client DNS:client sha256
signed sha384 DNS:localhost sha384
selfsigned rsa -newkey rsa:2048 -sha256
selfsigned rsa-pss -newkey rsa:2048 -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1
selfsigned ed25519 -newkey ed25519
