#!/usr/bin/env bash
# Three nodes as plain processes on this machine, without `trilith dev` and without containers: what
# it does is what you would do on three machines.
#
#   examples/processes/cluster.sh up        starts what does not run; forms the cluster the first time
#   examples/processes/cluster.sh status    which processes run, and how the cluster is
#   examples/processes/cluster.sh down      stops them; what was written stays in the folder
#
# The programs trilith-node and trilith have to be in the PATH.
#
#   TRILITH_FOLDER         where everything is kept (./.trilith-processes)
#   TRILITH_PORT_OFFSET    is added to every port (0); node N adds 10 × (N - 1) as well
set -euo pipefail

nodes=3
folder=${TRILITH_FOLDER:-.trilith-processes}
offset=${TRILITH_PORT_OFFSET:-0}
# How many seconds nodes may take to answer, and to end.
patience=30
# The nodes that this run has started.
started=()

# The nodes get theirs as an argument.
unset TRILITH_PORT_OFFSET TRILITH_ENDPOINT

say() { printf '%s\n' "$@"; }
fail() {
    say "cluster.sh: $1" "${@:2}" >&2
    exit 1
}

grpc() { printf '127.0.0.1:%d' $((7400 + offset + 10 * ($1 - 1))); }

endpoints() {
    local node all=
    for ((node = 1; node <= nodes; node++)); do all+=${all:+,}$(grpc "$node"); done
    printf '%s' "$all"
}

# The process of a node, if it runs. A number that is left from before the last boot may by now
# belong to anybody, so the name is looked at as well.
process_of() {
    local pid
    pid=$(cat "$folder/node-$1/pid" 2>/dev/null) || return 1
    # One that has ended and that nobody has asked about is still listed, as Z. As long as one of its
    # threads is left (Zl), so are its locks and ports.
    [[ $(ps -o stat=,comm= -p "$pid" 2>/dev/null) =~ ^([^Z]|Z[^ ]*l).*\ trilith-node ]] || return 1
    printf '%s' "$pid"
}

# await WHAT COMMAND...
await() {
    local what=$1 began=$SECONDS
    shift
    until "$@"; do
        [ $((SECONDS - began)) -lt "$patience" ] || fail "after $patience s still not: $what"
        sleep 0.2
    done
}

# A process that was killed a moment ago may have looked as if it ran, so a node is started when it
# is not there, but only once.
answers() {
    if ! process_of "$1" >/dev/null; then
        [ -z "${started[$1]:-}" ] || fail "node-$1 has ended: the end of $folder/node-$1/log says why" \
            "$(tail -n 3 "$folder/node-$1/log")"
        start "$1"
    fi
    trilith --endpoint "$(grpc "$1")" ping >/dev/null 2>&1
}

has_ended() { ! process_of "$1" >/dev/null; }

start() {
    started[$1]=yes
    mkdir -p "$folder/node-$1"
    # Away from this terminal, or Ctrl-C in it would end the nodes.
    setsid trilith-node --data "$folder/node-$1/data" --name "node-$1" \
        --port-offset $((offset + 10 * ($1 - 1))) </dev/null >>"$folder/node-$1/log" 2>&1 &
    printf '%d\n' $! >"$folder/node-$1/pid"
}

up() {
    local node
    command -v trilith-node >/dev/null && command -v trilith >/dev/null ||
        fail "trilith-node and trilith are not in the PATH"
    for ((node = 1; node <= nodes; node++)); do process_of "$node" >/dev/null || start "$node"; done
    for ((node = 1; node <= nodes; node++)); do await "node-$node answers" answers "$node"; done

    # Each of these finds that it was done already, where it was. The first node creates the cluster
    # only where none of them has one: its folder may be new while the others' are not.
    local member
    member=$(member || true)
    [ -n "$member" ] || { trilith --endpoint "$(grpc 1)" cluster init && member=1; }
    for ((node = 1; node <= nodes; node++)); do
        [ "$node" = "$member" ] || trilith --endpoint "$(grpc "$node")" --timeout "${patience}s" cluster join "$(grpc "$member")"
    done
    trilith --endpoint "$(endpoints)" --timeout 60s table create default --replicas 3 --if-missing
    say "" "export TRILITH_ENDPOINT=$(endpoints)"
}

# A node that belongs to a cluster.
member() {
    local node
    for ((node = 1; node <= nodes; node++)); do
        if [ -e "$folder/node-$node/data/identity.yaml" ]; then
            printf '%s' "$node"
            return 0
        fi
    done
    return 1
}

status() {
    local node pid
    for ((node = 1; node <= nodes; node++)); do
        if pid=$(process_of "$node"); then
            say "node-$node  $(grpc "$node")  process $pid"
        else
            say "node-$node  $(grpc "$node")  does not run"
        fi
    done
    say ""
    exec trilith --endpoint "$(endpoints)" cluster status
}

down() {
    local node pid
    # One after the other, so that each hands what it leads to the others.
    for ((node = nodes; node >= 1; node--)); do
        pid=$(process_of "$node") || continue
        kill -TERM "$pid"
        await "node-$node ends" has_ended "$node"
        rm -f "$folder/node-$node/pid"
    done
}

case ${1:-} in
    up | down | status) "$1" ;;
    *)
        sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
esac
