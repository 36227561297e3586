#!/usr/bin/env bash
# Name each file that Git tracks and that is not sent, after the pattern that keeps it back.
#   bash left_out.sh ./ctx
set -euo pipefail # a pipe fails where any part of it does

# With ./ before it no name is an option, and none is the - that means standard input.
git -C "$1" ls-files -z |
  while IFS= read -r -d '' name; do printf './%s\0' "$name"; done |
  xargs -0 -r e2b-upload explain -- "$1" |
  while IFS=$'\t' read -r verdict rule path remark; do
    if [ "$verdict" = excluded ]; then
      printf '%s\n' "$rule: $path${remark:+ $remark}"
    fi
  done
