#!/usr/bin/env bash
# Name each file that Git tracks and that is not sent, and the pattern that keeps it back.
#   bash left_out.sh ./ctx
set -euo pipefail # a pipe fails where any part of it does

git -C "$1" ls-files -z |
  xargs -0 -r e2b-upload explain -- "$1" |
  awk -F '\t' '$1 == "excluded" { print $3 ": " $2 }'
