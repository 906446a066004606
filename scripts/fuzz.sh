#!/usr/bin/env bash
# Runs each fuzz target for so many seconds.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     20 seconds and all targets, unless told otherwise
#
# What is found lies in fuzz/artifacts, and the line that cargo-fuzz prints repeats it. What the targets
# have learnt is kept beside the tools, so that each run goes on where the last one ended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Pinned, so that a new release of the tool never breaks a build by itself.
version=0.13.1
seconds=${1:-20}
[ $# -eq 0 ] || shift
cache="${XDG_CACHE_HOME:-$HOME/.cache}/trilith"
tool="$cache/tools/bin/cargo-fuzz"

case $seconds in
    "" | *[!0-9]*)
        echo "usage: scripts/fuzz.sh [SECONDS] [TARGET...]" >&2
        exit 2
        ;;
esac
if ! rustc +nightly --version >/dev/null 2>&1; then
    echo "skipped: fuzzing takes a nightly Rust, and there is none (rustup toolchain install nightly)"
    exit 0
fi
if [ "$("$tool" --version 2>/dev/null || true)" != "cargo-fuzz $version" ]; then
    echo "Building cargo-fuzz $version, once for this machine."
    (
        cd /
        unset CARGO_TARGET_DIR
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_INCREMENTAL=false cargo install --quiet --locked \
            --profile dev --root "$cache/tools" "cargo-fuzz@$version" </dev/null
    )
fi

# Not where everything else is built: the flags differ, and neither is to wait for the other.
export CARGO_TARGET_DIR="$cache/fuzz-target"
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <("$tool" list --fuzz-dir fuzz)
for target in "${targets[@]}"; do
    mkdir -p "$cache/fuzz-corpus/$target"
    # Pieces of the syntax spare the fuzzer from guessing them.
    words=()
    [ -f "fuzz/$target.dict" ] && words=("-dict=fuzz/$target.dict")
    echo "fuzzing $target for $seconds s"
    log="$cache/fuzz-$target.log"
    if ! RUSTUP_TOOLCHAIN=nightly "$tool" run --fuzz-dir fuzz "$target" "$cache/fuzz-corpus/$target" -- \
        "-max_total_time=$seconds" -max_len=4096 -print_final_stats=1 "${words[@]}" >"$log" 2>&1; then
        tail -n 60 "$log" >&2
        exit 1
    fi
    grep -E '^(Done|stat::number_of_executed_units)' "$log"
done
