# The control plane: on the host's own network, reached by all machines at one address.

start_control_plane() {
    local name
    make_certificates
    make_group control-plane
    cd "$run"
    # What this cluster holds is not meant to outlive a crash, so nothing is synced.
    spawn control-plane etcd "$bin/etcd" --data-dir "$run/etcd" --unsafe-no-fsync \
        --listen-client-urls http://127.0.0.1:12379 --advertise-client-urls http://127.0.0.1:12379 \
        --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
        --initial-cluster default=http://127.0.0.1:12380
    spawn control-plane apiserver "$bin/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 \
        --bind-address=$host --advertise-address=$host --secure-port=6443 \
        --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key --client-ca-file=pki/ca.crt \
        --service-cluster-ip-range=$services --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file=pki/accounts.pub --service-account-signing-key-file=pki/accounts.key \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true \
        --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key \
        --kubelet-preferred-address-types=InternalIP
    await 60 native_kubectl get --raw /readyz
    # A dead machine is known to be gone in 20 s: scenarios wait for it.
    spawn control-plane controller-manager "$bin/kube-controller-manager" \
        --kubeconfig=kube-controller-manager.kubeconfig --authentication-kubeconfig=kube-controller-manager.kubeconfig \
        --authorization-kubeconfig=kube-controller-manager.kubeconfig --use-service-account-credentials=true \
        --service-account-private-key-file=pki/accounts.key --root-ca-file=pki/ca.crt \
        --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key \
        --service-cluster-ip-range=$services --leader-elect=false --node-monitor-grace-period=20s
    spawn control-plane scheduler "$bin/kube-scheduler" --kubeconfig=kube-scheduler.kubeconfig \
        --authentication-kubeconfig=kube-scheduler.kubeconfig --authorization-kubeconfig=kube-scheduler.kubeconfig \
        --leader-elect=false
    spawn control-plane provisioner "$bin/provisioner" --kubeconfig="$run/admin.kubeconfig" --root="$run/volumes"
}

make_certificates() {
    local name machine
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=trilith-cluster \
        -keyout "$run/pki/ca.key" -out "$run/pki/ca.crt" 2>/dev/null
    certificate apiserver /CN=kube-apiserver \
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:$host,IP:10.96.0.1"
    certificate admin /O=system:masters/CN=admin
    kubeconfig admin
    for name in kube-controller-manager kube-scheduler kube-proxy; do
        certificate "$name" "/CN=system:$name"
        kubeconfig "$name"
    done
    for machine in $(cluster_machines); do
        certificate "$machine" "/O=system:nodes/CN=system:node:$machine" "DNS:$machine,IP:$(address "$machine")"
        kubeconfig "$machine"
    done
    openssl ecparam -name prime256v1 -genkey -noout -out "$run/pki/accounts.key"
    openssl ec -in "$run/pki/accounts.key" -pubout -out "$run/pki/accounts.pub" 2>/dev/null
}

# certificate NAME SUBJECT [ALTERNATIVE NAMES]
certificate() {
    local key=$run/pki/$1.key request=$run/pki/$1.csr
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" -keyout "$key" -out "$request" 2>/dev/null
    openssl x509 -req -in "$request" -CA "$run/pki/ca.crt" -CAkey "$run/pki/ca.key" -CAcreateserial -days 3650 -out "$run/pki/$1.crt" \
        -extfile <(printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n%s' "${3:+subjectAltName=$3}") 2>/dev/null
}

# kubeconfig NAME: with the certificate of that name.
kubeconfig() {
    cat >"$run/$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: native, cluster: {server: "https://$host:6443", certificate-authority: $run/pki/ca.crt}}]
users: [{name: $1, user: {client-certificate: $run/pki/$1.crt, client-key: $run/pki/$1.key}}]
contexts: [{name: native, context: {cluster: native, user: $1}}]
current-context: native
YAML
}
