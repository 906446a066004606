# A cluster of real nodes on this Linux machine, without Docker. Upstream Kubernetes is built
# from Go modules; containerd and runc are the system's. A machine of the cluster is a network
# namespace with a kubelet, a containerd and a kube-proxy of its own:
#
#   control plane (etcd, API server, controller manager, scheduler, provisioner)
#        │ 172.30.0.1
#   ═════╪═══════════ bridge trilith0 ═════════════════
#        │ 172.30.0.11        │ 172.30.0.12
#      node1 10.244.1.0/24  node2 10.244.2.0/24  …     pods; services are 10.96.0.0/16

readonly images=$cache/images
readonly bridge=trilith0 host=172.30.0.1 services=10.96.0.0/16 pods=10.244
PATH=$bin:$PATH

# shellcheck source=/dev/null
. "$here/native/prepare.sh"
# shellcheck source=/dev/null
. "$here/native/processes.sh"
# shellcheck source=/dev/null
. "$here/native/control-plane.sh"
# shellcheck source=/dev/null
. "$here/native/machine.sh"

cluster_build() {
    as_root
    one_at_a_time prepare
}

cluster_up() {
    local machines=${1:-3} machine
    as_root
    ! is_anothers || fail "a cluster is up in $(owner), and one fits on a host: TRILITH_CLUSTER_RUN=$(owner) $0 down stops it"
    if answers; then
        [ "$(cat "$run/machines")" -eq "$machines" ] || fail "a cluster of another size is up: \`cluster down\` stops it"
        say "the cluster is up already"
        return
    fi
    cluster_down
    cluster_build
    mkdir -p "$run"/{pki,logs}
    echo "$machines" >"$run/machines"
    : >"$run/resolv.conf"
    make_network
    start_control_plane
    for machine in $(cluster_machines); do
        make_machine "$machine"
        start_machine "$machine"
    done
    await 100 ready "$machines"
    cluster_load "$images"/{pause,coredns}.tar
    native_kubectl apply -f "$here/native/addons.yaml" >/dev/null
    native_kubectl -n kube-system rollout status daemonset/coredns --timeout=100s >/dev/null
    say "Kubernetes is up with $machines machines: eval \"\$($0 env)\""
}

cluster_env() { printf 'export TRILITH_CLUSTER=native TRILITH_CLUSTER_RUN=%q KUBECONFIG=%q PATH=%q:"$PATH"\n' "$run" "$run/admin.kubeconfig" "$bin"; }

cluster_machines() {
    [ -f "$run/machines" ] || fail "no cluster is up"
    seq -f 'node%g' "$(cat "$run/machines")"
}

cluster_load() {
    local machine archive loading=()
    for machine in $(cluster_machines); do
        for archive in "$@"; do
            ctr -a "$run/$machine/containerd.sock" -n k8s.io images import "$archive" >/dev/null || exit
        done &
        loading+=($!)
    done
    for machine in "${loading[@]}"; do
        wait "$machine" || fail "an image could not be loaded"
    done
}

# Off the network first: the sockets of a process that ends say goodbye, and a machine without
# power does not.
cluster_kill() {
    known "$1"
    cluster_cut "$1"
    stop_processes "$1"
}

cluster_start() {
    known "$1"
    is_running "$1" && fail "$1 is running: kill it first"
    cluster_join "$1"
    start_machine "$1"
}

# The cable is pulled at the switch. What runs on the machine goes on and reaches only itself.
cluster_cut() {
    known "$1"
    ip link set "$(cable "$1")" down
}

cluster_join() {
    known "$1"
    ip link set "$(cable "$1")" up
}

cluster_logs() {
    [ -d "$run/logs" ] || fail "no cluster is up"
    mkdir -p "$1"
    cp "$run"/logs/*.log "$1"
}

# Goes by what is there and not by what should be: a run that was killed, or a reboot, may have left
# any part of it.
cluster_down() {
    as_root
    ! is_anothers || return 0
    [ -d "$run" ] || [ -d "/sys/class/net/$bridge" ] || [ -n "$(namespaces)" ] || has_groups || return 0
    stop_processes ""
    forget_machines
    forget_network
    # Deepest first. A mount that is busy is let go of as soon as it is not.
    awk -v run="$run/" 'index($2, run) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
    rm -rf "$run"
}

native_kubectl() { "$bin/kubectl" --kubeconfig "$run/admin.kubeconfig" "$@"; }
answers() { [ -f "$run/admin.kubeconfig" ] && native_kubectl --request-timeout=2s get --raw /livez >/dev/null 2>&1; }
ready() { [ "$(native_kubectl get nodes --no-headers | grep -cw Ready)" -eq "$1" ]; }
# The network is marked with the folder of the cluster that it belongs to.
owner() { cat "/sys/class/net/$bridge/ifalias" 2>/dev/null || true; }
is_anothers() { [ -n "$(owner)" ] && [ "$(owner)" != "$run" ] && [ -d "$(owner)" ]; }
known() { cluster_machines | grep -qx -- "$1" || fail "$1 is no machine of this cluster; there are: $(cluster_machines | paste -sd ' ')"; }
as_root() {
    [ "$(id -u)" -eq 0 ] || fail "without Docker and kind, and without a KUBECONFIG, the cluster is made of namespaces and mounts on this machine, which takes root: come again as root (sudo -i), or set up one of the others"
}
