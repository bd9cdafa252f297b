//! `cargo xtask swarm-test` as a process, with programs that do nothing.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test of a shell: it starts processes and looks at files"
)]

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn a_signal_ends_the_processes_and_removes_the_copies() {
    for signal in [Signal::INT, Signal::TERM] {
        let temp = tempfile::tempdir().unwrap();
        let (programs, copies) = (temp.path().join("programs"), temp.path().join("copies"));
        fs::create_dir(&programs).unwrap();
        fs::create_dir(&copies).unwrap();
        let fifo = temp.path().join("started");
        assert!(
            Command::new("mkfifo")
                .arg(&fifo)
                .status()
                .unwrap()
                .success()
        );
        // A tracker that says who it is, and never that it listens.
        let script = format!(
            "#!/bin/sh\necho $$ > '{}'\nexec sleep 600\n",
            fifo.display()
        );
        for name in ["bt", "bt-trackerd"] {
            let path = programs.join(name);
            fs::write(&path, &script).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut test = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(["swarm-test", "--size", "1", "--leechers", "1", "--programs"])
            .arg(&programs)
            .arg("--dir")
            .arg(&copies)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // There is a writer once the tracker runs.
        let tracker = fs::read_to_string(&fifo).unwrap();
        let tracker = Path::new("/proc").join(tracker.trim());
        assert!(tracker.exists());
        assert_eq!(fs::read_dir(&copies).unwrap().count(), 1);
        kill_process(Pid::from_child(&test), signal).unwrap();
        assert_eq!(test.wait().unwrap().code(), Some(130));
        assert!(!tracker.exists(), "the tracker runs on");
        assert_eq!(fs::read_dir(&copies).unwrap().count(), 0, "{signal:?}");
    }
}
