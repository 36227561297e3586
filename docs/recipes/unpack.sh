#!/usr/bin/env bash
# Unpack exactly what would be sent into a directory.
#   bash unpack.sh ./ctx ./seen
# You can also pipe it to another machine or an image: … | ssh host 'tar -xz', … | docker build -
set -euo pipefail # a pipeline fails if any command in it fails

mkdir -p -- "$2"
e2b-upload pack -o - -- "$1" | tar -xzf - -C "$2"
