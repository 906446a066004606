# A machine: a network namespace on the bridge, a folder, and three daemons that see nothing
# of the other machines but the network.

address() { echo "172.30.0.$((10 + ${1#node}))"; }
namespace() { echo "trilith-$1"; }
namespaces() { ip netns list 2>/dev/null | awk '$1 ~ /^trilith-node[0-9]+$/ { print $1 }'; }
cable() { echo "veth-$1"; }
pod_range() { echo "$pods.${1#node}.0/24"; }

make_network() {
    cat /proc/sys/net/ipv4/ip_forward >"$run/ip_forward"
    sysctl -qw net.ipv4.ip_forward=1
    ip link add "$bridge" type bridge
    ip link set "$bridge" alias "$run"
    ip addr add "$host/24" dev "$bridge"
    ip link set "$bridge" up
}

forget_network() {
    ip link del "$bridge" 2>/dev/null || true
    if [ -f "$run/ip_forward" ]; then
        sysctl -qw "net.ipv4.ip_forward=$(cat "$run/ip_forward")"
    fi
}

make_machine() {
    local machine=$1 other ip within
    ip=$(address "$machine")
    within=$(namespace "$machine")
    ip netns add "$within"
    ip link add "$(cable "$machine")" type veth peer name eth0 netns "$within"
    ip link set "$(cable "$machine")" master "$bridge" up
    ip -n "$within" link set lo up
    ip -n "$within" addr add "$ip/24" dev eth0
    ip -n "$within" link set eth0 up
    ip -n "$within" route add default via "$host"
    ip netns exec "$within" sysctl -qw net.ipv4.ip_forward=1
    # Pods are reached straight through their machine: from here, and from every other one.
    ip route add "$(pod_range "$machine")" via "$ip"
    for other in $(cluster_machines); do
        [ "$other" = "$machine" ] || ip -n "$within" route add "$(pod_range "$other")" via "$(address "$other")"
    done
    make_group "$machine"
    write_settings "$machine"
}

forget_machines() {
    local within
    for within in $(namespaces); do
        ip link del "$(cable "${within#trilith-}")" 2>/dev/null || true
        ip netns del "$within" 2>/dev/null || true
    done
    forget_groups
    # Made by start_machine to be mounted over, and left alone where somebody uses them.
    rmdir /var/lib/kubelet /var/lib/cni /var/log/containers /run/containerd 2>/dev/null || true
}

write_settings() {
    local machine=$1 folder=$run/$1
    mkdir -p "$folder"/{containerd,state,shims,kubelet,cni,cnistate,netns,podlogs,containerlogs}
    cat >"$folder/cni/10-bridge.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(pod_range "$machine")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
    # Without CAP_SYS_RESOURCE a score cannot be lowered, and no pod would start at all.
    cat >"$folder/containerd.toml" <<TOML
version = 2
root = "$folder/containerd"
state = "$folder/state"
[grpc]
  address = "$folder/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "local.test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$(plugins_folder)"
    conf_dir = "$folder/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
TOML
    # The kubelet refuses a machine with the older control groups unless it is told not to.
    cat >"$folder/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $run/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $run/pki/$machine.crt
tlsPrivateKeyFile: $run/pki/$machine.key
address: $(address "$machine")
cgroupDriver: cgroupfs
cgroupRoot: /$group_root/$machine
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$folder/containerd.sock
podLogsDir: $folder/podlogs
resolvConf: $run/resolv.conf
nodeStatusUpdateFrequency: 5s
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", nodefs.inodesFree: "1%"}
# The share of the disk that is full is the machine's, and images that are collected cannot be had again: there is
# no registry.
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
YAML
    cat >"$folder/power-on" <<BASH
mount --bind $folder/kubelet /var/lib/kubelet
mount --make-rshared /var/lib/kubelet
mount --bind $folder/cnistate /var/lib/cni
mount --bind $folder/netns /run/netns
mount --bind $folder/shims /run/containerd
mount --bind $folder/containerlogs /var/log/containers
containerd -c $folder/containerd.toml >>$run/logs/$machine-containerd.log 2>&1 &
until [ -S $folder/containerd.sock ]; do
    kill -0 \$! # Ends this where containerd has ended.
    sleep 0.1
done
$bin/kube-proxy --kubeconfig=$run/kube-proxy.kubeconfig --cluster-cidr=$pods.0.0/16 --hostname-override=$machine \
    --conntrack-max-per-core=0 >>$run/logs/$machine-proxy.log 2>&1 &
exec $bin/kubelet --config=$folder/kubelet.yaml --kubeconfig=$run/$machine.kubeconfig --hostname-override=$machine \
    --node-ip=$(address "$machine") --node-labels=topology.kubernetes.io/zone=$(zone "$machine")
BASH
}

# Three zones, as most regions have: a fourth machine shares one.
zone() { echo "zone-$(((${1#node} - 1) % 3 + 1))"; }

# `ip netns exec` would hide /sys/fs/cgroup from the kubelet, so the namespaces are entered
# one by one.
start_machine() {
    mkdir -p /var/lib/kubelet /var/lib/cni /var/log/containers /run/containerd
    rm -f "$run/$1/containerd.sock"
    spawn "$1" "$1-kubelet" nsenter --net="/run/netns/$(namespace "$1")" unshare -m --propagation private bash -e "$run/$1/power-on"
}
