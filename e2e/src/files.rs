//! Damage to files of nodes that do not run.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Files of a folder with that ending, the largest first.
pub fn with_ending(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|end| end == ending) {
            found.push((entry.metadata()?.len(), entry.path()));
        }
    }
    found.sort_by(|one, other| other.cmp(one));
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// Flips every bit of the byte in the middle of a file.
pub fn flip_in_the_middle(file: &Path) -> anyhow::Result<u64> {
    let mut open = OpenOptions::new().read(true).write(true).open(file)?;
    let middle = open.metadata()?.len() / 2;
    let mut byte = [0];
    open.seek(SeekFrom::Start(middle))?;
    open.read_exact(&mut byte).with_context(|| format!("{} is empty", file.display()))?;
    open.seek(SeekFrom::Start(middle))?;
    open.write_all(&[!byte[0]])?;
    open.sync_all()?;
    Ok(middle)
}

/// Replaces text in a file, which must have it.
pub fn replace_text(file: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    anyhow::ensure!(text.contains(from), "{} does not hold {from:?}:\n{text}", file.display());
    Ok(fs::write(file, text.replace(from, to))?)
}
