#!/bin/sh
# Pack a folder once, and put it with another URL where the last one was refused.
#   sh fresh_url.sh ./ctx python3 presign_s3.py my-bucket ctx.tar.gz
# What follows the folder is a command that prints a presigned URL.
set -eu
context=$1
shift

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

e2b-upload pack -o "$scratch/ctx.tar.gz" -- "$context"
for url in first second third; do
  code=0
  "$@" | e2b-upload put "$scratch/ctx.tar.gz" --url - || code=$?
  case $code in
    5 | 6) echo "the $url URL did not do" >&2 ;;
    *) break ;;
  esac
done
exit "$code"
