//! Are copies identical to their source? Every byte is read and compared here; no program under test is asked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow};

/// Read at once from each copy; with many copies and threads it bounds the memory.
const CHUNK_BYTES: usize = 1 << 20;

/// One thread compares this much of one file, so that a single large file keeps every core busy.
const SPAN_BYTES: u64 = 32 << 20;

/// Differences shown per copy: the first tell the story.
const DIFFERENCES_MAX: usize = 5;

/// What a tree of files holds: path from its root and length in bytes. A single file has the empty path.
pub(crate) type Listing = BTreeMap<PathBuf, u64>;

/// Every regular file under `root`, which may be a file itself. Links are followed, as a reader of the tree would.
pub(crate) fn list(root: &Path) -> Result<Listing> {
    let mut files = Listing::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(relative) = pending.pop() {
        let path = join(root, &relative);
        let kind = fs::metadata(&path).with_context(|| path.display().to_string())?;
        if kind.is_dir() {
            for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
                pending.push(relative.join(entry.context("reading a folder")?.file_name()));
            }
        } else {
            files.insert(relative, kind.len());
        }
    }
    Ok(files)
}

/// What was found of one copy.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The first differences, in words; empty if the copy is identical.
    pub(crate) differences: Vec<String>,
}

impl Verdict {
    fn add(&mut self, difference: String) {
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(difference);
        }
    }
}

/// Compares each of `copies` with `source`: the lists of files, their lengths, and every byte.
pub(crate) fn copies(source: &Path, copies: &[PathBuf]) -> Result<Vec<Verdict>> {
    let expected = list(source)?;
    let verdicts: Vec<Mutex<Verdict>> = copies
        .iter()
        .map(|copy| Mutex::new(compare_lists(&expected, copy)))
        .collect();
    let spans: Vec<Span<'_>> = expected
        .iter()
        .flat_map(|(path, len)| spans(path, *len))
        .collect();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        let worker = || -> Result<()> {
            while let Some(span) = spans.get(next.fetch_add(1, Ordering::Relaxed)) {
                crate::stop::check()?;
                compare_span(source, copies, &verdicts, span)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().try_for_each(|thread| {
            thread
                .join()
                .map_err(|_| anyhow!("a comparing thread panicked"))?
        })
    })?;
    let open =
        |verdict: Mutex<Verdict>| verdict.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(verdicts.into_iter().map(open).collect())
}

/// Part of one file.
struct Span<'a> {
    path: &'a Path,
    from: u64,
    to: u64,
}

fn spans(path: &Path, len: u64) -> impl Iterator<Item = Span<'_>> {
    let count = len.div_ceil(SPAN_BYTES);
    (0..count).map(move |span| {
        let from = span * SPAN_BYTES;
        Span {
            path,
            from,
            to: len.min(from + SPAN_BYTES),
        }
    })
}

/// Files that are missing, too many, or of another length.
fn compare_lists(expected: &Listing, copy: &Path) -> Verdict {
    let mut verdict = Verdict::default();
    let found = match list(copy) {
        Ok(found) => found,
        Err(error) => {
            verdict.add(format!("{error:#}"));
            return verdict;
        }
    };
    for (path, len) in expected {
        match found.get(path) {
            None => verdict.add(format!("{} is missing", path.display())),
            Some(other) if other != len => {
                verdict.add(format!(
                    "{}: {other} bytes instead of {len}",
                    path.display()
                ));
            }
            Some(_) => {}
        }
    }
    for path in found.keys().filter(|path| !expected.contains_key(*path)) {
        verdict.add(format!("{} is not in the source", path.display()));
    }
    verdict
}

fn compare_span(
    source: &Path,
    copies: &[PathBuf],
    verdicts: &[Mutex<Verdict>],
    span: &Span<'_>,
) -> Result<()> {
    let original = File::open(join(source, span.path))
        .with_context(|| format!("the source's {}", span.path.display()))?;
    // A copy that lacks the file is known by its list.
    let mut open: Vec<(File, &Mutex<Verdict>)> = copies
        .iter()
        .zip(verdicts)
        .filter_map(|(copy, verdict)| Some((File::open(join(copy, span.path)).ok()?, verdict)))
        .collect();
    let (mut expected, mut found) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut at = span.from;
    while at < span.to && !open.is_empty() {
        let len = usize::try_from(span.to - at).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        expected.resize(len, 0);
        found.resize(len, 0);
        original
            .read_exact_at(&mut expected, at)
            .with_context(|| span.path.display().to_string())?;
        open.retain(|(file, verdict)| {
            let difference = match file.read_exact_at(&mut found, at) {
                Ok(()) if found == expected => return true,
                Ok(()) => "differs".to_owned(),
                Err(error) => error.to_string(),
            };
            let place = format!(
                "{} within 1 MiB of byte {at}: {difference}",
                span.path.display()
            );
            verdict
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(place);
            false
        });
        at += u64::try_from(len).unwrap_or(u64::MAX);
    }
    Ok(())
}

/// `root` itself for the empty path: joining that would add a slash, which no plain file takes.
fn join(root: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() {
        root.to_owned()
    } else {
        root.join(relative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, fn(&Path), Option<&'static str>);

    /// Each row spoils a good copy in one way, and says what is to be found.
    const ROWS: [Row; 8] = [
        ("untouched", |_| {}, None),
        (
            "missing",
            |dir| fs::remove_file(dir.join("d/b")).unwrap(),
            Some("d/b is missing"),
        ),
        (
            "extra",
            |dir| fs::write(dir.join("d/x"), "").unwrap(),
            Some("d/x is not in"),
        ),
        (
            "short",
            |dir| fs::write(dir.join("d/b"), "1").unwrap(),
            Some("1 bytes instead of 3"),
        ),
        (
            "no empty",
            |dir| fs::remove_file(dir.join("empty")).unwrap(),
            Some("empty is missing"),
        ),
        (
            "not empty",
            |dir| fs::write(dir.join("empty"), "1").unwrap(),
            Some("1 bytes instead"),
        ),
        (
            "one bit",
            |dir| flip(&dir.join("big"), 40 << 20),
            Some("big within 1 MiB of byte 41943040"),
        ),
        (
            "nothing",
            |dir| fs::remove_dir_all(dir).unwrap(),
            Some("No such file"),
        ),
    ];

    fn flip(path: &Path, at: u64) {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at + 77).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at + 77).unwrap();
    }

    fn tree(dir: &Path) {
        fs::create_dir_all(dir.join("d")).unwrap();
        fs::write(dir.join("d/b"), "abc").unwrap();
        fs::write(dir.join("empty"), "").unwrap();
        let big = vec![7; (41 << 20) + 5];
        fs::write(dir.join("big"), big).unwrap();
    }

    #[test]
    fn every_way_to_differ_is_found_and_told_from_the_good_copy() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("source");
        tree(&source);
        for (name, spoil, expected) in ROWS {
            let (good, bad) = (dir.path().join("good"), dir.path().join(name));
            tree(&good);
            tree(&bad);
            spoil(&bad);
            let verdicts = copies(&source, &[good, bad.clone()]).unwrap();
            assert!(
                verdicts[0].differences.is_empty(),
                "{name}: {:?}",
                verdicts[0]
            );
            match expected {
                None => assert!(verdicts[1].differences.is_empty(), "{name}"),
                Some(text) => {
                    assert!(
                        verdicts[1].differences[0].contains(text),
                        "{name}: {:?}",
                        verdicts[1]
                    );
                }
            }
            let _ = fs::remove_dir_all(bad);
        }
    }

    #[test]
    fn single_files_are_compared_too() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        fs::write(&one, "x").unwrap();
        fs::write(&two, "x").unwrap();
        assert!(
            copies(&one, std::slice::from_ref(&two)).unwrap()[0]
                .differences
                .is_empty()
        );
        fs::write(&two, "y").unwrap();
        assert!(
            !copies(&one, std::slice::from_ref(&two)).unwrap()[0]
                .differences
                .is_empty()
        );
    }
}
