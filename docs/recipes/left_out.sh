#!/usr/bin/env bash
# List each file that Git tracks but that is not sent, with the pattern that excludes it.
#   bash left_out.sh ./ctx
set -euo pipefail # a pipeline fails if any command in it fails

# The prefix ./ keeps a name from being an option, or the - that means standard input.
git -C "$1" ls-files -z |
  while IFS= read -r -d '' name; do printf './%s\0' "$name"; done |
  xargs -0 -r e2b-upload explain -- "$1" |
  while IFS=$'\t' read -r verdict rule path remark; do
    if [ "$verdict" = excluded ]; then
      printf '%s\n' "$rule: $path${remark:+ $remark}"
    fi
  done
