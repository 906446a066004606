#!/usr/bin/env bash
# Builds the images from the Dockerfile, each as an archive that any cluster can load.
#
#   scripts/images.sh [--tag TAG] [--revision R] [--binaries FOLDER] [--out FOLDER] [IMAGE...]
#
# IMAGE is trilith-node, trilith-operator or trilith, without one all three; or trilith-witness,
# which is for tests. The archives' names are printed, one a line. Another revision than the commit's
# makes another image of the same programs. The images are named local.test/IMAGE:TAG: a host that
# does not exist, so no cluster goes looking for an image that was not loaded.
#
# With Docker the Dockerfile's build stage does the work. Without it buildah does, and the programs
# are taken from a folder (--binaries; Cargo's unless said), where building them again in
# a container would repeat many minutes: everything after the build stage is the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

registry=local.test
tag=dev
binaries=
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
out=${XDG_CACHE_HOME:-$HOME/.cache}/trilith/images
wanted=()

say() { printf 'images: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --tag | --revision | --binaries | --out)
            [ $# -ge 2 ] || fail "$1 needs a value"
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        trilith-node | trilith-operator | trilith | trilith-witness)
            wanted+=("$1")
            shift
            ;;
        *) fail "$1 is no image: trilith-node, trilith-operator and trilith are" ;;
    esac
done
[ ${#wanted[@]} -gt 0 ] || wanted=(trilith-node trilith-operator trilith)

version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# Times within an image are those of the commit, so the same commit gives the same layers.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH
arguments=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out"

# The programs of an image.
programs() {
    case $1 in
        trilith-node) echo trilith-node trilith ;;
        trilith-witness) echo e2e-witness ;;
        *) echo "$1" ;;
    esac
}

# Puts into a folder what the build stage would leave at its end.
gather() {
    local image program
    mkdir -p "$work/build/out/data"
    for image in "${wanted[@]}"; do
        for program in $(programs "$image"); do
            [ -x "$binaries/$program" ] || fail "$binaries/$program is missing: make binaries builds it"
            [ -f "$work/build/out/$program" ] || strip --strip-debug -o "$work/build/out/$program" "$binaries/$program"
        done
    done
}

with_docker() {
    local image from=()
    if [ -n "$binaries" ]; then
        gather
        from=(--build-context "build=$work/build")
        # Programs that were linked here need the libraries that are here.
        if command -v dpkg-query >/dev/null; then
            base_files "$work/base"
            tar -C "$work/base" -c . | docker import - "$registry/base:1" >/dev/null
            from+=(--build-arg "BASE=$registry/base:1")
        fi
    fi
    for image in "${wanted[@]}"; do
        docker buildx build --quiet --load "${arguments[@]}" "${from[@]}" \
            --target "$image" --tag "$registry/$image:$tag" . >/dev/null
        docker save --output "$work/image.tar" "$registry/$image:$tag"
        finished "$image"
    done
}

# vfs and chroot take no rights that a container lacks; what is stored goes with this script.
build_with() { buildah --storage-driver vfs --root "$work/root" --runroot "$work/runroot" "$@"; }

with_buildah() {
    local image base=$registry/base:1 from
    binaries=${binaries:-${CARGO_TARGET_DIR:-target}/debug}
    gather
    base_files "$work/base"
    from=$(build_with from scratch)
    build_with add --quiet "$from" "$work/base" / >/dev/null
    build_with commit --quiet --timestamp "$SOURCE_DATE_EPOCH" "$from" "$base" >/dev/null
    for image in "${wanted[@]}"; do
        build_with build --quiet --isolation chroot --pull-never --timestamp "$SOURCE_DATE_EPOCH" \
            "${arguments[@]}" --build-arg "BASE=$base" --build-context "build=$work/build" \
            --target "$image" --tag "$registry/$image:$tag" . >/dev/null
        build_with push --quiet "$registry/$image:$tag" "oci-archive:$work/image.tar:$registry/$image:$tag"
        finished "$image"
    done
}

# A base without a registry: of this system's own packages the libraries that the programs,
# which were linked here, ask for. It has no shell, so nothing can come to need one.
base_files() {
    local folder=$1 package file
    mkdir -p "$folder"/{etc,tmp}
    chmod 1777 "$folder/tmp"
    printf 'root:x:0:0::/:/none\ntrilith:x:10001:10001::/var/lib/trilith:/none\n' >"$folder/etc/passwd"
    printf 'root:x:0:\ntrilith:x:10001:\n' >"$folder/etc/group"
    cp --dereference /etc/os-release "$folder/etc/os-release"
    command -v dpkg-query >/dev/null || fail "without Docker the base is made of Debian's packages, and this is no Debian"
    for package in libc6 libgcc-s1 libstdc++6; do
        dpkg-query --listfiles "$package"
    done | grep -E '\.so(\.[0-9.]+)?$' | grep -v -E '/(gconv|audit|gdb)/' | while read -r file; do
        install -d "$folder/$(dirname "$file")"
        cp --no-dereference --preserve=mode,links "$file" "$folder/$file"
    done
    # Later Debians list everything below /usr, and programs look for their loader at the top.
    for file in lib lib64; do
        [ -e "$folder/$file" ] || [ ! -e "$folder/usr/$file" ] || ln -s "usr/$file" "$folder/$file"
    done
}

finished() {
    mv "$work/image.tar" "$out/$1-$tag.tar"
    echo "$out/$1-$tag.tar"
}

if docker info >/dev/null 2>&1; then
    with_docker
else
    command -v buildah >/dev/null || fail "neither Docker nor buildah is here: install one of them, and come again"
    with_buildah
fi
