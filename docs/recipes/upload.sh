#!/bin/sh
# Upload a directory and handle the result.
#   sh upload.sh ./ctx python3 presign_s3.py my-bucket ctx.tar.gz
# After the directory, pass a command that prints a presigned URL.
set -eu
context=$1
shift

code=0
result=$("$@" | e2b-upload build --url - --json -- "$context") || code=$?
ask() { printf '%s\n' "$result" | jq -r "$1"; }

# The error is already on standard error. This adds what to do about it.
# The store chooses the error code, so replace characters that could control a terminal.
denied='.error.code // .error.http_status // "not sent" | tostring | gsub("[^A-Za-z0-9 ]"; "?")'
case $code in
  0) ask '"stored \(.archive.files) files as \(.archive.sha256), verified by \(.verified)"' ;;
  3) echo "check the files: nothing was sent" >&2 ;;
  5) echo "try again later" >&2 ;;
  6) echo "request another URL ($(ask "$denied"))" >&2 ;;
esac
exit "$code"
