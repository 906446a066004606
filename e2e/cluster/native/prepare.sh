# What the native cluster is made of: the system's packages, the programs and two images.

prepare() {
    install_packages
    local name
    for name in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl etcd helm coredns provisioner; do
        build_tool "$name"
    done
    mkdir -p "$images"
    build_image pause
    build_image coredns
}

# Debian's names; elsewhere the programs are looked for, and what is missing is said.
install_packages() {
    local program missing=()
    for program in containerd runc iptables conntrack ip nsenter openssl buildah gcc; do
        command -v "$program" >/dev/null || missing+=("$program")
    done
    plugins_folder >/dev/null || missing+=("the CNI plugins bridge, host-local and portmap")
    [ ${#missing[@]} -eq 0 ] && return
    command -v apt-get >/dev/null || fail "missing: $(printf '%s, ' "${missing[@]}" | sed 's/, $//'). Install them, and come again"
    say "installing what is missing: $(printf '%s, ' "${missing[@]}" | sed 's/, $//')"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        containerd runc containernetworking-plugins iptables conntrack iproute2 socat ethtool util-linux openssl buildah gcc libc6-dev \
        </dev/null >/dev/null
}

plugins_folder() {
    local folder
    for folder in /usr/lib/cni /opt/cni/bin /usr/libexec/cni; do
        [ -x "$folder/bridge" ] && echo "$folder" && return
    done
    return 1
}

# build_image NAME: an archive of local.test/NAME:1. The host part is one that can never be
# asked, so a kubelet that lacks the image says so and does not go looking for it.
build_image() {
    local name=$1 archive=$images/$1.tar context source
    source=$([ "$name" = pause ] && echo "$here/native/pause.c" || echo "$bin/$name")
    [ -f "$archive" ] && [ ! "$source" -nt "$archive" ] && return
    context=$(mktemp -d)
    if [ "$name" = pause ]; then
        gcc -static -Os -Wall -Wextra -o "$context/$name" "$source"
    else
        cp "$source" "$context/$name"
    fi
    printf 'FROM scratch\nCOPY %s /%s\nENTRYPOINT ["/%s"]\n' "$name" "$name" "$name" >"$context/Containerfile"
    # vfs and chroot take no rights that a container lacks.
    local buildah=(buildah --storage-driver vfs --root "$context/root" --runroot "$context/runroot")
    "${buildah[@]}" bud -q --isolation chroot -f "$context/Containerfile" -t "local.test/$name:1" "$context" >/dev/null
    rm -f "$archive"
    "${buildah[@]}" push -q "local.test/$name:1" "oci-archive:$archive:local.test/$name:1"
    rm -rf "$context"
}
