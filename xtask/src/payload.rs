//! Data to share: one file, or a tree with everything that makes trees hard. The same seed gives the same bytes.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use crate::rng::Rng;
use crate::stop;

/// Levels of the deepest folder in a tree.
const DEPTH: usize = 40;

/// Names that are neither ASCII nor short nor tame, and yet legal and portable.
const NAMES: [&str; 8] = [
    "straße",
    "日本語",
    "emoji 🚀",
    "ñandú",
    "кириллица",
    "עברית",
    "with  two blanks",
    "semi;colon & more",
];

/// Writes one file of `len_bytes` random bytes.
pub(crate) fn write_file(path: &Path, len_bytes: u64, rng: &mut Rng) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut buffer = vec![0; 1 << 20];
    let mut left = len_bytes;
    while left > 0 {
        stop::check()?;
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let chunk = buffer.get_mut(..len).unwrap_or_default();
        rng.fill(chunk);
        file.write_all(chunk)
            .with_context(|| path.display().to_string())?;
        left -= u64::try_from(len).unwrap_or(left);
    }
    Ok(())
}

/// Writes `files` files under `root`: empty ones, tiny ones that share a piece by the dozen, a few that span many pieces,
/// deep folders, and names in many scripts.
pub(crate) fn write_tree(root: &Path, files: u32, rng: &mut Rng) -> Result<()> {
    let mut buffer = vec![0; 3 << 20];
    rng.fill(&mut buffer);
    for number in 0..files {
        stop::check()?;
        let folder = match number % 50 {
            0 => (0..DEPTH).fold(root.to_owned(), |path, level| {
                path.join(format!("d{level}"))
            }),
            _ => root.join(format!("part {:03}", number / 100)),
        };
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let index = usize::try_from(number).unwrap_or(0) % (NAMES.len() * 5);
        let name = match NAMES.get(index) {
            Some(name) => format!("{name}-{number}"),
            None => format!("file-{number:05}.txt"),
        };
        let len = match number % 1000 {
            999 => rng.below(3 << 20),
            n if n % 40 == 7 => 0,
            n if n % 3 == 0 => rng.below(300),
            _ => rng.below(12 << 10),
        };
        let len = usize::try_from(len).unwrap_or(0);
        let from = usize::try_from(rng.below(4096)).unwrap_or(0);
        let path = folder.join(name);
        let file = File::create(&path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        // A window into one random buffer is much faster than fresh bytes; the file's own number makes it differ.
        let window = buffer
            .get(from..buffer.len().min(from + len))
            .unwrap_or_default();
        let stamp = number.to_le_bytes();
        let stamp = stamp.get(..len.min(stamp.len())).unwrap_or_default();
        file.write_all(stamp)
            .with_context(|| path.display().to_string())?;
        file.write_all(window.get(stamp.len()..).unwrap_or_default())
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare;

    #[test]
    fn a_tree_has_what_makes_trees_hard() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        write_tree(&one, 1100, &mut Rng::new(5)).unwrap();
        write_tree(&two, 1100, &mut Rng::new(5)).unwrap();
        assert!(
            compare::copies(&one, &[two]).unwrap()[0]
                .differences
                .is_empty(),
            "a seed is a tree"
        );
        let files = compare::list(&one).unwrap();
        assert_eq!(files.len(), 1100);
        assert!(files.values().filter(|len| **len == 0).count() >= 20);
        assert!(files.values().filter(|len| **len < 16 << 10).count() > 1000);
        assert!(files.keys().any(|path| path.components().count() > DEPTH));
        assert!(files.keys().any(|path| !path.to_string_lossy().is_ascii()));
    }

    #[test]
    fn a_file_has_its_length() {
        let dir = tempfile::tempdir().unwrap();
        for len in [0, 1, (1 << 20) + 1] {
            let path = dir.path().join(len.to_string());
            write_file(&path, len, &mut Rng::new(1)).unwrap();
            assert_eq!(fs::metadata(path).unwrap().len(), len);
        }
    }
}
