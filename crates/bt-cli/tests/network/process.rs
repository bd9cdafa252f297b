//! A running `bt`: its events, its last words, its exit code.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// No test waits longer for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process, which does not outlive its test.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
    /// All lines of stdout that were looked at.
    pub(crate) seen: Vec<String>,
}

/// How a process ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: String,
}

impl Process {
    pub(crate) fn start(dir: &Path, home: &Path, arguments: &[&str]) -> Self {
        Self::spawn(Self::command(dir, home, arguments))
    }

    pub(crate) fn command(dir: &Path, home: &Path, arguments: &[&str]) -> Command {
        // Who runs the tests under `nohup` has SIGHUP ignored by all that they start.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_bt")])
            .args(arguments)
            .current_dir(dir)
            .env("HOME", home)
            .env_remove("XDG_STATE_HOME")
            .env_remove("RUST_LOG");
        command
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines() {
                // The test may have seen enough.
                let _ = sender.send(line.unwrap());
            }
        });
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        Self {
            child,
            lines,
            stderr: Some(stderr),
            seen: Vec::new(),
        }
    }

    /// The next event of this name.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no {name} ({error}): {:#?}", self.seen));
            let event: Value = serde_json::from_str(&line).unwrap();
            self.seen.push(line);
            if event["event"] == name {
                assert!(event["time"].is_u64());
                return event;
            }
        }
    }

    /// The next line of stdout, as a person reads it.
    pub(crate) fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("no line ({error}): {:#?}", self.seen));
        self.seen.push(line.clone());
        line
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen.push(line);
        }
        let code = self.child.wait().unwrap().code();
        Ended {
            code,
            stdout: core::mem::take(&mut self.seen),
            stderr: self.stderr.take().unwrap().join().unwrap(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
