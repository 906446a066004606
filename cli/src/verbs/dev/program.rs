//! Finds the node's program.

use std::path::{Path, PathBuf};

const NAME: &str = "trilith-node";

/// The program of a node: beside this one, else on the PATH.
pub fn find() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(std::env::split_paths(&path));
    search(folders).ok_or_else(|| {
        anyhow::anyhow!(
            "there is no {NAME} beside this program nor on the PATH: build it with \
             `cargo build -p storage-node`"
        )
    })
}

fn search(mut folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.find_map(|folder| Some(folder.join(NAME)).filter(|program| program.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_has_it_wins() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(full.path().join(NAME), "").unwrap();
        let folders = [empty.path().to_owned(), full.path().to_owned()];
        assert_eq!(search(folders.into_iter()), Some(full.path().join(NAME)));
        assert_eq!(search(std::iter::once(empty.path().to_owned())), None);
    }
}
