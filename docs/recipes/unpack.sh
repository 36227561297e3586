#!/usr/bin/env bash
# Unpack into a folder exactly what would be sent.
#   bash unpack.sh ./ctx ./seen
# Into a machine or an image the same way: … | ssh host 'tar -xz', … | docker build -
set -euo pipefail # a pipe fails where any part of it does

mkdir -p -- "$2"
e2b-upload pack -o - -- "$1" | tar -xzf - -C "$2"
