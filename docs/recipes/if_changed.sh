#!/bin/sh
# Upload a directory only if its archive differs from the last upload.
#   sh if_changed.sh ./ctx ctx.sha256 python3 presign_s3.py my-bucket ctx.tar.gz
# ctx.sha256 stores the digest of the last upload. After it, pass a command that prints a
# presigned URL.
set -eu
context=$1 last=$2
shift 2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# With equal times, the same files give the same bytes in every clone. If CPUs differ, add
# --compression small.
packed=$(e2b-upload pack --mtime 0 -o "$scratch/ctx.tar.gz" --json -- "$context")
sha256=$(printf '%s\n' "$packed" | jq -r .archive.sha256)
if [ -e "$last" ] && [ "$(cat <"$last")" = "$sha256" ]; then
  echo "nothing changed"
  exit
fi
"$@" | e2b-upload put "$scratch/ctx.tar.gz" --url -
printf '%s\n' "$sha256" >"$last"
