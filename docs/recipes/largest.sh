#!/bin/sh
# List what weighs most in a folder, and fail where all of it is more than so many bytes.
#   sh largest.sh ./ctx 100000000
set -eu
context=$1 limit=$2

listed=$(e2b-upload ls "$context" --largest 10 --json)
ask() { printf '%s\n' "$listed" | jq -r "$1"; }

ask '.largest[] | "\(.bytes)\t\(.path)"'
bytes=$(ask .content_bytes)
if [ "$bytes" -gt "$limit" ]; then
  echo "$bytes bytes would be sent, $limit are allowed" >&2
  exit 1
fi
