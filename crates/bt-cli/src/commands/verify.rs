//! `bt verify`: whether the data on the disk is what the torrent says.

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::source::read_metainfo;
use crate::text::escape;
use crate::{progress, units};
use bt_core::disk::DiskErrorKind;
use bt_metainfo::Metainfo;
use bt_storage::file::Access;
use bt_storage::map::FileIndex;
use bt_storage::verify::Verified;
use bt_storage::{Control, OpenOptions, TorrentStore};
use serde::Serialize;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Check data against the hashes of its torrent
///
/// Nothing is changed. Exit code 0: all is there and right; 4: something is missing or wrong; 6: it could not be read.
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
            Self::Unchecked => "unchecked",
        }
    }
}

/// Checks the data and tells what is wrong with it.
pub(crate) fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let metainfo = read_metainfo(&args.torrent)?;
    let options = OpenOptions {
        access: Access::ReadOnly,
        ..OpenOptions::default()
    };
    let store = TorrentStore::open(&metainfo.info, &args.dir, &options).map_err(|error| {
        let missing = error.kind == DiskErrorKind::Missing;
        Failure::new(if missing { Exit::Mismatch } else { Exit::Disk }, error)
    })?;
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
    print(&report, Output::new(args.json))?;
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
    let layout = metainfo.info.layout();
    let files = metainfo.info.files().iter().enumerate();
    let files: Vec<_> = files
        .filter(|(_, file)| file.is_stored())
        .filter_map(|(index, file)| {
            let (status, pieces_bad) = look_at(store, verified, FileIndex(index), file.length)?;
            Some(FileReport {
                path: file.path.display().to_string(),
                length: file.length,
                status,
                pieces_bad,
            })
        })
        .collect();
    Report {
        name: metainfo.info.name().to_owned(),
        info_hash: metainfo.info_hash.to_string(),
        total_length: layout.total_length(),
        pieces: layout.pieces_count(),
        pieces_have: verified.good.count_ones(),
        complete: verified.good.is_full() && files.is_empty(),
        files,
    }
}

/// What is wrong with the file, and how many of its pieces; `None` if nothing is.
fn look_at(
    store: &TorrentStore,
    verified: &Verified,
    file: FileIndex,
    length: u64,
) -> Option<(Status, u32)> {
    let layout = store.map().layout();
    let pieces = store
        .map()
        .file_pieces(file)
        .filter_map(|piece| layout.piece(piece));
    let (mut bad, mut wrong) = (0, false);
    for piece in pieces {
        bad += u32::from(!verified.good.get(piece));
        wrong |= verified.wrong.get(piece);
    }
    let status = match store.stat(file) {
        Err(error) if error.kind == DiskErrorKind::Missing => Status::Missing,
        Err(_) => Status::Unreadable,
        Ok(None) => Status::Missing,
        Ok(Some(stat)) if stat.length < length => Status::Short,
        Ok(Some(_)) if wrong => Status::Wrong,
        Ok(Some(_)) if bad > 0 => Status::Unchecked,
        Ok(Some(_)) => return None,
    };
    Some((status, bad))
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
