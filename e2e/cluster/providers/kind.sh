# A cluster of containers, made by kind. A machine is one of its worker nodes.

# Named for the folder, so that clusters of two folders are two.
kind_name=$(basename "$run")
readonly kind_name kubeconfig=$run/kind.kubeconfig
PATH=$PATH:$bin

cluster_build() { build_missing kubectl helm; }

cluster_up() {
    local machines=${1:-3} i
    cluster_build
    if kind get clusters 2>/dev/null | grep -qx "$kind_name"; then
        [ "$(cluster_machines | wc -l)" -eq "$machines" ] || fail "a cluster of another size is up: \`cluster down\` stops it"
        say "the cluster is up already"
        return
    fi
    mkdir -p "$run"
    {
        cat "$here/kind.yaml"
        for i in $(seq "$machines"); do
            printf -- '- role: worker\n  labels:\n    topology.kubernetes.io/zone: zone-%d\n' $(((i - 1) % 3 + 1))
        done
    } >"$run/kind.yaml"
    kind create cluster --name "$kind_name" --config "$run/kind.yaml" --kubeconfig "$kubeconfig" --wait 120s
    say "kind is up with $machines machines: eval \"\$($0 env)\""
}

cluster_env() { printf 'export TRILITH_CLUSTER=kind TRILITH_CLUSTER_RUN=%q KUBECONFIG=%q PATH="$PATH":%q\n' "$run" "$kubeconfig" "$bin"; }

cluster_machines() { kind get nodes --name "$kind_name" | grep -- '-worker' | sort -V; }

cluster_load() {
    local archive
    for archive in "$@"; do
        kind load image-archive "$archive" --name "$kind_name"
    done
}

machine() { cluster_machines | grep -qx -- "$1" || fail "$1 is no machine of this cluster; there are: $(cluster_machines | paste -sd ' ')"; }

cluster_kill() {
    machine "$1"
    docker kill "$1" >/dev/null
}

cluster_start() {
    machine "$1"
    docker start "$1" >/dev/null
}

# Packets are dropped, as by a dead switch, in both directions and for pods as for the node
# itself. Taking the container off Docker's network would give it another address on return.
cluster_cut() {
    machine "$1"
    docker exec "$1" iptables -t raw -I PREROUTING -i eth0 -j DROP
    docker exec "$1" iptables -t mangle -I POSTROUTING -o eth0 -j DROP
}

# However often it was cut, and also if it was not.
cluster_join() {
    machine "$1"
    docker exec "$1" sh -c 'while iptables -t raw -D PREROUTING -i eth0 -j DROP; do :; done' 2>/dev/null
    docker exec "$1" sh -c 'while iptables -t mangle -D POSTROUTING -o eth0 -j DROP; do :; done' 2>/dev/null
}

cluster_logs() { kind export logs "$1" --name "$kind_name" >/dev/null; }

cluster_down() {
    kind get clusters 2>/dev/null | grep -qx "$kind_name" || return 0
    kind delete cluster --name "$kind_name" --kubeconfig "$kubeconfig"
    rm -rf "$run"
}
