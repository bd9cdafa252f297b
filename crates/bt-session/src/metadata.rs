//! Between a magnet link and a torrent: what peers gave becomes a torrent with open files, and is kept for the next
//! start (BEP 9; BEP 53 for the files that a link selects).
//!
//! **Invariant:** what lies in the state folder is believed only if its hash is the one that the link names.

use crate::config::TorrentOptions;
use crate::disk;
use crate::events::EventsIn;
use crate::handle::{Failure, TorrentEvent};
use crate::open::{self, Opened};
use crate::session::Shared;
use crate::status::StatusIn;
use bt_core::disk::{DiskError, DiskErrorKind};
use bt_core::{Bitfield, InfoHash};
use bt_metainfo::{Info, Magnet, Metainfo};
use bt_wire::extension::METADATA_BYTES_MAX;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The folder of kept info dictionaries, in the state folder.
const FOLDER: &str = "metadata";

/// How many are kept: what was not used for longest goes, and is had from peers again if it is wanted once more.
const KEPT_MAX: usize = 1000;

/// The bytes of them together. Most are far below 1 MiB, those of the largest torrents above 10.
const KEPT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A torrent whose files cannot be opened before it is known what it is.
#[derive(Debug)]
pub(crate) struct Unopened {
    pub(crate) magnet: Magnet,
    pub(crate) dir: PathBuf,
    pub(crate) options: TorrentOptions,
}

/// A torrent that has become known, and is open.
pub(crate) struct Described {
    pub(crate) opened: Opened,
    /// What its owner is told.
    pub(crate) checked: TorrentEvent,
}

impl core::fmt::Debug for Described {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Described").field(&self.checked).finish()
    }
}

/// Makes a torrent of the info dictionary, tells its owner, and opens its files.
///
/// # Errors
/// [`Failure::Metadata`] if the bytes are no torrent, [`Failure::Selection`] if nothing of it is wanted; as [`open::open`] otherwise.
pub(crate) async fn describe(
    shared: &Arc<Shared>,
    unopened: Unopened,
    info_bytes: &[u8],
    status: &StatusIn,
    events: &EventsIn,
) -> Result<Described, Failure> {
    let Unopened {
        magnet,
        dir,
        mut options,
    } = unopened;
    let metainfo = Metainfo::from_magnet(&magnet, info_bytes)
        .map_err(|error| Failure::Metadata(format!("what peers have is no torrent: {error}")))?;
    let known = Arc::new(metainfo);
    // Nobody may be listening.
    let _ = events.send(TorrentEvent::Metadata(Arc::clone(&known)));
    options.wanted = wanted(&magnet, &known.info, &options)?;
    let metainfo = Arc::unwrap_or_clone(known);
    if let Err(error) = keep(shared, &metainfo).await {
        let message = format!("what the torrent is is not kept for the next start: {error}");
        crate::torrent::warn(message, events);
    }
    let opened = open::open(shared, metainfo, dir, &options, None, status).await?;
    let checked = opened.checked();
    Ok(Described { opened, checked })
}

/// The pieces to get: what the user chose, else what the link selects; `None` for all.
///
/// # Errors
/// [`Failure::Selection`] if there is nothing of what was chosen.
pub(crate) fn wanted(
    magnet: &Magnet,
    info: &Info,
    options: &TorrentOptions,
) -> Result<Option<Bitfield>, Failure> {
    if let Some(choose) = &options.choose {
        return choose.pieces(info).map_err(Failure::Selection);
    }
    if options.wanted.is_some() || magnet.select.is_empty() {
        return Ok(options.wanted.clone());
    }
    let is_selected = |file: usize| u32::try_from(file).is_ok_and(|file| magnet.selects(file));
    if !(0..info.files().len()).any(is_selected) {
        let message = format!("the link selects no file of {}", info.name());
        return Err(Failure::Selection(message));
    }
    Ok(Some(info.pieces_of(|index, _| is_selected(index))))
}

/// The torrent that the link names, if an earlier run learnt what it is.
pub(crate) async fn kept(shared: &Arc<Shared>, magnet: &Magnet) -> Option<Metainfo> {
    let path = path(shared, magnet.info_hash?)?;
    let magnet = magnet.clone();
    let read = move || {
        let mut bytes = Vec::new();
        let file = File::open(path).ok()?;
        // It was used. On a folder that cannot be written nothing is removed either.
        let _ = file.set_modified(SystemTime::now());
        let mut file = file.take(u64::from(METADATA_BYTES_MAX));
        file.read_to_end(&mut bytes).ok()?;
        Metainfo::from_magnet(&magnet, &bytes).ok()
    };
    disk::on_pool(&shared.disk_permits, read).await.ok()?
}

async fn keep(shared: &Arc<Shared>, metainfo: &Metainfo) -> Result<(), DiskError> {
    let Some(path) = path(shared, metainfo.info_hash) else {
        return Ok(());
    };
    let bytes = metainfo.info_bytes().to_vec();
    let write = move || {
        write_whole(&path, &bytes)?;
        let folder = path.parent();
        folder.map_or(Ok(()), |folder| prune(folder, KEPT_MAX, KEPT_BYTES_MAX))
    };
    let written = disk::on_pool(&shared.disk_permits, write).await?;
    written.map_err(|error| DiskError {
        kind: DiskErrorKind::Io,
        message: error.to_string(),
    })
}

/// Writes under another name and renames. It need not survive a power cut: its hash tells whether it did.
fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    File::create(&unfinished)?.write_all(bytes)?;
    std::fs::rename(&unfinished, path)
}

/// Removes those that were not used for longest: beyond `count_max`, or beyond `bytes_max` together. The latest stays.
fn prune(folder: &Path, count_max: usize, bytes_max: u64) -> std::io::Result<()> {
    let mut kept = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Another process may be at it too.
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            kept.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    kept.sort_unstable();
    let mut bytes = 0;
    for (number, (_, length, path)) in kept.iter().rev().enumerate() {
        bytes += length;
        if number >= count_max || (number > 0 && bytes > bytes_max) {
            // Gone already is as good.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

fn path(shared: &Shared, info_hash: InfoHash) -> Option<PathBuf> {
    let state_dir = shared.config.state_dir.as_ref()?;
    let name = format!("{info_hash}.info");
    Some(state_dir.join(FOLDER).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SessionConfig;
    use crate::session::Session;
    use core::time::Duration;

    #[tokio::test]
    async fn to_be_started_again_is_to_be_used() {
        let temp = tempfile::tempdir().unwrap();
        let session = Session::new(SessionConfig {
            bind: Some(std::net::Ipv4Addr::LOCALHOST.into()),
            port: Some(0),
            state_dir: Some(temp.path().to_owned()),
            ..SessionConfig::default()
        });
        let session = session.unwrap();
        let builder = bt_metainfo::Builder::file("file", 10, 16 * 1024);
        let metainfo = builder.build(&[[0; 20]]).unwrap();
        let magnet = Magnet {
            info_hash: Some(metainfo.info_hash),
            ..Magnet::default()
        };
        let shared = session.shared();
        assert!(kept(shared, &magnet).await.is_none());
        keep(shared, &metainfo).await.unwrap();
        let path = path(shared, metainfo.info_hash).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let modified = || path.metadata().unwrap().modified().unwrap();
        File::open(&path).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(modified(), long_ago);
        let found = kept(shared, &magnet).await.unwrap();
        assert_eq!(found.info_bytes(), metainfo.info_bytes());
        assert!(modified() > long_ago);
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let check = |count_max, bytes_max, expected: &[&str]| {
            let temp = tempfile::tempdir().unwrap();
            for (age, name) in (1..).zip(["c", "a", "b", "d"]) {
                let path = temp.path().join(name).with_extension("info");
                write_whole(&path, &[7; 10]).unwrap();
                let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 - age);
                File::open(path).unwrap().set_modified(used).unwrap();
            }
            prune(temp.path(), count_max, bytes_max).unwrap();
            let left = std::fs::read_dir(temp.path()).unwrap();
            let left = left.map(|entry| entry.unwrap().path());
            let mut left: Vec<_> = left
                .map(|path| path.file_stem().unwrap().to_owned())
                .collect();
            left.sort_unstable();
            assert_eq!(left, expected, "{count_max} {bytes_max}");
        };
        check(4, 40, &["a", "b", "c", "d"]);
        check(2, 40, &["a", "c"]);
        check(4, 39, &["a", "b", "c"]);
        check(4, 0, &["c"]);
    }
}
