//! The program `bt` as a script sees it, on the loopback: what it prints, and the code it ends with.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests of a shell: they own files, sockets and processes, and fail by panicking"
)]

mod failures;
mod get;
mod process;
mod stop;
mod trackers;

use process::Process;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Tests that run beside each other share the same data, and must not find each other.
pub(crate) const LOCAL: [&str; 5] = ["--bind", "127.0.0.1", "--port", "0", "--no-lsd"];

/// A folder of its own for a test, with a home for each process.
pub(crate) struct Place(TempDir);

/// A folder with an empty file, one of less than a piece, and one of many.
const FILES: [(&str, usize); 3] = [
    ("empty", 0),
    ("ä/small.txt", 1_000),
    ("ä/large.bin", 3_000_000),
];

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        for (path, length) in FILES {
            let path = place.path("data").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let bytes: Vec<u8> = (0..length)
                .map(|at| u8::try_from((at % 251) ^ ((at >> 14) % 256)).unwrap())
                .collect();
            fs::write(path, bytes).unwrap();
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts `bt`; `who` gives it a home of its own.
    pub(crate) fn bt(&self, who: &str, arguments: &[&str]) -> Process {
        Process::start(self.0.path(), &self.path(who), arguments)
    }

    /// Publishes the folder on free ports; also the URL of its torrent.
    pub(crate) fn publish(&self) -> (Process, String) {
        let common = [
            "--bind",
            "127.0.0.1",
            "--port",
            "0",
            "--http",
            "127.0.0.1:0",
            "--no-lsd",
            "--json",
        ];
        let mut publisher = self.bt("publisher", &[&["publish", "data"], &common[..]].concat());
        let published = publisher.event("published");
        let url = published["torrent_url"].as_str().unwrap().to_owned();
        (publisher, url)
    }

    /// Asserts that `dir` holds a whole copy, byte for byte, and nothing else.
    pub(crate) fn assert_copied(&self, dir: &str) {
        for (path, length) in FILES {
            let copy = fs::read(self.path(dir).join("data").join(path)).unwrap();
            assert_eq!(copy.len(), length);
            assert!(
                copy == fs::read(self.path("data").join(path)).unwrap(),
                "{path}"
            );
        }
        assert_eq!(count(&self.path(dir)), count(&self.path("data")) + 1);
    }
}

/// Files and folders below.
pub(crate) fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { 1 + count(&path) } else { 1 })
        .sum()
}

/// Runs `bt` and checks its exit code and that its last words contain `words`.
pub(crate) fn check(place: &Place, arguments: &[&str], code: i32, words: &str) {
    let ended = place.bt("home", arguments).end();
    assert_eq!(ended.code, Some(code), "{arguments:?}: {}", ended.stderr);
    assert!(
        ended.stderr.contains(words),
        "{arguments:?}: {}",
        ended.stderr
    );
}
