//! `bt verify`: whether the data on the disk is what the torrent says.

use super::Context;
use crate::exit::{Exit, Failure, OrExit as _};
use crate::output::Output;
use crate::source::read_metainfo;
use crate::text::escape;
use crate::{folder, progress, units};
use bt_core::Bitfield;
use bt_metainfo::Metainfo;
use bt_storage::file::Access;
use bt_storage::map::{FileIndex, FileMap};
use bt_storage::verify::Verified;
use bt_storage::{Control, OpenOptions, TorrentStore};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Check data against the hashes of its torrent
///
/// Nothing is changed. Exit code 0: all is there and right; 4: something is missing, wrong, or longer than it
/// should be; 6: something could not be read, or is no file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The .torrent file
    torrent: PathBuf,
    /// The folder that holds the torrent's top file or folder
    #[arg(short, long, default_value = ".")]
    dir: PathBuf,
    /// How many threads hash [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is known of the data.
#[derive(Debug, Serialize)]
struct Report {
    name: String,
    info_hash: String,
    total_length: u64,
    pieces: u32,
    pieces_have: u32,
    /// True if all files are there and all pieces right.
    complete: bool,
    /// The files that are not all right.
    files: Vec<FileReport>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    path: String,
    length: u64,
    /// The length that it has; absent if it is not there, or cannot be asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    length_found: Option<u64>,
    status: Status,
    /// How many of its pieces are not right.
    pieces_bad: u32,
}

/// What is wrong with a file, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    /// It cannot be read, or is no file.
    Unreadable,
    /// It is not there.
    Missing,
    /// It is shorter than it should be.
    Short,
    /// Bytes in it, or in a file with which it shares a piece, are wrong.
    Wrong,
    /// It is longer than it should be.
    Long,
    /// It shares a piece with a file that is missing, short or unreadable, and cannot be checked all through.
    Unchecked,
}

impl Status {
    const fn text(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Missing => "missing",
            Self::Short => "too short",
            Self::Wrong => "wrong",
            Self::Long => "too long",
            Self::Unchecked => "unchecked",
        }
    }
}

/// Checks the data and tells what is wrong with it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let metainfo = read_metainfo(&args.torrent)?;
    let output = Output::new(args.json);
    if !folder::exists(&args.dir)? {
        let report = nothing_there(&metainfo);
        print(&report, output)?;
        let message = format!("there is no folder {}", args.dir.display());
        return Err(Failure::new(Exit::Mismatch, message));
    }
    let options = OpenOptions {
        access: Access::ReadOnly,
        ..OpenOptions::default()
    };
    let store = TorrentStore::open(&metainfo.info, &args.dir, &options).or_exit(Exit::Disk)?;
    let bar = progress::bytes(
        context.quiet,
        "verifying",
        metainfo.info.layout().total_length(),
    );
    let control = Control {
        threads: args.threads,
        cancel: Some(context.stop.flag()),
        progress: Some(&|progress| bar.set_position(progress.bytes_done)),
    };
    let verified = store.verify_all(control);
    bar.finish_and_clear();
    let verified = verified.map_err(|_cancelled| context.stop.failure())?;
    for error in &verified.errors {
        tracing::error!("{}", escape(&error.to_string()));
    }
    let report = report(&metainfo, &store, &verified);
    print(&report, output)?;
    let unreadable = report
        .files
        .iter()
        .any(|file| file.status == Status::Unreadable);
    if unreadable {
        return Err(Failure::new(
            Exit::Disk,
            "some of the data could not be read",
        ));
    }
    if !report.complete {
        return Err(Failure::new(
            Exit::Mismatch,
            "the data is not what the torrent says",
        ));
    }
    Ok(())
}

fn report(metainfo: &Metainfo, store: &TorrentStore, verified: &Verified) -> Report {
    let have = &verified.good;
    report_of(metainfo, have, |file, length| {
        look_at(store, verified, file, length)
    })
}

/// The report on an empty folder.
fn nothing_there(metainfo: &Metainfo) -> Report {
    let have = Bitfield::new(metainfo.info.layout().pieces_count());
    report_of(metainfo, &have, |_, _| Some((Status::Missing, None)))
}

/// The report for these pieces; `look` tells what is wrong with a file, if anything is.
fn report_of(
    metainfo: &Metainfo,
    have: &Bitfield,
    look: impl Fn(FileIndex, u64) -> Option<(Status, Option<u64>)>,
) -> Report {
    let layout = metainfo.info.layout();
    let map = FileMap::from(&metainfo.info);
    let is_bad = |piece: &u32| layout.piece(*piece).is_some_and(|piece| !have.get(piece));
    let files = metainfo.info.files().iter().enumerate();
    let files: Vec<_> = files
        .filter(|(_, file)| file.is_stored())
        .filter_map(|(index, file)| {
            let (status, length_found) = look(FileIndex(index), file.length)?;
            let bad = map.file_pieces(FileIndex(index)).filter(is_bad);
            Some(FileReport {
                path: file.path.display().to_string(),
                length: file.length,
                length_found,
                status,
                pieces_bad: u32::try_from(bad.count()).unwrap_or(u32::MAX),
            })
        })
        .collect();
    Report {
        name: metainfo.info.name().to_owned(),
        info_hash: metainfo.info_hash.to_string(),
        total_length: layout.total_length(),
        pieces: layout.pieces_count(),
        pieces_have: have.count_ones(),
        complete: have.is_full() && files.is_empty(),
        files,
    }
}

/// What is wrong with the file, and how long it is; `None` if nothing is.
fn look_at(
    store: &TorrentStore,
    verified: &Verified,
    file: FileIndex,
    length: u64,
) -> Option<(Status, Option<u64>)> {
    let layout = store.map().layout();
    let pieces = store.map().file_pieces(file);
    let (mut bad, mut wrong) = (false, false);
    for piece in pieces.filter_map(|piece| layout.piece(piece)) {
        bad |= !verified.good.get(piece);
        wrong |= verified.wrong.get(piece);
    }
    let found = match store.stat(file) {
        // What stands in a file's place is no file.
        Err(_) => return Some((Status::Unreadable, None)),
        Ok(None) => return Some((Status::Missing, None)),
        Ok(Some(stat)) => stat.length,
    };
    let status = if verified.unreadable_files.contains(&file) {
        Status::Unreadable
    } else if found < length {
        Status::Short
    } else if wrong {
        Status::Wrong
    } else if found > length {
        Status::Long
    } else if bad {
        Status::Unchecked
    } else {
        return None;
    };
    Some((status, Some(found)))
}

fn print(report: &Report, output: Output) -> Result<(), Failure> {
    output.json(report)?;
    for file in &report.files {
        let (status, path) = (file.status.text(), escape(&file.path));
        output.line(format!("{status:<10} {path}"))?;
    }
    let size = units::format_size(report.total_length);
    let name = escape(&report.name);
    if report.complete {
        return output.line(format!(
            "{name}: all right, {} pieces, {size}",
            report.pieces
        ));
    }
    let (have, pieces) = (report.pieces_have, report.pieces);
    output.line(format!(
        "{name}: {have} of {pieces} pieces are right, {size} in all"
    ))
}
