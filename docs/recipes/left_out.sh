#!/usr/bin/env bash
# Name each file that Git tracks and that is not sent, and the pattern that keeps it back.
#   bash left_out.sh ./ctx
set -euo pipefail # a pipe fails where any part of it does

git -C "$1" -c core.quotePath=false ls-files |
  e2b-upload explain "$1" - |
  while IFS=$'\t' read -r verdict rule path; do
    if [ "$verdict" = excluded ]; then
      echo "$path: $rule"
    fi
  done
