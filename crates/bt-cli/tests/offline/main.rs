//! The program `bt` as a script sees it, without a network: exit codes, JSON keys, and what is on the disk afterwards.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests of a shell: they own files, sockets and processes, and fail by panicking"
)]

mod create;
mod edit;
mod general;
mod invalid;
mod show;
mod verify;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder of its own for a test, in which `bt` runs.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// A place with `data/` in it: five files of 100 000 bytes and an empty one, in pieces of 16 KiB, and `data.torrent`.
    fn with_torrent() -> Self {
        let place = Self::new();
        for number in 0..5_u8 {
            let bytes: Vec<u8> = (0..100_000_u32)
                .map(|at| at.to_le_bytes()[0] ^ number)
                .collect();
            place.write(&format!("data/sub{}/file{number}", number % 2), &bytes);
        }
        place.write("data/empty", b"");
        assert_eq!(place.bt(&["create", "data"]).code, 0);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// What lies in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = fs::read_dir(self.0.path()).unwrap().map(name).collect();
        names.sort();
        names
            .into_iter()
            .map(|name| name.into_string().unwrap())
            .collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(self.0.path(), arguments)
    }

    fn bt(&self, arguments: &[&str]) -> Outcome {
        Outcome::from(self.command(arguments).output().unwrap())
    }

    /// Runs a command that must work, and reads the one line of JSON that it prints.
    fn json(&self, arguments: &[&str]) -> Value {
        let outcome = self.bt(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {}", outcome.stderr);
        outcome.json()
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    // Who runs the tests under `nohup` has SIGHUP ignored by all that they start.
    let mut command = Command::new("env");
    command
        .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_bt")])
        .current_dir(folder)
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The only line of stdout.
    fn json(&self) -> Value {
        let line = self.stdout.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "one object a line: {line}");
        serde_json::from_str(line).unwrap()
    }
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
