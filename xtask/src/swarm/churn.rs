//! Kills at random moments, and what must survive them.
//!
//! A killed leecher that comes back must claim exactly the pieces that lie whole on its disk: one more would be a lie to the
//! swarm, one less would be downloaded again. What lies there is found by comparing it with the source, right after the kill.

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
    /// Pieces that lay whole on the disk right after it.
    pub(crate) whole: u32,
    /// Pieces of which a part lay there.
    pub(crate) begun: u32,
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
        let Self { name, whole, .. } = self;
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

/// How the torrent lays its files out.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Bytes of every piece but the last.
    pub(crate) piece_length: u64,
    /// Path below the torrent's top (empty for a single file) and length, in the torrent's order.
    pub(crate) files: Vec<(PathBuf, u64)>,
}

/// Counts the pieces of `copy` that equal those of `source`: `(whole, begun)`.
pub(crate) fn pieces_on_disk(layout: &Layout, source: &Path, copy: &Path) -> Result<(u32, u32)> {
    let total: u64 = layout.files.iter().map(|file| file.1).sum();
    let (mut whole, mut begun) = (0, 0);
    let (mut source, mut copy) = (Reader::new(layout, source), Reader::new(layout, copy));
    let mut from = 0;
    while from < total {
        let len = layout.piece_length.min(total - from);
        let expected = source.read(from, len)?;
        let found = copy.read(from, len).unwrap_or_default();
        if expected == found {
            whole += 1;
        } else if found.iter().any(|byte| *byte != 0) {
            begun += 1;
        }
        from += len;
    }
    Ok((whole, begun))
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
        let rows: [(&str, &[u8], (u32, u32)); 6] = [
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
            assert_eq!(
                pieces_on_disk(&layout, &source, &copy).unwrap(),
                expected,
                "{name} {text:?}"
            );
        }
        fs::remove_dir_all(&copy).unwrap();
        assert_eq!(pieces_on_disk(&layout, &source, &copy).unwrap(), (0, 0));
    }

    #[test]
    fn a_claim_must_be_what_lies_there() {
        let kill = |claim| Kill {
            name: "x".to_owned(),
            whole: 5,
            begun: 1,
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
