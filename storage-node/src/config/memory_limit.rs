//! How much memory the operating system lets this process have.

use std::fs;
use std::path::Path;

/// What limits nothing is written as a number so large that no machine has it.
const NO_LIMIT: u64 = 1 << 60;

/// The limit of the control group that this process is in, and of those around it. In a pod that is the
/// limit of the container.
pub fn of_this_process() -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    smallest(Path::new("/sys/fs/cgroup"), &own)
}

/// The smallest limit of the groups in `own`, a list as in `/proc/self/cgroup`.
fn smallest(root: &Path, own: &str) -> Option<u64> {
    own.lines().filter_map(|line| limit_of(root, line)).min()
}

/// A line is `0::/GROUP` in version 2, and `NUMBER:CONTROLLER,…:/GROUP` in version 1.
fn limit_of(root: &Path, line: &str) -> Option<u64> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, group) = (fields.next()?, fields.next()?);
    let (folder, file) = match controllers {
        "" => (root.to_owned(), "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (root.join("memory"), "memory.limit_in_bytes")
        }
        _ => return None,
    };
    // In a container the name may be the one outside of it, and only the root is there.
    let around = Path::new(group).ancestors().filter_map(|group| group.strip_prefix("/").ok());
    around
        .filter_map(|group| fs::read_to_string(folder.join(group).join(file)).ok()?.trim().parse().ok())
        .filter(|limit| *limit < NO_LIMIT)
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn the_smallest_limit_around_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "pods/memory.max", "536870912\n");
        write(root, "pods/one/memory.max", "max\n");
        assert_eq!(smallest(root, "0::/pods/one\n"), Some(512 << 20));
        write(root, "pods/one/memory.max", "268435456\n");
        assert_eq!(smallest(root, "0::/pods/one\n"), Some(256 << 20));
        assert_eq!(smallest(root, "0::/elsewhere\n"), None);
    }

    #[test]
    fn a_container_sees_its_own_root() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "memory.max", "1073741824\n");
        for own in ["0::/\n", "0::/kubepods/pod1/container1\n"] {
            assert_eq!(smallest(root.path(), own), Some(1 << 30), "{own}");
        }
    }

    #[test]
    fn the_first_version_has_a_folder_for_memory() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "memory/memory.limit_in_bytes", "9223372036854771712\n");
        let own = "9:name=systemd:/\n4:cpu,memory:/docker/one\n0::/\n";
        assert_eq!(smallest(root.path(), own), None);
        write(root.path(), "memory/docker/one/memory.limit_in_bytes", "1073741824\n");
        assert_eq!(smallest(root.path(), own), Some(1 << 30));
    }
}
