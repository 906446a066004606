# Programs that are built from Go modules and kept in the cache, so that neither a package
# archive nor a release page is needed. Each module pins all that it is made of.

# build_tool NAME: builds it unless the cache has it, made from just this module.
build_tool() {
    local name=$1 module=$here/modules/$1 package version flags="-s -w" stamp
    case $name in
        kube-apiserver | kube-controller-manager | kube-scheduler | kubelet | kube-proxy | kubectl)
            module=$here/modules/kubernetes
            package=k8s.io/kubernetes/cmd/$name
            # Where a release build says what it is; without it a kubelet calls itself v0.0.0.
            version=$(awk '$1 == "k8s.io/kubernetes" && $2 ~ /^v/ { print $2 }' "$module/go.mod")
            flags+=" -X k8s.io/component-base/version.gitVersion=$version"
            flags+=" -X k8s.io/component-base/version.gitMajor=1"
            flags+=" -X k8s.io/component-base/version.gitMinor=$(cut -d. -f2 <<<"$version")"
            flags+=" -X k8s.io/client-go/pkg/version.gitVersion=$version"
            ;;
        etcd) package=go.etcd.io/etcd/server/v3 ;;
        helm) package=helm.sh/helm/v3/cmd/helm ;;
        coredns) package=github.com/coredns/coredns ;;
        provisioner)
            module=$here/provisioner
            package=.
            ;;
        *) fail "nobody knows how to build $name" ;;
    esac
    local sources=("$module/go.mod" "$module/go.sum")
    [ "$package" != . ] || sources+=("$module"/*.go)
    stamp=$bin/.$name.$(cat "${sources[@]}" | sha256sum | cut -c1-16)
    [ -f "$stamp" ] && [ -x "$bin/$name" ] && return
    need_go "$module"
    say "building $name, once for this machine"
    mkdir -p "$bin"
    # Beside its place, so that a build that is interrupted leaves nothing that looks like a program.
    (cd "$module" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$bin/$name.new" "$package")
    mv "$bin/$name.new" "$bin/$name"
    rm -f "$bin/.$name".*
    touch "$stamp"
}

# need_go MODULE: sees that there is a Go that builds it, and installs one where it may. From 1.21 on Go
# gets the release that a module asks for by itself.
need_go() {
    local root=(sudo -n) offered wanted
    # Where go.dev says to put it, for a shell that did not read the profile.
    PATH=$PATH:/usr/local/go/bin
    command -v go >/dev/null && return
    [ "$(id -u)" -ne 0 ] || root=(env)
    if command -v apt-get >/dev/null && "${root[@]}" true 2>/dev/null; then
        "${root[@]}" apt-get update -qq
        offered=$(apt-cache policy golang-go | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9]*\.[0-9]*\).*/\2/p')
        if [ -n "$offered" ] && printf '1.21\n%s\n' "$offered" | sort --version-sort --check=silent; then
            say "installing Go $offered, which builds what Kubernetes is made of"
            "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends golang-go ca-certificates </dev/null >/dev/null
            return
        fi
    fi
    wanted=$(sed -n 's/^go //p' "$1/go.mod")
    [[ $wanted = *.*.* ]] || wanted+=.0
    fail "Go is missing, and the system's packages have none that is new enough. Type this, and come again:

    curl -fsSL https://go.dev/dl/go$wanted.linux-$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/').tar.gz | sudo tar -C /usr/local -xz
"
}

# where_is NAME: prints it. A Helm of another generation would render charts in other words.
where_is() {
    case $1 in
        kubectl) ;;
        helm)
            if ! [[ $(helm version --short 2>/dev/null) = v3.* ]]; then
                one_at_a_time build_tool helm >&2
                echo "$bin/helm"
                return
            fi
            ;;
        *) fail "$1 is no tool of a cluster: kubectl and helm are" ;;
    esac
    build_missing "$1" >&2
    PATH=$PATH:$bin command -v "$1"
}

# build_missing NAME...: those that PATH does not have already.
build_missing() {
    local name
    for name in "$@"; do
        command -v "$name" >/dev/null || one_at_a_time build_tool "$name"
    done
}

# Two builds at a time would write the same files.
one_at_a_time() {
    mkdir -p "$cache"
    (
        flock 9
        "$@" 9>&-
    ) 9>"$cache/.lock"
}
