#!/usr/bin/env bash
# Plays the scenarios on Kubernetes: starts a cluster, brings the images there, plays, and leaves
# nothing behind, however it ends.
#
#   scripts/e2e.sh [smoke | SCENARIO...]     numbers; without one, all of them, what the operator costs among them
#
# The programs have to be built (make binaries). What came of it is kept in target/e2e
# (TRILITH_E2E_LOGS): a table, and of each scenario that failed its resources, its Events and the logs of
# every pod.
#
# TRILITH_E2E_KEEP=yes leaves the cluster running and the next run uses it, which is for work on a
# scenario; with TRILITH_E2E_KEEP_NAMESPACES=yes also what the scenario declared stays there until then. On
# an existing cluster (KUBECONFIG) the images are those of TRILITH_E2E_REGISTRY, with the tags
# dev and next, and scenarios that take machines away are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cluster=e2e/cluster/cluster
# A folder of its own: what an earlier run left there is cleared away without asking, and a cluster that
# somebody started for another reason (make kube) is in another one, and is named and left alone.
export TRILITH_CLUSTER_RUN=/tmp/trilith-e2e
cache=${XDG_CACHE_HOME:-$HOME/.cache}/trilith
logs=${TRILITH_E2E_LOGS:-target/e2e}
built=${CARGO_TARGET_DIR:-target}/debug
keep=${TRILITH_E2E_KEEP:-}
playing=

say() { printf 'e2e: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

is_existing() {
    case ${TRILITH_CLUSTER:-} in
        "") [ -n "${KUBECONFIG:-}" ] ;;
        existing) true ;;
        *) false ;;
    esac
}

# All packages at once: a choice of packages is a choice of their features, and with others the
# packages below them would be built again.
build_scenarios() {
    cargo test --locked --workspace --test kubernetes --no-run --message-format=json-render-diagnostics |
        sed -n 's/.*"kind":\["test"\].*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}

# The images of the programs as they are built now, unless this cluster has just these.
bring_images() {
    local stamp programs=(trilith-node trilith-operator trilith e2e-witness) list
    stamp=$(cat "${programs[@]/#/$built/}" Dockerfile scripts/images.sh | sha256sum | cut -c1-16)
    stamp+=" $(kubectl get namespace kube-system --output jsonpath='{.metadata.uid}')"
    [ "$(cat "$cache/images/on-cluster" 2>/dev/null || true)" != "$stamp" ] || return 0
    # The second lot is the same programs as another build: an image is another when its digest is.
    list=$(
        scripts/images.sh --binaries "$built" trilith-node trilith-operator trilith trilith-witness &&
            scripts/images.sh --binaries "$built" --tag next --revision next trilith-node trilith-operator
    )
    mapfile -t list <<<"$list"
    "$cluster" load "${list[@]}"
    # An operator that runs already was made from what had the same tag before.
    kubectl --namespace trilith-system delete pods --all --wait=false --ignore-not-found >/dev/null
    echo "$stamp" >"$cache/images/on-cluster"
}

# What a run that was killed left on a cluster that is used again.
clear_up() {
    local machine
    for machine in $("$cluster" machines); do
        # One that runs is refused; joining one that is joined changes nothing.
        "$cluster" start "$machine" 2>/dev/null || true
        "$cluster" join "$machine"
    done
    kubectl delete namespace --selector trilith-e2e --wait=false >/dev/null
    if helm list --namespace trilith-system --pending --short | grep -q .; then
        helm uninstall trilith --namespace trilith-system --wait >/dev/null
    fi
}

finish() {
    local status=$?
    trap - EXIT
    if [ -n "$playing" ]; then
        kill "$playing" 2>/dev/null || true
        wait "$playing" 2>/dev/null || true
    fi
    if [ "$status" -ne 0 ]; then
        "$cluster" logs "$logs/cluster" 2>/dev/null || true
    fi
    if [ "$keep" = yes ]; then
        say "the cluster is left running; to look at it, and to stop it:

    eval \"\$(TRILITH_CLUSTER_RUN=$TRILITH_CLUSTER_RUN $cluster env)\"
    $cluster down
"
    else
        "$cluster" down || status=1
    fi
    exit "$status"
}

main() {
    local machines=4 scenarios started=$SECONDS
    if is_existing; then
        machines=1
        [ -n "${TRILITH_E2E_REGISTRY:-}" ] ||
            fail "KUBECONFIG names a cluster, to which images cannot be brought: push them to a registry that it pulls from, and name that by TRILITH_E2E_REGISTRY"
    fi
    # First what may be missing on this machine, and may take long.
    "$cluster" build
    scenarios=$(build_scenarios)
    [ -x "$scenarios" ] || fail "cargo did not say where the scenarios are"
    rm -rf "$logs/cluster"

    trap finish EXIT
    # A shell that waits for a command hears of a signal only afterwards, so what takes long is not
    # waited for in that way.
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # Whatever is up may be of a run that was killed, with machines missing and much left to do.
    [ "$keep" = yes ] || "$cluster" down
    "$cluster" up "$machines"
    eval "$("$cluster" env)"
    if ! is_existing; then
        bring_images
        [ "$keep" != yes ] || clear_up
    fi
    say "the cluster is up with the images on it after $((SECONDS - started)) s"

    TRILITH_E2E=1 TRILITH_E2E_LOGS=$logs "$scenarios" "$@" &
    playing=$!
    wait "$playing"
    playing=
    # What the chart renders with other values than those of the scenarios, judged by an API server.
    if ! is_existing; then
        # `helm test` of a scenario leaves its pod, and a pod that is there can be no other.
        kubectl --namespace trilith-system delete pod trilith-ping --ignore-not-found >/dev/null
        scripts/chart.sh --server
    fi
    say "all of it took $((SECONDS - started)) s"
}

# Two runs would take each other's cluster away. What is started here must not hold the lock, or
# a cluster that is left running would.
mkdir -p "$cache"
exec 8>"$cache/e2e.lock"
flock --nonblock 8 || fail "another run is under way on this machine"
main "$@" 8>&-
