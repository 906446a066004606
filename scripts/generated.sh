#!/usr/bin/env bash
# Sees that the files which tools write, and which are kept all the same, are up to date.
# It changes nothing.
set -euo pipefail

# Cargo.lock: says so itself when it would have to change.
cargo metadata --locked --format-version 1 >/dev/null

# Snapshots that a test wrote because they differ, and that nobody has looked at.
pending=$(find . -name target -prune -o -name '*.snap.new' -print)
if [ -n "$pending" ]; then
    printf 'These snapshots differ from what is kept. Look at them (cargo insta review):\n%s\n' "$pending" >&2
    exit 1
fi
