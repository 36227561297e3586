#!/bin/sh
# List the largest items of a context, and fail if its content exceeds a number of bytes.
#   sh largest.sh ./ctx 100000000
set -eu
context=$1 limit=$2

case $limit in
  '' | *[!0123456789]*)
    echo "the limit must be a number of bytes, such as 100000000" >&2
    exit 2
    ;;
esac
e2b-upload ls --largest 10 -- "$context"
listed=$(e2b-upload ls --quiet --json -- "$context")
ask() { printf '%s\n' "$listed" | jq -r "$1"; }

# jq compares numbers of any length. Anything but true means failure.
bytes=$(ask .content_bytes)
if [ "$(ask ".content_bytes <= $limit")" != true ]; then
  echo "$bytes bytes would be sent, but only $limit are allowed" >&2
  exit 1
fi
