#!/usr/bin/env bash
# Checks what this workspace depends on against deny.toml: doubles, licences and sources.
#
# Advisories are checked where their database is at hand (cargo deny fetch), which takes a
# network that a build must not depend on.
set -euo pipefail

# Pinned, so that a new release of the tool never breaks a build by itself.
version=0.20.2
tools="${XDG_CACHE_HOME:-$HOME/.cache}/trilith/tools"
deny="$tools/bin/cargo-deny"

if [ "$("$deny" --version 2>/dev/null || true)" != "cargo-deny $version" ]; then
    echo "Building cargo-deny $version, once for this machine."
    # Unoptimised it builds in a minute or two and still checks in a second. It is built away
    # from the workspace, whose compiler flags are not for it.
    (
        cd /
        unset CARGO_TARGET_DIR
        CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_INCREMENTAL=false cargo install --quiet --locked \
            --profile dev --no-default-features --root "$tools" "cargo-deny@$version" </dev/null
    )
fi

checks=(bans licenses sources)
offline=()
if [ -d "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs" ]; then
    checks+=(advisories)
    offline=(--disable-fetch)
fi
exec "$deny" --log-level warn --locked check --hide-inclusion-graph "${offline[@]}" "${checks[@]}"
