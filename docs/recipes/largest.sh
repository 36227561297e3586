#!/bin/sh
# List what weighs most in a folder, and fail where all of it is more than so many bytes.
#   sh largest.sh ./ctx 100000000
set -eu
context=$1 limit=$2

case $limit in
  '' | *[!0123456789]*)
    echo "the limit is a number of bytes, such as 100000000" >&2
    exit 2
    ;;
esac
e2b-upload ls --largest 10 -- "$context"
listed=$(e2b-upload ls --quiet --json -- "$context")
ask() { printf '%s\n' "$listed" | jq -r "$1"; }

# By jq, whatever the number's length. Nothing but its true lets all of it pass.
bytes=$(ask .content_bytes)
if [ "$(ask ".content_bytes <= $limit")" != true ]; then
  echo "$bytes bytes would be sent, $limit are allowed" >&2
  exit 1
fi
