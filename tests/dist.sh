#!/bin/sh
# Build the wheel and the sdist with PYTHON, and run the console script as a user would have it.
set -eu
python=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m build --outdir "$scratch/dist" . >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
for archive in "$scratch"/dist/*.whl "$scratch"/dist/*.tar.gz; do
    "$python" -m venv --clear "$scratch/venv"
    "$scratch/venv/bin/python" -m pip install --quiet "$archive"
    mkdir -p "$scratch/ctx"
    echo hello >"$scratch/ctx/file"
    "$scratch/venv/bin/e2b-upload" --version
    "$scratch/venv/bin/e2b-upload" build "$scratch/ctx" --dry-run -q -o "$scratch/out.tar.gz"
    tar -xzOf "$scratch/out.tar.gz" file | grep -qx hello
    echo "$(basename "$archive"): installed and packed a folder"
done
