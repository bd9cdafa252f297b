//! Does `bt show` read a torrent as libtorrent reads it?

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::client::Tools;

/// What both say of a torrent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Shown {
    name: String,
    /// Of the info dictionary, in hex.
    pub(crate) info_hash: String,
    piece_length: u64,
    pieces: u64,
    total_length: u64,
    files: Vec<ShownFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct ShownFile {
    path: String,
    length: u64,
}

/// What libtorrent reads.
pub(crate) fn by_libtorrent(torrent: &Path, tools: &Tools) -> Result<Shown> {
    let mut command = Command::new(&tools.python);
    command.arg(&tools.script).arg("show").arg(torrent);
    shown(command)
}

/// What `bt show` reads.
pub(crate) fn by_bt(torrent: &Path, tools: &Tools) -> Result<Shown> {
    let mut command = Command::new(&tools.bt);
    command.arg("show").arg(torrent).arg("--json");
    shown(command)
}

fn shown(mut command: Command) -> Result<Shown> {
    let output = command.output().context("showing a torrent")?;
    if !output.status.success() {
        bail!(
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).with_context(|| format!("{command:?} printed {text}"))
}

/// How the two differ, in words.
pub(crate) fn differences(ours: &Shown, theirs: &Shown) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug| {
        let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
        if ours != theirs {
            found.push(format!("{what}: ours {ours}, libtorrent's {theirs}"));
        }
    };
    compare("name", &ours.name, &theirs.name);
    compare("info hash", &ours.info_hash, &theirs.info_hash);
    compare("piece length", &ours.piece_length, &theirs.piece_length);
    compare("pieces", &ours.pieces, &theirs.pieces);
    compare("total length", &ours.total_length, &theirs.total_length);
    // One file too many shifts all behind it: the first place where the lists part says enough.
    let (ours, theirs) = (ours.in_order(), theirs.in_order());
    let parts_at = (0..ours.len().max(theirs.len())).find(|at| ours.get(*at) != theirs.get(*at));
    if let Some(at) = parts_at {
        compare(&format!("file {}", at + 1), &ours.get(at), &theirs.get(at));
    }
    found
}

impl Shown {
    /// Path and length of each file, in the torrent's order: it decides which bytes are whose. libtorrent's paths begin
    /// with the torrent's name.
    fn in_order(&self) -> Vec<(&str, u64)> {
        let top = format!("{}/", self.name);
        self.files
            .iter()
            .map(|file| {
                let path = file.path.strip_prefix(&top).unwrap_or(&file.path);
                (path, file.length)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disagreement_is_named() {
        let file = |path: &str, length| ShownFile {
            path: path.to_owned(),
            length,
        };
        let good = Shown {
            name: "top".to_owned(),
            info_hash: "00".to_owned(),
            piece_length: 1,
            pieces: 2,
            total_length: 3,
            files: vec![file("a", 1), file("d/b", 2)],
        };
        let with_top = Shown {
            files: vec![file("top/a", 1), file("top/d/b", 2)],
            ..good.clone()
        };
        let rows = [
            (good.clone(), None),
            (with_top, None),
            (
                Shown {
                    name: "x".to_owned(),
                    ..good.clone()
                },
                Some("name"),
            ),
            (
                Shown {
                    info_hash: "01".to_owned(),
                    ..good.clone()
                },
                Some("info hash"),
            ),
            (
                Shown {
                    files: vec![file("a", 1)],
                    ..good.clone()
                },
                Some("d/b"),
            ),
            (
                Shown {
                    files: vec![file("a", 9), file("d/b", 2)],
                    ..good.clone()
                },
                Some("file 1: ours"),
            ),
            (
                Shown {
                    files: vec![file("d/b", 2), file("a", 1)],
                    ..good.clone()
                },
                Some("file 1: ours"),
            ),
        ];
        for (other, expected) in rows {
            for found in [differences(&good, &other), differences(&other, &good)] {
                assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
                assert!(
                    found
                        .iter()
                        .zip(expected)
                        .all(|(found, text)| found.contains(text))
                );
            }
        }
    }
}
