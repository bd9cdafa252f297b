//! What a leecher must have left, and received, when all is over.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::node::Node;
use super::torrent::Torrent;

/// Near the end a block is asked of a second peer when the first lets it wait, and may come twice. Honest peers on one
/// machine waste next to nothing; more than this from each of them is no endgame.
pub(crate) const ENDGAME_WASTE_PER_PEER: u64 = 1 << 20;

/// What lies in a leecher's folder beside its copy, and should not.
pub(crate) fn strangers(folder: &Path, name: &std::ffi::OsStr) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let other = entry.context("reading a folder")?.file_name();
        if other != name {
            found.push(format!("{} lies beside the copy", other.display()));
        }
    }
    Ok(found)
}

/// A process that received more than it lacked downloaded something again; that it calls it wasted excuses no more than
/// `waste_max` bytes. Pieces that a kill caught on their way are among what the next process lacks.
pub(crate) fn overdrawn(node: &Node, torrent: &Torrent, waste_max: u64) -> Option<String> {
    node.lives.iter().find_map(|life| {
        let had = life
            .checked
            .map_or(0, |(have, _)| u64::from(have) * torrent.piece_length);
        let lacked = torrent.total_length.saturating_sub(had);
        // A process that was killed did not say how much was wasted.
        let told = life.complete.map_or(waste_max, |complete| complete.wasted);
        // What came after it was complete is in neither: blocks that were on their way.
        let downloaded = life.complete.map_or_else(|| life.downloaded(), |complete| complete.downloaded);
        let wasted = told.min(waste_max);
        // The last piece is shorter than the others, and may be one of those it had.
        let slack = if had == 0 { 0 } else { torrent.piece_length };
        (downloaded > lacked + slack + wasted).then(|| {
            format!(
                "{} lacked {lacked} bytes and downloaded {downloaded}; at most {wasted} of them may be \
                 waste",
                node.name
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::event::Complete;
    use super::super::node::{Life, Role};
    use super::*;
    use std::process::Command;

    #[test]
    fn waste_excuses_no_more_than_an_endgame() {
        let torrent = Torrent {
            piece_length: 10,
            total_length: 1000,
            ..Torrent::default()
        };
        // It had so many pieces, received so much and called so much of it wasted; `None`: it was killed before it could.
        let rows = [
            (0, 1000, Some(0), false),
            (0, 1001, Some(0), true),
            (0, 1050, Some(50), false),
            (0, 1051, Some(50), true),
            (0, 1500, Some(500), true),
            (60, 410, Some(0), false),
            (60, 411, Some(0), true),
            (60, 460, Some(400), false),
            (60, 461, Some(400), true),
            (60, 460, None, false),
            (60, 461, None, true),
        ];
        for (had, downloaded, wasted, broken) in rows {
            let command = Command::new("bt");
            let mut node = Node::new(Role::Leecher, 1, "x".to_owned(), "x".into(), command);
            let mut life = Life {
                checked: Some((had, 100)),
                gained: downloaded,
                ..Life::default()
            };
            life.complete = wasted.map(|wasted| Complete {
                downloaded,
                wasted,
                ..Complete::default()
            });
            node.lives = vec![Life::default(), life];
            let found = overdrawn(&node, &torrent, 50).is_some();
            assert_eq!(found, broken, "{had} {downloaded} {wasted:?}");
        }
    }
}
