#!/usr/bin/env bash
# Fetches the Redis clients of other languages that tests use, pinned, into the user's cache
# folder, and prints where they are: first Python with redis-py, then the folder of Jedis.
#
# A second run with the same pins does nothing. What is fetched is put in its place only when
# it is whole, so an interrupted run leaves nothing that looks so.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$("$here/../../scripts/python.sh" clients/python "$here/python/requirements.txt")

pins=$(sha256sum <"$here/jedis/pom.xml" | cut -c 1-16)
jedis=${XDG_CACHE_HOME:-$HOME/.cache}/trilith/clients/jedis-$pins
if [ ! -e "$jedis/whole" ]; then
    rm -rf "$jedis"
    # Maven's own output is for people; what it says of errors is enough here.
    mvn --quiet --batch-mode --file "$here/jedis/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$jedis" -Dmdep.useRepositoryLayout=false >&2
    touch "$jedis/whole"
fi

printf '%s\n%s\n' "$python/bin/python" "$jedis"
