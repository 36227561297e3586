#!/bin/sh
# List what weighs most in a folder, and fail where all of it is more than so many bytes.
#   sh largest.sh ./ctx 100000000
set -eu
context=$1 limit=$2

listed=$(e2b-upload ls --largest 10 --json -- "$context")
ask() { printf '%s\n' "$listed" | jq "$@"; }

# In quotes: a name may hold anything, a line break as well.
ask -r '.largest[] | "\(.bytes)\t\(.path | tojson)"'
# shellcheck disable=SC2016 # the variable is jq's
if ! ask -e --argjson limit "$limit" '.content_bytes <= ($limit | tonumber)' >/dev/null; then
  echo "$(ask .content_bytes) bytes would be sent, $limit are allowed" >&2
  exit 1
fi
