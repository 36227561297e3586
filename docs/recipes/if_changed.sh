#!/bin/sh
# Upload a folder only if its archive is another than the last that was uploaded.
#   sh if_changed.sh ./ctx ctx.sha256 python3 presign_s3.py my-bucket ctx.tar.gz
# ctx.sha256 remembers that one. What follows it is a command that prints a presigned URL.
set -eu
context=$1 last=$2
shift 2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# With one time for all, the same files are the same bytes: in every clone, on every machine.
packed=$(e2b-upload pack --mtime 0 -o "$scratch/ctx.tar.gz" --json -- "$context")
sha256=$(printf '%s\n' "$packed" | jq -r .archive.sha256)
if [ -e "$last" ] && [ "$(cat <"$last")" = "$sha256" ]; then
  echo "nothing changed"
  exit
fi
"$@" | e2b-upload put "$scratch/ctx.tar.gz" --url -
printf '%s\n' "$sha256" >"$last"
