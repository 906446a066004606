#!/usr/bin/env bash
# Sees that the files which tools write, and which are kept all the same, are up to date.
# It changes nothing.
set -euo pipefail

# Cargo.lock: says so itself when it would have to change.
cargo metadata --locked --format-version 1 >/dev/null

# The CRDs, which the types of crds/ write. By a test, so that nothing has to be built for this alone.
cargo test --quiet --locked --workspace --test generated >/dev/null || {
    echo "crds/*.yaml is not what the types say: UPDATE_CRDS=1 cargo test --workspace --test generated writes it, and scripts/chart.sh --update copies it" >&2
    exit 1
}

# Snapshots that a test wrote because they differ, and that nobody has looked at.
pending=$(find . -name target -prune -o -name '*.snap.new' -print)
if [ -n "$pending" ]; then
    printf 'These snapshots differ from what is kept. Look at them (cargo insta review):\n%s\n' "$pending" >&2
    exit 1
fi
