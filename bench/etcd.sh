#!/usr/bin/env bash
# Builds the etcd that benchmarks compare with, and prints where it is.
#
# etcd comes as a Go module, pinned by bench/etcd/go.mod and checked against
# go.sum, so a machine needs only Go and a module proxy. The program lands in the
# user's cache folder, stamped with the pins it was built from: a second run with
# the same pins does nothing, a changed pin builds again.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
out=${TRILITH_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/trilith/tools}
pins=$(cat "$here/etcd/go.mod" "$here/etcd/go.sum" | sha256sum | cut -c1-16)
stamp=$out/.etcd.$pins

if [ -x "$out/etcd" ] && [ -f "$stamp" ]; then
  echo "$out/etcd"
  exit 0
fi

if ! command -v go >/dev/null; then
  wanted=$(sed -n 's/^go //p' "$here/etcd/go.mod")
  echo "etcd.sh: Go is missing, and etcd is built from source. Install Go $wanted or newer" >&2
  echo "         (https://go.dev/doc/install) and run this again, or give the benchmark an" >&2
  echo "         etcd of your own with --etcd PATH." >&2
  exit 1
fi

version=$(sed -n 's#.*go.etcd.io/etcd/server/v3 \(v[^ ]*\).*#\1#p' "$here/etcd/go.mod")
echo "etcd.sh: building etcd $version (a few minutes the first time)" >&2
mkdir -p "$out"
# The program is built beside its place and then renamed, so an interrupted build
# never leaves half a program that looks whole.
(cd "$here/etcd" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags '-s -w' \
  -o "$out/etcd.new" go.etcd.io/etcd/server/v3)
mv "$out/etcd.new" "$out/etcd"
rm -f "$out"/.etcd.*
touch "$stamp"
echo "$out/etcd"
