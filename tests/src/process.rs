//! The programs under test as processes: built once, read line by line, killed when dropped.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder of the programs, built with the profile this test was built with.
pub fn programs() -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let this = std::env::current_exe().expect("a test knows where it is");
            let folder = this
                .ancestors()
                .nth(2)
                .expect("target/PROFILE/deps/TEST")
                .to_owned();
            let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
            // What cargo tells this test of itself would make build scripts run anew, and half of the dependencies with them.
            for (name, _) in std::env::vars_os() {
                let text = name.to_string_lossy();
                if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                    cargo.env_remove(&name);
                }
            }
            cargo.args([
                "build",
                "--quiet",
                "--package",
                "bt-cli",
                "--package",
                "bt-trackerd",
                "--bins",
            ]);
            if folder
                .file_name()
                .is_some_and(|profile| profile == "release")
            {
                cargo.arg("--release");
            }
            cargo
                .arg("--target-dir")
                .arg(folder.parent().expect("target"));
            assert!(
                cargo.status().expect("cargo runs").success(),
                "the programs do not build"
            );
            folder
        })
        .clone()
}

/// A program that runs, with everything it prints.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    /// Every line of stdout read so far.
    pub seen: Vec<String>,
    stderr: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a program of the workspace. Its home is `home`: no state is shared unless a test wants it.
    pub fn start(program: &str, home: &std::path::Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(programs().join(program));
        command
            .args(arguments)
            .env("HOME", home)
            .env("XDG_STATE_HOME", home.join("state"));
        Self::spawn(command)
    }

    /// Starts any command.
    pub fn spawn(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("stdout is a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let pipe = child.stderr.take().expect("stderr is a pipe");
        let text = Arc::clone(&stderr);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = text.lock().expect("nobody panics with it");
                text.push_str(&line);
                text.push('\n');
            }
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
            stderr,
        }
    }

    /// Waits for the next event of that name.
    pub fn event(&mut self, name: &str) -> Value {
        self.event_where(name, |_| true)
    }

    /// Waits for the next event of that name that `wanted` likes.
    pub fn event_where(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!(
                    "no event `{name}`; seen: {:#?}\n{}",
                    self.seen,
                    self.stderr()
                );
            };
            self.seen.push(line.clone());
            let event: Value = serde_json::from_str(&line)
                .unwrap_or_else(|error| panic!("not JSON: {error}: {line}"));
            if event["event"] == name && wanted(&event) {
                return event;
            }
        }
    }

    /// Takes what was printed up to now.
    pub fn drain(&mut self) -> Vec<Value> {
        while let Ok(line) = self.lines.try_recv() {
            self.seen.push(line);
        }
        self.seen
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be looked at")
            .is_none()
    }

    /// Waits for the end: exit code, or 128 + the signal as a shell says it.
    pub fn end(&mut self) -> i32 {
        self.end_within(PATIENCE)
    }

    /// Waits for the end, at most so long.
    pub fn end_within(&mut self, patience: Duration) -> i32 {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return code(status);
            }
            assert!(
                Instant::now() < deadline,
                "still runs after {patience:?}; seen: {:#?}\n{}",
                self.seen,
                self.stderr()
            );
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Waits for the end and watches the memory meanwhile: exit code, and the peak in bytes.
    pub fn end_measured(&mut self) -> (i32, u64) {
        let deadline = Instant::now() + PATIENCE;
        let mut peak = 0;
        while self.is_running() {
            assert!(
                Instant::now() < deadline,
                "still runs after {PATIENCE:?}: {}",
                self.stderr()
            );
            peak = self.peak_memory_bytes().max(peak);
            std::thread::park_timeout(Duration::from_millis(10));
        }
        (self.end(), peak)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// What it said on stderr.
    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("nobody panics with it").clone()
    }

    /// Its peak of resident memory, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().strip_suffix(" kB"))
            .map_or(0, |kib| kib.parse::<u64>().expect("a number of KiB") * 1024)
    }

    /// The processor time that it has used, of all its threads.
    pub fn cpu(&self) -> Duration {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The name, in brackets, may have spaces in it. User and system time are fields 14 and 15, the state is 3.
        let fields = text.rsplit(')').next().unwrap_or_default();
        let fields = fields.split_ascii_whitespace().skip(11).take(2);
        let ticks: u64 = fields
            .map(|field| field.parse::<u64>().expect("ticks"))
            .sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// How many files and sockets it has open.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a program of the workspace to its end: exit code, stdout, stderr.
pub fn run(program: &str, home: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(programs().join(program))
        .args(arguments)
        .env("HOME", home)
        .env("XDG_STATE_HOME", home.join("state"))
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        code(output.status),
        text(&output.stdout),
        text(&output.stderr),
    )
}
