//! Data to measure with: quickly made, always the same, no two blocks alike.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::rng::Rng;

/// Random bytes are made once and repeated; this much fits any cache's idea of much.
const PATTERN_BYTES: usize = 1 << 20;

/// Each so many bytes begin with their own number, so that no two blocks, and no two pieces, are the same.
const STAMP_EVERY: usize = 16 << 10;

/// Length of each file of a payload of many.
pub(crate) const SMALL_BYTES: u64 = 16 << 10;

/// Files in one folder of such a payload.
const FOLDER_FILES: u32 = 100;

/// Bytes that are never the same twice.
struct Pattern {
    bytes: Vec<u8>,
    stamp: u64,
}

impl Pattern {
    fn new() -> Self {
        let mut bytes = vec![0; PATTERN_BYTES];
        Rng::new(1).fill(&mut bytes);
        Self { bytes, stamp: 0 }
    }

    fn next(&mut self) -> &[u8] {
        for block in self.bytes.chunks_mut(STAMP_EVERY) {
            if let Some(head) = block.first_chunk_mut() {
                *head = self.stamp.to_le_bytes();
            }
            self.stamp += 1;
        }
        &self.bytes
    }
}

/// One file.
pub(crate) fn write_file(path: &Path, length: u64) -> Result<()> {
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    let mut pattern = Pattern::new();
    let mut left = length;
    while left > 0 {
        let bytes = pattern.next();
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        file.write_all(bytes.get(..taken).unwrap_or_default())
            .with_context(|| path.display().to_string())?;
        left -= u64::try_from(taken)?;
    }
    Ok(())
}

/// `count` files of [`SMALL_BYTES`] below `root`, a hundred in a folder.
pub(crate) fn write_files(root: &Path, count: u32) -> Result<()> {
    let mut pattern = Pattern::new();
    for first in (0..count).step_by(FOLDER_FILES as usize) {
        let folder = root.join(format!("{:04}", first / FOLDER_FILES));
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let numbers = first..count.min(first + FOLDER_FILES);
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        while blocks.len() < numbers.len() {
            blocks.extend(pattern.next().chunks(STAMP_EVERY).map(<[u8]>::to_vec));
        }
        for (number, block) in numbers.zip(blocks) {
            let path = folder.join(format!("{number:06}.bin"));
            let file = File::create(&path).with_context(|| path.display().to_string())?;
            file.write_all_at(&block, 0)
                .with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare;
    use std::collections::BTreeSet;

    #[test]
    fn lengths_are_kept_and_no_two_blocks_are_alike() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write_file(&path, (3 << 20) + 5).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), (3 << 20) + 5);
        let blocks: BTreeSet<&[u8]> = bytes.chunks(16 << 10).collect();
        assert_eq!(blocks.len(), 3 * 64 + 1);
        let root = dir.path().join("files");
        write_files(&root, 230).unwrap();
        let files = compare::list(&root).unwrap();
        assert_eq!(files.len(), 230);
        assert!(files.values().all(|length| *length == SMALL_BYTES));
        let contents: BTreeSet<Vec<u8>> = files
            .keys()
            .map(|path| fs::read(root.join(path)).unwrap())
            .collect();
        assert_eq!(contents.len(), 230);
    }
}
