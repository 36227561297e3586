#!/usr/bin/env bash
# Upload a folder without what Git does not track there.
#   bash tracked_only.sh ./ctx python3 presign_s3.py my-bucket ctx.tar.gz
# What follows the folder is a command that prints a presigned URL.
set -euo pipefail # a pipe fails where any part of it does
context=$1
shift

ignored=
if [ -e "$context/.dockerignore" ]; then
  ignored=$(cat "$context/.dockerignore")
fi
# As patterns: from the context's root on, and no character of a name means more than itself.
untracked=$(git -C "$context" ls-files -z --others --directory |
  tr '\0' '\n' | sed 's/[][*?\\!]/\\&/g; s/^/\//')

E2B_UPLOAD_URL=$("$@")
export E2B_UPLOAD_URL # standard input is for the patterns
printf '%s\n' "$ignored" /.git "$untracked" | e2b-upload build "$context" --ignore-file -
