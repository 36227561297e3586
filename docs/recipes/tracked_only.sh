#!/usr/bin/env bash
# Upload a folder without what Git does not track there.
#   bash tracked_only.sh ./ctx python3 presign_s3.py my-bucket ctx.tar.gz
# What follows the folder is a command that prints a presigned URL.
set -euo pipefail # a pipe fails where any part of it does
context=$1
shift

options=()
if [ -e "$context/.dockerignore" ]; then # it holds, tracked or not
  options+=("--ignore-file=$context/.dockerignore")
fi

# A copy of what is tracked, rather than patterns for what is not: no name is odd enough to slip
# through. Not recursive: of a submodule Git tracks that it is there, and nothing in it.
tracked=$(mktemp -d)
trap 'rm -rf "$tracked"' EXIT
git -C "$context" ls-files -z |
  tar -C "$context" --null --no-recursion -cf - -T - |
  tar -C "$tracked" -xpf -

"$@" | e2b-upload build "$tracked" --url - "${options[@]}"
