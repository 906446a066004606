//! Finds the programs under test.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A program by its name: in `TRILITH_BIN_DIR`, else where Cargo puts programs, which is one
/// folder above the test's own.
pub fn find(name: &str) -> anyhow::Result<PathBuf> {
    let folder = match std::env::var_os("TRILITH_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let own = std::env::current_exe().context("cannot tell where this test is")?;
            let above = own.parent().and_then(Path::parent);
            above.with_context(|| format!("{} is not in a target folder", own.display()))?.to_owned()
        }
    };
    let program = folder.join(name);
    anyhow::ensure!(
        program.is_file(),
        "there is no {}: build it with `cargo build -p storage-node -p cli`, or say in TRILITH_BIN_DIR where \
         it is",
        program.display()
    );
    Ok(program)
}
