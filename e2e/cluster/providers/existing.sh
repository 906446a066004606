# A cluster that somebody else keeps, named by KUBECONFIG. Nothing about it is changed here.

PATH=$PATH:$bin

cluster_build() { build_missing kubectl helm; }

cluster_up() {
    local wanted=${1:-3} found
    [ -n "${KUBECONFIG:-}" ] || fail "TRILITH_CLUSTER is existing, and KUBECONFIG says no cluster"
    cluster_build
    found=$(cluster_machines | wc -l) || fail "the cluster that KUBECONFIG names does not answer"
    [ "$found" -ge "$wanted" ] || fail "the cluster that KUBECONFIG names has $found machines for pods, and $wanted are needed"
    say "using the cluster that KUBECONFIG names, with $found machines"
}

cluster_env() { printf 'export TRILITH_CLUSTER=existing KUBECONFIG=%q PATH="$PATH":%q\n' "$KUBECONFIG" "$bin"; }

cluster_machines() {
    kubectl --request-timeout=10s get nodes -o go-template='{{range .items}}{{if not .spec.unschedulable}}{{.metadata.name}}{{"\n"}}{{end}}{{end}}'
}

cluster_down() { say "the cluster that KUBECONFIG names is somebody else's: it stays as it is"; }

cluster_load() { refuse "load: not on an existing cluster. Push the images to a registry that it pulls from, and name that to the chart as image.registry"; }
cluster_logs() { refuse "logs: not on an existing cluster"; }
cluster_kill() { refuse "kill: $1 is a machine of an existing cluster, and is left alone"; }
cluster_start() { refuse "start: $1 is a machine of an existing cluster, and is left alone"; }
cluster_cut() { refuse "cut: $1 is a machine of an existing cluster, and is left alone"; }
cluster_join() { refuse "join: $1 is a machine of an existing cluster, and is left alone"; }
