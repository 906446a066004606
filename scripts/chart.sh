#!/usr/bin/env bash
# Checks the Helm chart: its CRDs are the generated ones, it is well formed, it refuses values that
# it does not know, and for each set of values in charts/tests it renders what is kept there.
#
#   scripts/chart.sh            checks, and changes nothing
#   scripts/chart.sh --update   copies the CRDs, and keeps what is rendered now
#   scripts/chart.sh --server   also has the API server that kubectl points at judge what is rendered,
#                               by a dry run. CRDs and the namespaces are really made, because
#                               what is in them cannot be judged before: a cluster for tests
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=${1:-}
chart=charts/trilith
# On a machine without Helm it is built, once.
helm=$(e2e/cluster/cluster tool helm)
failed=

complain() {
    printf '%s\n' "$*" >&2
    failed=yes
}

for generated in crds/*.yaml; do
    copy=$chart/crds/${generated##*/}
    if [ "$mode" = --update ]; then
        cp "$generated" "$copy"
    elif ! cmp -s "$generated" "$copy"; then
        complain "$copy is not $generated: scripts/chart.sh --update copies it"
    fi
done

# Without a cluster to ask, Helm takes some old Kubernetes for granted.
against=(--kube-version 1.35.0)
render() { "$helm" template trilith "$chart" --namespace trilith-system "${against[@]}" --values "charts/tests/$1/values.yaml" "${@:2}"; }

if [ "$mode" = --server ]; then
    for namespace in trilith-system orders carts; do
        kubectl create namespace "$namespace" --dry-run=client --output yaml | kubectl apply --server-side -f - >/dev/null
    done
    kubectl apply --server-side --force-conflicts -f "$chart/crds" >/dev/null
    kubectl wait --for=condition=Established --timeout=30s -f "$chart/crds" >/dev/null
fi

for values in charts/tests/*/values.yaml; do
    name=$(basename "$(dirname "$values")")
    "$helm" lint --quiet --strict "$chart" "${against[@]}" --values "$values" || complain "helm lint refuses $chart with $values"
    kept=charts/tests/$name/rendered.yaml
    if [ "$mode" = --update ]; then
        render "$name" >"$kept"
    elif ! difference=$(render "$name" | diff -u "$kept" -); then
        complain "$difference" "" "$kept is not what the chart renders: scripts/chart.sh --update keeps it as it is now"
    fi
    if [ "$mode" = --server ]; then
        # The kinds ServiceMonitor and PrometheusRule are somebody else's, and need not be there.
        render "$name" --set metrics.serviceMonitor.enabled=false --set metrics.alerts.enabled=false | kubectl apply --server-side --dry-run=server --force-conflicts -f - >/dev/null ||
            complain "the API server refuses what $values renders"
    fi
done

# refuses WHY VALUES...
refuses() {
    local why=$1
    shift
    if "$helm" template trilith "$chart" "${against[@]}" "$@" >/dev/null 2>&1; then
        complain "the chart takes $*, and should not: $why"
    fi
}
refuses "a value that is not known is a slip of the pen" --set operator.replica=2
refuses "the same, at the top" --set replicas=2
refuses "a table needs a cluster" --set table.create=true
refuses "an ingress leads to a cluster" --set ingress.enabled=true
refuses "no name of a namespace" --set 'watchNamespaces={No_Name}'
refuses "no pull policy" --set image.pullPolicy=Sometimes

if grep -nE '(apiGroups|resources|resourceNames|verbs): .*\*' charts/tests/*/rendered.yaml; then
    complain "a role has a wildcard"
fi
[ -z "$failed" ]
