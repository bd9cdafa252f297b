//! Reading a `.torrent` file, within limits.

use crate::exit::{Exit, Failure};
use anyhow::Context as _;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// The longest `.torrent` file that is read, in bytes: 64 MiB, ten times the largest that make sense.
pub(crate) const TORRENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The bytes of a `.torrent` file.
///
/// # Errors
/// If there is no such file, it is none but a folder, pipe or device, or it is longer than [`TORRENT_BYTES_MAX`].
pub(crate) fn read_torrent(path: &Path) -> Result<Vec<u8>, Failure> {
    let name = path.display();
    // Asked of the path first: to open a pipe would wait for a writer.
    let metadata = path
        .metadata()
        .with_context(|| format!("cannot read {name}"))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() {
            "a folder"
        } else {
            "no regular file"
        };
        return Err(Failure::new(
            Exit::Invalid,
            format!("{name} is {what}, not a .torrent file"),
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(TORRENT_BYTES_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {name}"))?;
    if bytes.len() as u64 > TORRENT_BYTES_MAX {
        let max = TORRENT_BYTES_MAX / (1024 * 1024);
        return Err(Failure::new(
            Exit::Invalid,
            format!("{name} is longer than {max} MiB; that is no .torrent file"),
        ));
    }
    Ok(bytes)
}
