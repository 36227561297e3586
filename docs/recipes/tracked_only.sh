#!/usr/bin/env bash
# Upload what Git tracks of a folder, as it is there now, and nothing else.
#   bash tracked_only.sh ./ctx python3 presign_s3.py my-bucket ctx.tar.gz
# What follows the folder is a command that prints a presigned URL.
set -euo pipefail # a pipe fails where any part of it does
context=$1
shift

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Whether a file is there, and not by way of a link, which may lead to what is not tracked.
is_there() {
  local folder=$1
  while [[ $folder == */* ]]; do
    folder=${folder%/*}
    [[ ! -L $context/$folder ]] || return 1
  done
  [[ -e $context/$1 || -L $context/$1 ]]
}

# Of submodules, too. A repository that is none of them is to Git a folder, and no more.
tracked() {
  git -C "$context" ls-files -z --recurse-submodules |
    while IFS= read -r -d '' name; do
      is_there "$name" || continue
      if [[ -d $context/$name && ! -L $context/$name && $(ls -A -- "$context/$name") ]]; then
        printf 'Git tracks nothing in %q, and there are files: is it a submodule?\n' "$name" >&2
        exit 1
      fi
      printf './%s\0' "$name"
    done
}

# What is not copied cannot be sent, whatever its name is: no pattern has to match it.
tracked | tar -C "$context" --null --no-recursion -T - -cf - | tar -xpf - -C "$scratch"

ignore=(--no-ignore)
if [[ -e $context/.dockerignore || -L $context/.dockerignore ]]; then
  ignore=(--ignore-file "$context/.dockerignore")
fi
"$@" | e2b-upload build --url - "${ignore[@]}" -- "$scratch"
