//! Kills at random moments, and what must survive them.
//!
//! A killed leecher that comes back must claim exactly the pieces that lie whole on its disk: one more would be a lie to the
//! swarm, one less would be downloaded again. What lies there is found by comparing it with the source, right after the kill.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::rng::Rng;

/// A kill may fall this long after the start at the earliest, when processes have just begun to talk.
const FIRST_KILL: Duration = Duration::from_millis(300);

/// Longest pause before a killed process is started again: some come back before their peers notice, some after.
const PAUSE_MAX_MILLIS: u64 = 800;

/// When to kill whom, and when to start it again, counted from the start of the leechers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The moment of the SIGKILL.
    pub(crate) at: Duration,
    /// Which leecher.
    pub(crate) leecher: usize,
    /// Until it is started again.
    pub(crate) pause: Duration,
}

/// `kills` kills for each of `leechers`, spread over `lasting`, in the order in which they happen.
pub(crate) fn plan(leechers: usize, kills: u32, lasting: Duration, rng: &mut Rng) -> Vec<Plan> {
    let range = u64::try_from(lasting.saturating_sub(FIRST_KILL).as_millis()).unwrap_or(u64::MAX);
    let mut plans = Vec::new();
    for leecher in 0..leechers {
        for _ in 0..kills {
            plans.push(Plan {
                at: FIRST_KILL + Duration::from_millis(rng.below(range)),
                leecher,
                pause: Duration::from_millis(rng.below(PAUSE_MAX_MILLIS)),
            });
        }
    }
    plans.sort_by_key(|plan| plan.at);
    plans
}

/// One kill as it happened.
#[derive(Debug, Clone)]
pub(crate) struct Kill {
    /// Name of the leecher.
    pub(crate) name: String,
    /// What lay on the disk right after it.
    pub(crate) held: Held,
    /// How many begun pieces it caught on their way; what an earlier kill left and nobody touched since is none.
    pub(crate) caught: u32,
    /// What the next process said.
    pub(crate) claim: Claim,
}

/// What a process that came back after a kill says of its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing so far.
    Awaited,
    /// Nothing: it was killed again before it could.
    KilledFirst,
    /// It has so many.
    Pieces(u32),
}

impl Kill {
    /// What is wrong with the claim, if anything is.
    pub(crate) fn complaint(&self) -> Option<String> {
        let (name, whole) = (&self.name, &self.held.whole);
        match self.claim {
            Claim::Pieces(claimed) if claimed > *whole => Some(format!(
                "{name} claims {claimed} pieces after a kill, but only {whole} are right"
            )),
            Claim::Pieces(claimed) if claimed < *whole => Some(format!(
                "{name} kept {claimed} of {whole} pieces after a kill"
            )),
            Claim::Pieces(_) | Claim::KilledFirst => None,
            Claim::Awaited => Some(format!("{name} never said what it has after a kill")),
        }
    }
}

/// A complaint if there were to be kills and none caught a piece on its way: then nothing was seen of what becomes of one.
pub(crate) fn caught_nothing(kills_per_leecher: u32, kills: &[Kill]) -> Option<String> {
    let caught: u32 = kills.iter().map(|kill| kill.caught).sum();
    (kills_per_leecher > 0 && caught == 0).then(|| {
        format!(
            "{} kills caught no piece on its way: take longer pieces or a lower upload limit",
            kills.len()
        )
    })
}

/// How the torrent lays its files out.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Bytes of every piece but the last.
    pub(crate) piece_length: u64,
    /// Path below the torrent's top (empty for a single file) and length, in the torrent's order.
    pub(crate) files: Vec<(PathBuf, u64)>,
}

/// A block, in which pieces travel and are written.
const BLOCK: usize = 16 << 10;

/// What of a torrent lies on a disk, found by comparing it with the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Pieces that are all right.
    pub(crate) whole: u32,
    /// Their bytes.
    pub(crate) whole_bytes: u64,
    /// Pieces of which a part lies there, and how many of its bytes are right, counted by blocks.
    pub(crate) begun: BTreeMap<u32, u64>,
}

impl Held {
    /// Begun pieces that are not as they were at `earlier`.
    pub(crate) fn caught_since(&self, earlier: &Self) -> u32 {
        let touched = self
            .begun
            .iter()
            .filter(|(piece, right)| earlier.begun.get(piece) != Some(right));
        u32::try_from(touched.count()).unwrap_or(u32::MAX)
    }

    /// The bytes that must have come since `earlier`, if nothing was lost in between: whole pieces that were not, and the
    /// blocks that were added to begun ones.
    pub(crate) fn gained_since(&self, earlier: &Self) -> u64 {
        let added = self.begun.iter().map(|(piece, right)| {
            let before = earlier.begun.get(piece).copied().unwrap_or(0);
            right.saturating_sub(before)
        });
        self.whole_bytes.saturating_sub(earlier.whole_bytes) + added.sum::<u64>()
    }
}

/// Compares the pieces of `copy` with those of `source`.
pub(crate) fn held(layout: &Layout, source: &Path, copy: &Path) -> Result<Held> {
    let total: u64 = layout.files.iter().map(|file| file.1).sum();
    let mut held = Held::default();
    let (mut source, mut copy) = (Reader::new(layout, source), Reader::new(layout, copy));
    let (mut from, mut piece) = (0, 0);
    while from < total {
        let len = layout.piece_length.min(total - from);
        let expected = source.read(from, len)?;
        let found = copy.read(from, len).unwrap_or_default();
        if expected == found {
            held.whole += 1;
            held.whole_bytes += len;
        } else if found.iter().any(|byte| *byte != 0) {
            held.begun.insert(piece, right_bytes(&expected, &found));
        }
        from += len;
        piece += 1;
    }
    Ok(held)
}

/// Bytes in the blocks of `found` that are as `expected`. Zeros are no sign that something was written.
fn right_bytes(expected: &[u8], found: &[u8]) -> u64 {
    expected
        .chunks(BLOCK)
        .zip(found.chunks(BLOCK))
        .filter(|(expected, found)| expected == found && found.iter().any(|byte| *byte != 0))
        .map(|(_, found)| found.len() as u64)
        .sum()
}

/// Reads a torrent's bytes in order out of the files of one tree. The open file is kept.
struct Reader<'a> {
    layout: &'a Layout,
    root: &'a Path,
    open: Option<(usize, File)>,
}

impl<'a> Reader<'a> {
    fn new(layout: &'a Layout, root: &'a Path) -> Self {
        Self {
            layout,
            root,
            open: None,
        }
    }

    /// `len` bytes from `from`; an error if a file lacks some of them.
    fn read(&mut self, from: u64, len: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).context("a piece larger than memory")?];
        let mut rest = bytes.as_mut_slice();
        let mut file_from = 0;
        for (index, (path, file_len)) in self.layout.files.iter().enumerate() {
            let at = from.max(file_from);
            let end = (from + len).min(file_from + file_len);
            if at < end {
                let (part, left) = rest.split_at_mut(usize::try_from(end - at)?);
                self.file(index, path)?
                    .read_exact_at(part, at - file_from)?;
                rest = left;
            }
            file_from += file_len;
        }
        Ok(bytes)
    }

    fn file(&mut self, index: usize, path: &Path) -> Result<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != index) {
            let path = if path.as_os_str().is_empty() {
                self.root.into()
            } else {
                self.root.join(path)
            };
            let file = File::open(&path).with_context(|| path.display().to_string())?;
            self.open = Some((index, file));
        }
        self.open
            .as_ref()
            .map(|(_, file)| file)
            .context("a file just opened")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_plan_is_its_seed_and_every_leecher_gets_its_kills() {
        let lasting = Duration::from_secs(10);
        let plans = plan(3, 4, lasting, &mut Rng::new(1));
        assert_eq!(plans, plan(3, 4, lasting, &mut Rng::new(1)));
        assert_ne!(plans, plan(3, 4, lasting, &mut Rng::new(2)));
        for leecher in 0..3 {
            assert_eq!(
                plans.iter().filter(|plan| plan.leecher == leecher).count(),
                4
            );
        }
        assert!(
            plans
                .iter()
                .all(|plan| plan.at >= FIRST_KILL && plan.at < lasting)
        );
        assert!(plans.is_sorted_by_key(|plan| plan.at));
    }

    #[test]
    fn pieces_are_judged_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let (source, copy) = (dir.path().join("source"), dir.path().join("copy"));
        let files = [("a", "0123456"), ("empty", ""), ("b", "89abcdefgh")];
        for root in [&source, &copy] {
            fs::create_dir(root).unwrap();
            for (name, text) in files {
                fs::write(root.join(name), text).unwrap();
            }
        }
        let files = files
            .iter()
            .map(|(name, text)| (PathBuf::from(name), text.len() as u64))
            .collect();
        // 17 bytes in pieces of 4: the second piece spans both files, the last is short.
        let layout = Layout {
            piece_length: 4,
            files,
        };
        let rows: [(&str, &[u8], (u32, usize)); 6] = [
            ("b", b"89abcdefgh", (5, 0)),
            ("b", b"89abcdefgX", (4, 1)),
            ("b", b"X9abcdefgh", (4, 1)),
            ("b", b"\0\0\0\0\0\0\0\0\0\0", (1, 1)),
            ("b", b"89abcdef", (3, 0)),
            ("a", b"", (3, 0)),
        ];
        for (name, text, expected) in rows {
            fs::write(copy.join("b"), "89abcdefgh").unwrap();
            fs::write(copy.join(name), text).unwrap();
            let held = held(&layout, &source, &copy).unwrap();
            assert_eq!((held.whole, held.begun.len()), expected, "{name} {text:?}");
        }
        fs::remove_dir_all(&copy).unwrap();
        assert_eq!(held(&layout, &source, &copy).unwrap(), Held::default());
    }

    #[test]
    fn the_right_blocks_of_a_begun_piece_are_counted() {
        let expected: Vec<u8> = (1..=251).cycle().take(3 * BLOCK + 5).collect();
        let rows: [(&[usize], u64); 4] = [
            (&[], 3 * BLOCK as u64 + 5),
            (&[0], 2 * BLOCK as u64 + 5),
            (&[1, 3 * BLOCK], 2 * BLOCK as u64),
            (&[0, BLOCK, 2 * BLOCK, 3 * BLOCK], 0),
        ];
        for (wrong, right) in rows {
            let mut found = expected.clone();
            for at in wrong {
                found[*at] = 0;
            }
            assert_eq!(right_bytes(&expected, &found), right, "{wrong:?}");
        }
        assert_eq!(right_bytes(&[0; BLOCK], &[0; BLOCK]), 0);
    }

    fn begun(pieces: &[(u32, u64)]) -> Held {
        Held {
            whole: 5,
            whole_bytes: 500,
            begun: pieces.iter().copied().collect(),
        }
    }

    #[test]
    fn a_kill_that_caught_nothing_new_shows_nothing() {
        let earlier = begun(&[(1, 10), (2, 20)]);
        for (now, caught) in [
            (begun(&[]), 0),
            (begun(&[(1, 10), (2, 20)]), 0),
            (begun(&[(2, 30)]), 1),
            (begun(&[(1, 10), (3, 10)]), 1),
        ] {
            assert_eq!(now.caught_since(&earlier), caught, "{now:?}");
        }
        let kill = |caught| Kill {
            name: "x".to_owned(),
            held: Held::default(),
            caught,
            claim: Claim::Awaited,
        };
        assert!(caught_nothing(3, &[]).is_some());
        assert!(caught_nothing(3, &[kill(0), kill(0)]).is_some());
        assert_eq!(caught_nothing(3, &[kill(0), kill(1)]), None);
        assert_eq!(caught_nothing(0, &[]), None);
    }

    #[test]
    fn what_came_between_two_kills_is_at_least_what_the_disk_gained() {
        let earlier = begun(&[(1, 10), (2, 20)]);
        let more = Held {
            whole: 7,
            whole_bytes: 700,
            begun: [(2, 50), (3, 5)].into(),
        };
        assert_eq!(more.gained_since(&earlier), 200 + 30 + 5);
        assert_eq!(more.gained_since(&Held::default()), 700 + 50 + 5);
        assert_eq!(earlier.gained_since(&more), 10);
    }

    #[test]
    fn a_claim_must_be_what_lies_there() {
        let kill = |claim| Kill {
            name: "x".to_owned(),
            held: begun(&[(7, 1)]),
            caught: 1,
            claim,
        };
        assert_eq!(kill(Claim::Pieces(5)).complaint(), None);
        assert_eq!(kill(Claim::KilledFirst).complaint(), None);
        for (claim, text) in [
            (Claim::Pieces(6), "only 5 are right"),
            (Claim::Pieces(4), "kept 4 of 5"),
            (Claim::Awaited, "never"),
        ] {
            assert!(
                kill(claim)
                    .complaint()
                    .is_some_and(|complaint| complaint.contains(text))
            );
        }
    }
}
