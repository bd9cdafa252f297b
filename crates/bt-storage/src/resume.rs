//! What is known of a torrent's data from one run to the next.
//!
//! **Invariant:** a claim is never a lie. It is written only after the data it speaks of is on the medium, to a new
//! file that then takes the old one's place; and it is believed only if it is whole (a checksum covers it), speaks of
//! this torrent, and each data file still has the length and time it names. These are as they were before the data was
//! hashed, or after our own last write; so a file that somebody else changes while we run is not believed the next time.
//! All else is checked again.
//!
//! File: `d 4:body <bencoded body> 4:sha1 <SHA-1 of the body> e`; body: `clean downloaded files have info_hash own
//! uploaded version`, where `files` has 16 bytes for each file: length and time of change, both big-endian.

use crate::error::disk_error;
use crate::files::Presence;
use crate::lanes::sha1;
use crate::map::FileIndex;
use crate::standing::Standing;
use crate::storage::FileStat;
use crate::store::TorrentStore;
use bt_bencode::{Node, Options, decode};
use bt_core::disk::DiskError;
use bt_core::{Bitfield, InfoHash, PieceIndex};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The version of the format; a file with another one is set aside.
const VERSION: u64 = 2;

/// What stands for the length of a file that was not there.
const ABSENT: u64 = u64::MAX;

/// The longest resume file that is read. That of a million files and 2²¹ pieces has 17 MiB.
const SIZE_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Room for what most resume files have.
const SIZE_USUAL_BYTES: usize = 2 * 1024;

/// What a run knows of its torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The pieces that are verified on disk.
    pub have: Bitfield,
    /// Payload bytes sent to peers, over all runs.
    pub uploaded: u64,
    /// Payload bytes received from peers, over all runs.
    pub downloaded: u64,
    /// True if nothing will be written after this: a run that goes on says false, so that after a crash the next run
    /// also checks what this one did not live to claim.
    pub clean: bool,
    /// True if the files are a download's own: what stands in them may be written over. A run that only seeds says so
    /// of what an earlier download left, and never of somebody's files.
    pub own: bool,
}

/// What may be believed of an earlier run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Pieces that are verified, and whose files have not been touched since.
    pub have: Bitfield,
    /// Pieces that may be there and have to be checked.
    pub recheck: Bitfield,
    /// Payload bytes sent to peers, over all runs.
    pub uploaded: u64,
    /// Payload bytes received from peers, over all runs.
    pub downloaded: u64,
    /// The files are an earlier download's own.
    pub own: bool,
    /// What stands where the files belong.
    pub standing: Standing,
    /// What is recorded, if all of it may be believed and nothing has to be checked.
    pub confirmed: Option<Resume>,
    /// What the user should know: what was not believed, and why.
    pub notes: Vec<String>,
}

/// A resume file's content that is whole and of this torrent.
struct Record {
    resume: Resume,
    files: Vec<Option<FileStat>>,
}

/// Where the resume file of the torrent lies in the state folder.
#[must_use]
pub fn path(folder: &Path, info_hash: InfoHash) -> PathBuf {
    folder.join(format!("{info_hash}.resume"))
}

/// Syncs the torrent's data and then replaces the resume file, whole or not at all.
///
/// `resume.have` must have been taken before the call: what is written meanwhile is not covered by the sync.
///
/// # Errors
/// If the data cannot be synced, or the file cannot be written. The old one then stands.
pub fn save(
    folder: &Path,
    info_hash: InfoHash,
    store: &TorrentStore,
    resume: &Resume,
) -> Result<(), DiskError> {
    let bytes = record(info_hash, store, resume)?;
    let target = path(folder, info_hash);
    replace(folder, &target, &bytes).map_err(|error| disk_error("write", &target, &error))
}

/// Syncs the torrent's data; the content of a resume file that speaks of it.
///
/// # Errors
/// If the data cannot be synced.
pub fn record(
    info_hash: InfoHash,
    store: &TorrentStore,
    resume: &Resume,
) -> Result<Vec<u8>, DiskError> {
    store.sync()?;
    let mut have = resume.have.clone();
    let doubtful = store.files.doubtful();
    for file in &doubtful {
        pieces_of(store, *file).for_each(|piece| {
            have.clear(piece);
        });
    }
    let record = Record {
        resume: Resume {
            have,
            // What is in doubt is likely there all the same: not claimed, and not given up either.
            clean: resume.clean && doubtful.is_empty(),
            ..resume.clone()
        },
        files: store.files.known_stats()?,
    };
    Ok(record.encode(info_hash))
}

/// Reads what an earlier run left. Never fails: what cannot be believed is checked again, and a file that is no good is
/// set aside under another name (`….resume.bad`) for the curious.
#[must_use]
pub fn load(folder: &Path, info_hash: InfoHash, store: &TorrentStore) -> Loaded {
    let mut notes = Vec::new();
    let path = path(folder, info_hash);
    let mut was_there = false;
    let record = match read(&path) {
        Ok(None) => None,
        Ok(Some(bytes)) => match Record::decode(&bytes, info_hash, store) {
            Ok(record) => Some(record),
            Err(reason) => {
                notes.push(set_aside(&path, &reason));
                // It says nothing of the data any more, but that there was a run.
                was_there = true;
                None
            }
        },
        Err(error) => {
            notes.push(disk_error("read", &path, &error).message);
            None
        }
    };
    let mut loaded = weigh(record, store, notes);
    loaded.own |= was_there;
    loaded
}

/// What may be believed of the content of a resume file; with `None`, or one that is no good, nothing.
#[must_use]
pub fn believe(bytes: Option<&[u8]>, info_hash: InfoHash, store: &TorrentStore) -> Loaded {
    let mut notes = Vec::new();
    let record = bytes.and_then(|bytes| {
        let record = Record::decode(bytes, info_hash, store);
        record.map_err(|reason| notes.push(reason)).ok()
    });
    weigh(record, store, notes)
}

/// Puts what was recorded beside what is there now.
fn weigh(record: Option<Record>, store: &TorrentStore, mut notes: Vec<String>) -> Loaded {
    let pieces_count = store.map().layout().pieces_count();
    // Before anything is hashed: who changes a file from now on, changes what is recorded of it too.
    let stats = store.files.look();
    let presence = Presence::of(&stats);
    let standing = Standing::of(store, &stats);
    let Some(Record { resume, files }) = record else {
        return Loaded {
            have: Bitfield::new(pieces_count),
            recheck: present(store, &presence, &Bitfield::full(pieces_count)),
            uploaded: 0,
            downloaded: 0,
            own: false,
            standing,
            confirmed: None,
            notes,
        };
    };
    let doubtful = doubtful_pieces(store, &files, &stats, &mut notes);
    let mut have = resume.have.clone();
    let mut recheck = doubtful.clone();
    if !resume.clean {
        let unclaimed: Vec<_> = Bitfield::full(pieces_count).iter_minus(&have).collect();
        unclaimed.into_iter().for_each(|piece| {
            recheck.set(piece);
        });
    }
    doubtful.iter().for_each(|piece| {
        have.clear(piece);
    });
    // A file that was gone already when the claim was written is as it was left, and holds nothing all the same.
    let (have, recheck) = (
        present(store, &presence, &have),
        present(store, &presence, &recheck),
    );
    let (uploaded, downloaded, own) = (resume.uploaded, resume.downloaded, resume.own);
    let is_confirmed = recheck.is_empty() && have == resume.have;
    Loaded {
        have,
        recheck,
        uploaded,
        downloaded,
        own,
        standing,
        confirmed: is_confirmed.then_some(resume),
        notes,
    }
}

/// The pieces with bytes in a file that is not as the record has it.
fn doubtful_pieces(
    store: &TorrentStore,
    files: &[Option<FileStat>],
    stats: &[Result<Option<FileStat>, DiskError>],
    notes: &mut Vec<String>,
) -> Bitfield {
    let mut doubtful = Bitfield::new(store.map().layout().pieces_count());
    let mut changed = Vec::new();
    for ((file, recorded), now) in file_indices(store).zip(files).zip(stats) {
        if now.as_ref() == Ok(recorded) {
            continue;
        }
        changed.push(file);
        pieces_of(store, file).for_each(|piece| {
            doubtful.set(piece);
        });
    }
    if let [first, others @ ..] = &changed[..] {
        let path = store.map().file(*first).map(|spec| spec.path.display());
        let path = path.map(|path| path.to_string()).unwrap_or_default();
        let others = match others.len() {
            0 => String::new(),
            1 => " (and another file)".to_owned(),
            count => format!(" (and {count} other files)"),
        };
        notes.push(format!(
            "{path}{others}: not as it was left, so its data is checked again"
        ));
    }
    doubtful
}

/// Those of the pieces whose files are there, and long enough.
fn present(store: &TorrentStore, presence: &Presence, pieces: &Bitfield) -> Bitfield {
    let mut present = Bitfield::new(pieces.pieces_count());
    for piece in pieces.iter() {
        if store.files.is_present(piece, presence) {
            present.set(piece);
        }
    }
    present
}

fn file_indices(store: &TorrentStore) -> impl Iterator<Item = FileIndex> + use<> {
    (0..store.map().files().len()).map(FileIndex)
}

fn pieces_of(store: &TorrentStore, file: FileIndex) -> impl Iterator<Item = PieceIndex> + use<> {
    let layout = store.map().layout();
    store
        .map()
        .file_pieces(file)
        .filter_map(move |piece| layout.piece(piece))
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    // Of most torrents it is a few hundred bytes: no buffer of a megabyte for that.
    let mut bytes = Vec::with_capacity(SIZE_USUAL_BYTES);
    file.take(SIZE_MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_MAX_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(bytes))
}

/// Writes the file beside its place, makes sure of it, and moves it there.
fn replace(folder: &Path, target: &Path, bytes: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Always the same name: what a killed run left half written is overwritten by the next.
    let new = target.with_extension("resume.new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, target)?;
    // Without this the new name itself may be lost with the power.
    File::open(folder)?.sync_all()
}

fn set_aside(path: &Path, reason: &str) -> String {
    let aside = path.with_extension("resume.bad");
    let what = match std::fs::rename(path, &aside) {
        Ok(()) => format!("set aside as {}", aside.display()),
        Err(error) => format!("it could not be set aside: {error}"),
    };
    let path = path.display();
    format!("{path} is no good ({reason}), {what}; the data is checked again")
}

impl Record {
    fn encode(&self, info_hash: InfoHash) -> Vec<u8> {
        let resume = &self.resume;
        let body = Node::dict([
            ("clean", Node::Int(resume.clean.into())),
            ("downloaded", Node::Int(resume.downloaded.into())),
            ("files", Node::Bytes(encode_files(&self.files))),
            ("have", Node::Bytes(resume.have.to_bytes())),
            ("info_hash", Node::Bytes(info_hash.0.to_vec())),
            ("own", Node::Int(resume.own.into())),
            ("uploaded", Node::Int(resume.uploaded.into())),
            ("version", Node::Int(VERSION.into())),
        ])
        .encode();
        let hash = sha1(&body).to_vec();
        Node::dict([("body", Node::Bytes(body)), ("sha1", Node::Bytes(hash))]).encode()
    }

    fn decode(bytes: &[u8], info_hash: InfoHash, store: &TorrentStore) -> Result<Self, String> {
        let outer = decode(bytes, &Options::strict()).map_err(|error| error.to_string())?;
        let (body, hash) = outer
            .root()
            .dict()
            .and_then(|dict| {
                Ok((
                    dict.require("body")?.bytes()?,
                    dict.require("sha1")?.bytes()?,
                ))
            })
            .map_err(|error| error.to_string())?;
        if sha1(body) != *hash {
            return Err("its checksum does not match".to_owned());
        }
        Self::decode_body(body, info_hash, store)
    }

    fn decode_body(body: &[u8], info_hash: InfoHash, store: &TorrentStore) -> Result<Self, String> {
        let error = |error: bt_bencode::Error| error.to_string();
        let document = decode(body, &Options::strict()).map_err(error)?;
        let dict = document.root().dict().map_err(error)?;
        let uint = |key| {
            dict.require(key)
                .and_then(|value| value.uint())
                .map_err(error)
        };
        let bytes = |key| {
            dict.require(key)
                .and_then(|value| value.bytes())
                .map_err(error)
        };
        let version = uint("version")?;
        if version != VERSION {
            return Err(format!("version {version}, not {VERSION}"));
        }
        if bytes("info_hash")? != info_hash.as_bytes() {
            return Err("it is of another torrent".to_owned());
        }
        let map = store.map();
        let have = Bitfield::from_bytes(bytes("have")?, map.layout().pieces_count())
            .map_err(|error| error.to_string())?;
        let files = decode_files(bytes("files")?);
        if files.len() != map.files().len() {
            return Err(format!("{} files, not {}", files.len(), map.files().len()));
        }
        Ok(Self {
            resume: Resume {
                have,
                uploaded: uint("uploaded")?,
                downloaded: uint("downloaded")?,
                clean: uint("clean")? == 1,
                own: uint("own")? == 1,
            },
            files,
        })
    }
}

fn encode_files(files: &[Option<FileStat>]) -> Vec<u8> {
    let entry = |file: &Option<FileStat>| {
        let length = file.map_or(ABSENT, |stat| stat.length);
        let modified = file.map_or(0, |stat| stat.modified_nanos);
        [length.to_be_bytes(), modified.to_be_bytes()]
    };
    files.iter().flat_map(entry).flatten().collect()
}

fn decode_files(bytes: &[u8]) -> Vec<Option<FileStat>> {
    let entry = |[length, modified]: &[[u8; 8]; 2]| {
        let length = u64::from_be_bytes(*length);
        (length != ABSENT).then_some(FileStat {
            length,
            modified_nanos: i64::from_be_bytes(*modified),
        })
    };
    let (numbers, _rest) = bytes.as_chunks::<8>();
    let (entries, _rest) = numbers.as_chunks::<2>();
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests;
