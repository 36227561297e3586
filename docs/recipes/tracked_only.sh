#!/usr/bin/env bash
# Upload the files of a directory that Git tracks, in their current state, and nothing else.
#   bash tracked_only.sh ./ctx python3 presign_s3.py my-bucket ctx.tar.gz
# After the directory, pass a command that prints a presigned URL.
set -euo pipefail # a pipeline fails if any command in it fails
context=$1
shift

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# True if the file exists and no parent is a link, which could lead to untracked files.
is_there() {
  local folder=$1
  while [[ $folder == */* ]]; do
    folder=${folder%/*}
    [[ ! -L $context/$folder ]] || return 1
  done
  [[ -e $context/$1 || -L $context/$1 ]]
}

# Includes submodules. To Git, any other repository is just a directory.
tracked() {
  git -C "$context" ls-files -z --recurse-submodules |
    while IFS= read -r -d '' name; do
      is_there "$name" || continue
      if [[ -d $context/$name && ! -L $context/$name && $(ls -A -- "$context/$name") ]]; then
        printf 'Git tracks nothing in %q, but it contains files: is it a submodule?\n' "$name" >&2
        exit 1
      fi
      printf './%s\0' "$name"
    done
}

# A file that is not copied cannot be sent, whatever its name, so no patterns are needed.
tracked | tar -C "$context" --null --no-recursion -T - -cf - | tar -xpf - -C "$scratch"

ignore=(--no-ignore)
if [[ -e $context/.dockerignore || -L $context/.dockerignore ]]; then
  ignore=(--ignore-file "$context/.dockerignore")
fi
"$@" | e2b-upload build --url - "${ignore[@]}" -- "$scratch"
