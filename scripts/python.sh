#!/usr/bin/env bash
# Makes a Python of its own for a file of pinned requirements, in the user's cache folder, and
# prints where it is.
#
#     scripts/python.sh NAME REQUIREMENTS
#
# A second run with the same pins does nothing. It counts only when it is whole, so an
# interrupted run leaves nothing that looks so.
set -euo pipefail

name=$1
requirements=$2
python=${XDG_CACHE_HOME:-$HOME/.cache}/trilith/$name-$(sha256sum <"$requirements" | cut -c 1-16)
if [ ! -e "$python/whole" ]; then
    echo "Installing ${name##*/}, once for this machine." >&2
    rm -rf "$python"
    python3 -m venv "$python" >&2
    "$python/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
    touch "$python/whole"
fi
printf '%s\n' "$python"
