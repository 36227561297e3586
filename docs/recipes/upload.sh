#!/bin/sh
# Upload a folder, and act on what comes of it.
#   sh upload.sh ./ctx python3 presign_s3.py my-bucket ctx.tar.gz
# What follows the folder is a command that prints a presigned URL.
set -eu
context=$1
shift

code=0
result=$("$@" | e2b-upload build --url - --json -- "$context") || code=$?
ask() { printf '%s\n' "$result" | jq -r "$1"; }

# What went wrong stands on standard error already; here is what to do about it.
# The code is a word of the store's, which a terminal might obey.
denied='.error.code // .error.http_status // "none was sent" | tostring | gsub("[^A-Za-z0-9 ]"; "?")'
case $code in
  0) ask '"stored \(.archive.files) files as \(.archive.sha256), verified by \(.verified)"' ;;
  3) echo "look at the files: nothing was sent" >&2 ;;
  5) echo "try again later" >&2 ;;
  6) echo "ask for another URL ($(ask "$denied"))" >&2 ;;
esac
exit "$code"
