//! A checked metainfo file: its bytes, its info hash, and the keys around the info dictionary.
//!
//! **Invariant:** the info hash is the SHA-1 of the info dictionary's bytes as they stand; nothing is ever re-encoded
//! to get it. Keys that are not known stay in [`bytes`](Metainfo::bytes).

use crate::error::MetainfoError;
use crate::info::Info;
use crate::magnet::Magnet;
use crate::note::{Note, Notes};
use crate::path::Platform;
use crate::read::{self, fields, info::read_info};
use bt_bencode::decode::SIZE_MAX_BYTES;
use bt_bencode::{Document, ErrorKind, NoteKind, Options, Value, assemble_dict, decode};
use bt_core::InfoHash;
use core::ops::Range;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;

/// The largest metainfo file that is read, in bytes. The largest real ones have some 20 MiB.
pub const METAINFO_BYTES_MAX: usize = SIZE_MAX_BYTES;

/// How many values and keys a metainfo file may have: [`FILES_MAX`](crate::info::FILES_MAX) files with all their keys
/// and short paths. They cost no memory.
const ITEMS_MAX: usize = 16_000_000;

/// A metainfo (.torrent) file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metainfo {
    /// What is shared.
    pub info: Info,
    /// SHA-1 of the info dictionary's bytes as they stand in the file.
    pub info_hash: InfoHash,
    /// Tracker URLs in tiers (BEP 12): `announce-list` if there is one, else `announce`; cleaned and capped.
    pub trackers: Vec<Vec<String>>,
    bytes: Vec<u8>,
    info_span: Range<usize>,
    outer: Outer,
    notes: Vec<Note>,
}

/// The keys beside `info` and the trackers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outer {
    comment: Option<String>,
    created_by: Option<String>,
    creation_date: Option<i64>,
    encoding: Option<String>,
    web_seeds: Vec<String>,
    http_seeds: Vec<String>,
    nodes: Vec<Node>,
}

/// A DHT node that a torrent names (BEP 5, "torrent file extensions").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    /// A host name or an address, as it stands.
    pub host: String,
    /// Its UDP port, not 0.
    pub port: u16,
}

/// The info hash of an info dictionary as it stands: its SHA-1.
#[must_use]
pub fn info_hash_of(info_bytes: &[u8]) -> InfoHash {
    InfoHash(Sha1::digest(info_bytes).into())
}

impl Metainfo {
    /// Reads a metainfo file, for paths of the platform that this program was built for.
    ///
    /// # Errors
    /// [`MetainfoError`] says what is wrong, and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetainfoError> {
        Self::parse_for(bytes, Platform::current())
    }

    /// Reads a metainfo file, for paths of some platform.
    ///
    /// # Errors
    /// [`MetainfoError`] says what is wrong, and where.
    pub fn parse_for(bytes: &[u8], platform: Platform) -> Result<Self, MetainfoError> {
        let options = Options {
            items_max: ITEMS_MAX,
            size_max_bytes: METAINFO_BYTES_MAX,
            ..Options::lenient()
        };
        let document = decode(bytes, &options)?;
        let top = document.root().dict()?;
        let [
            info,
            announce,
            announce_list,
            comment,
            comment_utf8,
            created_by,
            creation_date,
            encoding,
            url_list,
            http_seeds,
            nodes,
        ] = fields(
            top,
            [
                "info",
                "announce",
                "announce-list",
                "comment",
                "comment.utf-8",
                "created by",
                "creation date",
                "encoding",
                "url-list",
                "httpseeds",
                "nodes",
            ],
        );
        let info_value = info.map_or_else(|| top.require("info"), Ok)?;
        let mut notes = Notes::default();
        note_non_canonical(&document, info_value, &options, &mut notes)?;
        let info_hash = info_hash_of(info_value.raw());
        let info = read_info(info_value.dict()?, info_hash, platform, &mut notes)?;
        let trackers = read::trackers(announce_list, announce, &mut notes);
        let outer = Outer {
            comment: read::text(comment_utf8.or(comment), &mut notes),
            created_by: read::text(created_by, &mut notes),
            creation_date: read::date(creation_date, &mut notes),
            encoding: read::text(encoding, &mut notes),
            web_seeds: read::web_seeds(url_list, &mut notes),
            http_seeds: read::web_seeds(http_seeds, &mut notes),
            nodes: read::nodes(nodes, &mut notes),
        };
        let start = info_value.offset();
        Ok(Self {
            info,
            info_hash,
            trackers,
            info_span: start..start + info_value.raw().len(),
            bytes: bytes.to_vec(),
            outer,
            notes: notes.into_vec(),
        })
    }

    /// The torrent that a magnet link stands for, once its info dictionary was had from peers (BEP 9).
    ///
    /// # Errors
    /// [`MetainfoError::InfoHash`] if the bytes are not the ones that the link names, [`MetainfoError::V2Only`] if it
    /// names only a v2 torrent, and whatever else can be wrong with an info dictionary.
    pub fn from_magnet(magnet: &Magnet, info_bytes: &[u8]) -> Result<Self, MetainfoError> {
        let expected = magnet.info_hash.ok_or(MetainfoError::V2Only)?;
        let found = info_hash_of(info_bytes);
        if found != expected {
            return Err(MetainfoError::InfoHash { found, expected });
        }
        let tiers = magnet.trackers.iter().map(|url| vec![url.clone()]);
        let edit = crate::Edit {
            trackers: crate::Change::Set(tiers.collect()),
            web_seeds: crate::Change::Set(magnet.web_seeds.clone()),
            ..crate::Edit::default()
        };
        // Checked alone first: bytes behind the dictionary would otherwise become keys beside it.
        decode(info_bytes, &Options::lenient())?;
        let mut entries = BTreeMap::from([(b"info".to_vec(), info_bytes.to_vec())]);
        edit.apply(&mut entries);
        Self::parse(&assemble_dict(&entries))
    }

    /// The file's bytes as they were read or built.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The info dictionary's bytes: what [`info_hash`](Self::info_hash) is of, and what peers ask for (BEP 9).
    #[must_use]
    pub fn info_bytes(&self) -> &[u8] {
        self.bytes.get(self.info_span.clone()).unwrap_or_default()
    }

    /// What its maker says about it. Text from a stranger: escape it before it is shown.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        self.outer.comment.as_deref()
    }

    /// Name and version of the program that made it. Text from a stranger.
    #[must_use]
    pub fn created_by(&self) -> Option<&str> {
        self.outer.created_by.as_deref()
    }

    /// When it was made, in Unix seconds.
    #[must_use]
    pub const fn creation_date(&self) -> Option<i64> {
        self.outer.creation_date
    }

    /// The character set of names, if its maker tells. Text from a stranger; names are read as UTF-8 anyway.
    #[must_use]
    pub fn encoding(&self) -> Option<&str> {
        self.outer.encoding.as_deref()
    }

    /// Web seeds of BEP 19 (`url-list`), cleaned and capped.
    #[must_use]
    pub fn web_seeds(&self) -> &[String] {
        &self.outer.web_seeds
    }

    /// Web seeds of BEP 17 (`httpseeds`), cleaned and capped.
    #[must_use]
    pub fn http_seeds(&self) -> &[String] {
        &self.outer.http_seeds
    }

    /// DHT nodes that the torrent names (BEP 5).
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.outer.nodes
    }

    /// What was odd about it, the first [`NOTES_MAX`](crate::note::NOTES_MAX) of it.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The magnet link of the torrent.
    #[must_use]
    pub fn magnet(&self) -> Magnet {
        Magnet {
            info_hash: Some(self.info_hash),
            name: Some(self.info.name().to_owned()),
            length: Some(self.info.layout().total_length()),
            trackers: self.trackers.concat(),
            web_seeds: self.outer.web_seeds.clone(),
            ..Magnet::default()
        }
    }
}

/// Notes what is not canonical, and refuses what two readers could understand differently: leading zeros anywhere, and
/// repeated keys in the info dictionary.
fn note_non_canonical(
    document: &Document<'_>,
    info: Value<'_>,
    options: &Options,
    notes: &mut Notes,
) -> Result<(), MetainfoError> {
    if document.is_canonical() {
        return Ok(());
    }
    let refuse = |kind: ErrorKind, offset: usize| {
        let path = document.path_at(offset);
        Err(bt_bencode::Error { kind, offset, path }.into())
    };
    for note in document.notes() {
        match note.kind {
            NoteKind::LeadingZero => return refuse(ErrorKind::LeadingZero, note.offset),
            NoteKind::NegativeZero => return refuse(ErrorKind::NegativeZero, note.offset),
            NoteKind::DuplicateKey | NoteKind::UnsortedKey | NoteKind::TrailingNewline => {}
        }
        notes.push(|| Note::NonCanonical {
            what: note.kind,
            path: document.path_at(note.offset),
        });
    }
    // By itself, so that no number of notes outside can crowd out one inside.
    let alone = decode(info.raw(), options)?;
    let duplicate = |note: &&bt_bencode::Note| note.kind == NoteKind::DuplicateKey;
    match alone.notes().iter().find(duplicate) {
        Some(note) => refuse(ErrorKind::DuplicateKey, info.offset() + note.offset),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
