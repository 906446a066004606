# Every process of the cluster is in one tree of control groups, pods included, with a branch
# for each machine. So taking a machine's power away is to end all that its branch holds, and
# nothing that was started here can be overlooked.

readonly group_root=trilith-cluster

# The hierarchies to be prepared: one, or on older systems one for each controller.
hierarchies() {
    if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
        echo /sys/fs/cgroup
    else
        find /sys/fs/cgroup -mindepth 1 -maxdepth 1 -type d -exec test -f '{}/cgroup.procs' \; -print
    fi
}

# The one hierarchy that tells what belongs to a branch.
tracking() { [ -f /sys/fs/cgroup/cgroup.controllers ] && echo /sys/fs/cgroup || echo /sys/fs/cgroup/pids; }

# make_group BRANCH
make_group() {
    local hierarchy folder level file
    hierarchies | while read -r hierarchy; do
        folder=$hierarchy
        for level in "$group_root" "$1"; do
            # Controllers have to be handed down, or nothing below may be limited by them.
            [ -f "$folder/cgroup.subtree_control" ] && echo "+cpu +memory +pids +cpuset +io" >"$folder/cgroup.subtree_control" 2>/dev/null || true
            folder+=/$level
            mkdir -p "$folder"
            # A new group of this kind may use no processor until it is told which.
            if [ -f "$folder/cpuset.cpus" ] && [ ! -f /sys/fs/cgroup/cgroup.controllers ]; then
                for file in cpuset.cpus cpuset.mems; do
                    cat "$folder/../$file" >"$folder/$file"
                done
            fi
        done
        if [ -f "$folder/cgroup.subtree_control" ]; then
            echo "+cpu +memory +pids +cpuset +io" >"$folder/cgroup.subtree_control" 2>/dev/null || true
        fi
    done
    mkdir -p "$(tracking)/$group_root/$1/daemons"
}

# spawn BRANCH NAME COMMAND...: what it says is in logs/NAME.log.
spawn() {
    local branch=$1 name=$2
    shift 2
    # shellcheck disable=SC2016
    setsid bash -c 'echo $$ >"$1"; shift; exec "$@"' spawn "$(tracking)/$group_root/$branch/daemons/cgroup.procs" "$@" \
        >>"$run/logs/$name.log" 2>&1 </dev/null &
}

has_groups() { [ -d "$(tracking)/$group_root" ]; }
members() { [ -d "$1" ] && find "$1" -name cgroup.procs -exec cat {} + 2>/dev/null || true; }
is_running() { [ -n "$(members "$(tracking)/$group_root/$1/daemons")" ]; }

# stop_processes BRANCH: all of it at once; without a branch, the whole tree. Repeated, because
# a process may start another while it is being ended.
stop_processes() {
    local group pids attempt
    group=$(tracking)/$group_root${1:+/$1}
    for attempt in {1..100}; do
        mapfile -t pids < <(members "$group")
        [ ${#pids[@]} -eq 0 ] && return
        kill -KILL "${pids[@]}" 2>/dev/null || true
        [ "$attempt" -lt 10 ] || sleep 0.1
    done
    fail "these processes do not end: ${pids[*]}"
}

forget_groups() {
    hierarchies | while read -r hierarchy; do
        if [ -d "$hierarchy/$group_root" ]; then
            find "$hierarchy/$group_root" -depth -type d -exec rmdir {} + 2>/dev/null || true
        fi
    done
}
