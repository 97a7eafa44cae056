#!/bin/sh
# Time to the first answer and peak memory of a C program with alexnet.yaml's library, weights in
# the page cache, on one thread: from the mapping of the file to the end of the first run, once
# with a check of every bit of the weights and once of their header alone. Fails where the peak is
# above weights, workspace and 10 MB.
#
#   benches/first_answer/run.sh [ALEXC] [ROUNDS]
set -eu
alexc=${1:-target/release/alexc}
rounds=${2:-5}
here=$(dirname "$0")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$alexc" build --quiet "$here/../../specs/alexnet.yaml" --weights random:1 -o "$folder"
cc -std=c11 -D_DEFAULT_SOURCE -O2 -I"$folder" "$here/first_answer.c" "$folder/libalexnet.a" \
    -o "$folder/first_answer"
for _ in $(seq "$rounds"); do
    for check in whole header; do
        "$folder/first_answer" "$folder/alexnet.weights" "$check"
    done
done
