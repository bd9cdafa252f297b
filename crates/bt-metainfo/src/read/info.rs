//! The reader of the info dictionary. What is wrong here makes the torrent unusable, so it is refused.

use super::{fields, text};
use crate::error::MetainfoError;
use crate::info::{Attributes, FILE_LENGTH_MAX, FILES_MAX, FileEntry, Format, Info};
use crate::note::{Note, Notes};
use crate::path::{
    PATH_BYTES_MAX, PATH_PARTS_MAX, Platform, sanitize_part, sanitize_path, separate,
};
use bt_bencode::{Dict, ErrorKind, Value};
use bt_core::piece::{LayoutError, PIECE_LENGTH_MAX};
use bt_core::{InfoHash, Layout};
use std::path::PathBuf;

pub(crate) fn read_info(
    info: Dict<'_>,
    info_hash: InfoHash,
    platform: Platform,
    notes: &mut Notes,
) -> Result<Info, MetainfoError> {
    let [
        pieces,
        file_tree,
        meta_version,
        name,
        name_utf8,
        piece_length,
        length,
        files,
        private,
        source,
        attr,
        md5sum,
    ] = fields(
        info,
        [
            "pieces",
            "file tree",
            "meta version",
            "name",
            "name.utf-8",
            "piece length",
            "length",
            "files",
            "private",
            "source",
            "attr",
            "md5sum",
        ],
    );
    let says_v2 = meta_version.is_some_and(|version| version.as_int() == Some(2));
    let is_v2 = file_tree.is_some() || says_v2;
    if is_v2 && pieces.is_none() {
        return Err(MetainfoError::V2Only);
    }
    let name = top_name(info, [name_utf8, name], info_hash, platform, notes)?;
    let files_value = files;
    let mut files = match (length, files_value) {
        (Some(length), None) => vec![File {
            path: name.clone(),
            length: file_length(length)?,
            attributes: attributes(attr),
            md5sum: md5(md5sum, notes),
        }],
        (None, Some(files)) => Folder {
            name: &name,
            platform,
            notes,
        }
        .read(files)?,
        (length, _) => {
            let both = length.is_some();
            return Err(MetainfoError::LengthOrFiles { both });
        }
    };
    separate_files(&mut files, platform, notes);
    let (files, total_length) = place(files);
    let layout = layout(info, piece_length, total_length)?;
    Ok(Info {
        piece_hashes: piece_hashes(info, pieces, layout)?,
        private: is_private(private, notes),
        source: text(source, notes),
        format: if is_v2 { Format::Hybrid } else { Format::V1 },
        is_folder: files_value.is_some(),
        name,
        files,
        layout,
    })
}

/// A file before it has its place in the torrent.
struct File {
    /// Safe parts with `/` between them.
    path: String,
    length: u64,
    attributes: Attributes,
    md5sum: Option<String>,
}

/// `name.utf-8` if it is there and is UTF-8, else `name`; the info hash if nothing safe is left of it.
fn top_name(
    info: Dict<'_>,
    [name_utf8, name]: [Option<Value<'_>>; 2],
    info_hash: InfoHash,
    platform: Platform,
    notes: &mut Notes,
) -> Result<String, MetainfoError> {
    let utf8 = name_utf8.and_then(|value| value.as_text());
    let given = match utf8 {
        Some(text) => text.as_bytes(),
        None => needed(info, "name", name.or(name_utf8))?.bytes()?,
    };
    let safe = if given.is_empty() {
        None
    } else {
        sanitize_part(given, platform)
    };
    let name = safe.unwrap_or_else(|| info_hash.to_string());
    note_renamed(given, &name, notes);
    Ok(name)
}

fn note_renamed(given: &[u8], used: &str, notes: &mut Notes) {
    if given != used.as_bytes() {
        notes.push(|| Note::Renamed {
            from: String::from_utf8_lossy(given).into_owned(),
            to: used.to_owned(),
        });
    }
}

/// The reader of `info.files`.
struct Folder<'n> {
    name: &'n str,
    platform: Platform,
    notes: &'n mut Notes,
}

impl Folder<'_> {
    fn read(mut self, files: Value<'_>) -> Result<Vec<File>, MetainfoError> {
        let mut read = Vec::new();
        for entry in files.list()?.iter() {
            if read.len() >= FILES_MAX {
                return Err(MetainfoError::TooManyFiles { max: FILES_MAX });
            }
            let file = self.file(read.len(), entry)?;
            read.push(file);
        }
        if read.is_empty() {
            return Err(MetainfoError::NoFiles);
        }
        Ok(read)
    }

    fn file(&mut self, index: usize, entry: Value<'_>) -> Result<File, MetainfoError> {
        let dict = entry.dict()?;
        let [length, path, path_utf8, attr, md5sum] =
            fields(dict, ["length", "path", "path.utf-8", "attr", "md5sum"]);
        let attributes = attributes(attr);
        let length = match length {
            // BEP 47: a symlink has no length, and may leave it out.
            None if attributes.symlink => 0,
            _ => file_length(needed(dict, "length", length)?)?,
        };
        let path = match path_parts(path_utf8, path)? {
            Some(parts) => self.path(index, &parts)?,
            // BEP 47: padding need not have a path.
            None if attributes.padding => format!("{}/.pad/{length}", self.name),
            None => {
                return Err(dict
                    .value()
                    .error(ErrorKind::MissingKey {
                        key: "path".to_owned(),
                    })
                    .into());
            }
        };
        Ok(File {
            path,
            length,
            attributes,
            md5sum: md5(md5sum, self.notes),
        })
    }

    fn path(&mut self, file: usize, parts: &[&[u8]]) -> Result<String, MetainfoError> {
        if parts.is_empty() {
            return Err(MetainfoError::EmptyPath { file });
        }
        let mut safe = sanitize_path(parts.iter().copied(), self.platform);
        if safe.is_empty() {
            safe.push("_".to_owned());
        }
        note_renamed(&parts.join(&b'/'), &safe.join("/"), self.notes);
        let path = format!("{}/{}", self.name, safe.join("/"));
        if parts.len() > PATH_PARTS_MAX || path.len() > PATH_BYTES_MAX {
            return Err(MetainfoError::PathTooLong {
                file,
                parts_count: parts.len(),
                length_bytes: path.len(),
            });
        }
        Ok(path)
    }
}

fn needed<'a>(
    dict: Dict<'a>,
    key: &str,
    found: Option<Value<'a>>,
) -> Result<Value<'a>, bt_bencode::Error> {
    found.map_or_else(|| dict.require(key), Ok)
}

/// The parts of `path.utf-8` if they are all UTF-8, else those of `path`; nothing if there is neither.
fn path_parts<'a>(
    path_utf8: Option<Value<'a>>,
    path: Option<Value<'a>>,
) -> Result<Option<Vec<&'a [u8]>>, bt_bencode::Error> {
    let as_text = |list: bt_bencode::List<'a>| -> Option<Vec<&'a [u8]>> {
        let parts = list.iter().map(|part| part.as_text().map(str::as_bytes));
        parts.collect()
    };
    if let Some(parts) = path_utf8.and_then(|value| as_text(value.as_list()?)) {
        return Ok(Some(parts));
    }
    let Some(path) = path.or(path_utf8) else {
        return Ok(None);
    };
    let parts = path.list()?.iter().map(|part| part.bytes());
    parts.collect::<Result<_, _>>().map(Some)
}

fn file_length(value: Value<'_>) -> Result<u64, MetainfoError> {
    let length_bytes = value.uint()?;
    if length_bytes > FILE_LENGTH_MAX {
        let path = value.path();
        return Err(MetainfoError::FileTooLong { path, length_bytes });
    }
    Ok(length_bytes)
}

fn attributes(value: Option<Value<'_>>) -> Attributes {
    let letters = value.and_then(|value| value.as_bytes());
    Attributes::parse(letters.unwrap_or_default())
}

fn md5(value: Option<Value<'_>>, notes: &mut Notes) -> Option<String> {
    let value = value?;
    let digits = value
        .as_text()
        .filter(|text| text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit()));
    if digits.is_none() {
        notes.ignored(|| value.path(), "not 32 hexadecimal digits");
    }
    digits.map(str::to_ascii_lowercase)
}

/// Point 7 of the path rule, for the files that are made on disk.
fn separate_files(files: &mut [File], platform: Platform, notes: &mut Notes) {
    let stored: Vec<usize> = files
        .iter()
        .enumerate()
        .filter(|(_, file)| !file.attributes.padding && !file.attributes.symlink)
        .map(|(index, _)| index)
        .collect();
    let take = |index: &usize| {
        let file = files.get_mut(*index);
        file.map(|file| core::mem::take(&mut file.path))
    };
    let mut paths: Vec<String> = stored.iter().filter_map(take).collect();
    for (from, index) in separate(&mut paths, platform) {
        let to = paths.get(index).cloned().unwrap_or_default();
        notes.push(|| Note::Renamed { from, to });
    }
    for (index, path) in stored.into_iter().zip(paths) {
        if let Some(file) = files.get_mut(index) {
            file.path = path;
        }
    }
}

/// Gives every file its offset. Sums of lengths saturate; the layout then refuses them.
fn place(files: Vec<File>) -> (Vec<FileEntry>, u64) {
    let mut offset = 0_u64;
    let placed = files
        .into_iter()
        .map(|file| {
            let entry = FileEntry {
                path: file.path.split('/').collect::<PathBuf>(),
                length: file.length,
                offset,
                attributes: file.attributes,
                md5sum: file.md5sum,
            };
            offset = offset.saturating_add(file.length);
            entry
        })
        .collect();
    (placed, offset)
}

fn layout(
    info: Dict<'_>,
    piece_length: Option<Value<'_>>,
    total_length: u64,
) -> Result<Layout, MetainfoError> {
    let length_bytes = needed(info, "piece length", piece_length)?.int()?;
    let piece_length = u32::try_from(length_bytes)
        .ok()
        .filter(|length| (1..=PIECE_LENGTH_MAX).contains(length))
        .ok_or(MetainfoError::PieceLength { length_bytes })?;
    Layout::new(total_length, piece_length)
        .map_err(|error: LayoutError| MetainfoError::Layout(error))
}

fn piece_hashes(
    info: Dict<'_>,
    pieces: Option<Value<'_>>,
    layout: Layout,
) -> Result<Vec<[u8; 20]>, MetainfoError> {
    let pieces = needed(info, "pieces", pieces)?.bytes()?;
    let (hashes, rest) = pieces.as_chunks::<20>();
    if !rest.is_empty() {
        return Err(MetainfoError::PiecesLength {
            length_bytes: pieces.len(),
        });
    }
    let expected = layout.pieces_count();
    if u32::try_from(hashes.len()) != Ok(expected) {
        let found = hashes.len();
        return Err(MetainfoError::PiecesCount { found, expected });
    }
    Ok(hashes.to_vec())
}

/// `private` is 1 or absent (BEP 27). Anything else but 0 is odd; then the torrent is kept private, as the other
/// mistake cannot be taken back.
fn is_private(value: Option<Value<'_>>, notes: &mut Notes) -> bool {
    let Some(value) = value else {
        return false;
    };
    let number = value.as_int();
    if !matches!(number, Some(0 | 1)) {
        notes.push(|| Note::Taken {
            path: value.path(),
            how: "taken as 1: it is neither 0 nor 1",
        });
    }
    number != Some(0)
}
