#!/usr/bin/env bash
# Has schemathesis try the REST door of a real node: requests made from the OpenAPI document
# that the node serves, good ones and bad ones. It fails where an answer is a 5xx, or is none
# that the document announces: status, media type, headers and schema.
#
#     scripts/schemathesis.sh [EXAMPLES]     for each operation and way of making them
#
# The node listens on loopback, keeps its data in a folder that is deleted, and ends with this.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
examples=${1:-15}
# The same examples each time: a build fails for what was changed, not by chance.
seed=${SCHEMATHESIS_SEED:-7}
binaries=${CARGO_TARGET_DIR:-$here/../target}/debug
python=$("$here/python.sh" tools/schemathesis "$here/schemathesis/requirements.txt")

scratch=$(mktemp --directory)
dev=
clean() {
    if [ -n "$dev" ]; then
        kill -INT "$dev" 2>/dev/null || true
        wait "$dev" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap clean EXIT
# Without these the shell would leave the node behind.
trap 'exit 130' INT
trap 'exit 143' TERM

# Somewhere that is free: several may run on one machine, and a port that is taken is an error
# that `trilith dev` names.
for _ in 1 2 3 4 5; do
    offset=$((8000 + RANDOM % 12000))
    # Its own group of signals: Ctrl-C is for this script, which ends it in order.
    set -m
    "$binaries/trilith" dev --nodes 1 --data "$scratch/data" --port-offset "$offset" \
        >"$scratch/dev" 2>&1 </dev/null &
    dev=$!
    set +m
    for _ in $(seq 600); do
        if grep -qx ready "$scratch/dev"; then
            break 2
        fi
        kill -0 "$dev" 2>/dev/null || break
        sleep 0.1
    done
    dev=
done
if [ -z "$dev" ]; then
    cat "$scratch/dev" >&2
    exit 1
fi

cd "$scratch"
export SCHEMATHESIS_HOOKS=hooks PYTHONPATH=$here/schemathesis PYTHONDONTWRITEBYTECODE=1 NO_PROXY=127.0.0.1
status=0
# How many of its own drafts it throws away, which differs from run to run, is no fault of the door.
# A watch that is not refused never ends, and nobody waits for that here.
"$python/bin/schemathesis" run "http://127.0.0.1:$((7402 + offset))/api/v1/openapi.json" \
    --exclude-operation-id watch --exclude-operation-id watchInTable --phases examples,coverage,fuzzing --mode all --max-examples "$examples" --seed "$seed" \
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,allow_header_conformance \
    --suppress-health-check filter_too_much --continue-on-failure --no-shrink --request-timeout 30 --warnings off --generation-database none \
    >"$scratch/said" 2>&1 || status=$?
if [ "$status" -ne 0 ]; then
    cat "$scratch/said"
    echo "What the node said last:"
    tail -n 20 "$scratch/data/node-1/log"
    exit "$status"
fi
# The end says how much was tried.
tail -n 15 "$scratch/said"
