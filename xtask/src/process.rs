//! One child process, watched: its lines, its memory and CPU time, its end. Dropped, it is killed.
//!
//! Invariant: no child outlives this program, however it ends: a child dies with the thread that started it, so
//! [`Process::spawn`] must be called from the main thread.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};

/// Last lines of stderr kept, to be shown when the process dies; more would bury the cause.
const TAIL_LINES_MAX: usize = 30;

/// A line a child printed on stdout.
#[derive(Debug)]
pub(crate) struct Line {
    /// Whose: the number given to [`Process::spawn`].
    pub(crate) from: usize,
    /// When it was read.
    pub(crate) at: Instant,
    /// Without the line end.
    pub(crate) text: String,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// User and system time of all its threads.
    pub(crate) cpu: Duration,
    /// Most resident memory at any time.
    pub(crate) peak_memory_bytes: u64,
}

/// A running, or ended, child.
pub(crate) struct Process {
    name: String,
    child: Child,
    usage: Usage,
    ended: Option<ExitStatus>,
    tail: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; its stdout goes line by line to `lines`, the last of its stderr is kept, and of
    /// its stdout if nobody listens.
    pub(crate) fn spawn(
        name: impl Into<String>,
        mut command: Command,
        from: usize,
        lines: Sender<Line>,
    ) -> Result<Self> {
        let name = name.into();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.process_group(0);
        die_with_parent(&mut command);
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let tail = Arc::clone(&tail);
            readers.push(std::thread::spawn(move || {
                each_line(stdout, |text| {
                    let at = Instant::now();
                    // What nobody listens to is among the last words.
                    if let Err(unheard) = lines.send(Line { from, at, text }) {
                        remember(&tail, unheard.0.text);
                    }
                });
            }));
        }
        if let Some(stderr) = child.stderr.take() {
            let tail = Arc::clone(&tail);
            readers.push(std::thread::spawn(move || {
                each_line(stderr, |text| remember(&tail, text));
            }));
        }
        Ok(Self {
            name,
            child,
            usage: Usage::default(),
            ended: None,
            tail,
            readers,
        })
    }

    /// Looks at the process: takes its usage, and its status once it has ended.
    pub(crate) fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_some() {
            return Ok(self.ended);
        }
        let pid = self.child.id();
        // An ended child that is not waited for yet still has its CPU time in /proc, but no memory any more.
        if let Some(peak) = status_bytes(pid, "VmHWM:") {
            self.usage.peak_memory_bytes = self.usage.peak_memory_bytes.max(peak);
        }
        let ended = self.has_ended()?;
        if let Some(cpu) = cpu_time(pid) {
            self.usage.cpu = cpu;
        }
        if ended {
            self.end_group();
            self.ended = Some(
                self.child
                    .wait()
                    .context("waiting for a child that has ended")?,
            );
            for reader in self.readers.drain(..) {
                // A reader cannot panic; if it did, its lines are missing and the test says so.
                let _ = reader.join();
            }
        }
        Ok(self.ended)
    }

    /// Whether it has ended, asked as cheaply as can be. It is not waited for, so its usage can still be looked at.
    pub(crate) fn has_ended(&self) -> Result<bool> {
        if self.ended.is_some() {
            return Ok(true);
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let ended = rustix::process::waitid(WaitId::Pid(self.pid()), options)
            .with_context(|| format!("waiting for {}", self.name))?;
        Ok(ended.is_some())
    }

    /// Whether it has ended; an error if it did not end as it should.
    pub(crate) fn has_ended_well(&mut self) -> Result<bool> {
        if !self.has_ended()? {
            return Ok(false);
        }
        match self.poll()? {
            Some(status) if !status.success() => bail!("{}", self.obituary()),
            _ => Ok(true),
        }
    }

    /// As last seen by [`poll`](Self::poll).
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// What it has in memory now; an error once it has ended.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        let pid = self.child.id();
        status_bytes(pid, "VmRSS:").with_context(|| format!("the memory of {}", self.name))
    }

    /// The last lines of its stderr.
    pub(crate) fn last_words(&self) -> Vec<String> {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().cloned().collect()
    }

    /// As the system numbers it.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM: asks it to stop.
    pub(crate) fn terminate(&self) {
        if self.ended.is_none() {
            // It may have ended by itself in this very moment.
            let _ = rustix::process::kill_process(self.pid(), Signal::TERM);
        }
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if self.ended.is_none() {
            self.poll()?;
            self.child
                .kill()
                .with_context(|| format!("killing {}", self.name))?;
            while self.poll()?.is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Waits at most `patience` for the process to end by itself; an error if this program is asked to stop meanwhile.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self.poll()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            crate::stop::check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it stands, with its last words: for the message when something went wrong.
    pub(crate) fn obituary(&self) -> String {
        let state = match self.ended {
            None => "still runs".to_owned(),
            Some(status) => describe(status),
        };
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!("{} {state}", self.name);
        for line in tail.iter() {
            text.push_str("\n    ");
            text.push_str(line);
        }
        text
    }

    /// Ends whatever it started itself: such a process would hold the pipes open, and the readers would wait for it.
    fn end_group(&self) {
        // An empty group is no error of ours. The child is not waited for yet, so the number is still its own.
        let _ = rustix::process::kill_process_group(self.pid(), Signal::KILL);
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.end_group();
            // It cannot refuse; an error means that it was waited for already.
            let _ = self.child.wait();
        }
    }
}

/// `exited with 6`, `was killed by signal 9`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Has the kernel kill the child when this program's thread that started it is gone.
#[allow(
    unsafe_code,
    reason = "there is no safe way to run something between fork and exec"
)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; this is one prctl without allocation.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
}

/// Keeps a line among the last words. That it goes on is said every second, and would bury them.
fn remember(tail: &Mutex<VecDeque<String>>, text: String) {
    if text.starts_with("{\"event\":\"progress\"") {
        return;
    }
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    if tail.len() == TAIL_LINES_MAX {
        tail.pop_front();
    }
    tail.push_back(text);
}

fn each_line(stream: impl Read, mut take: impl FnMut(String)) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
        take(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
}

/// A size in `/proc/PID/status`, where it is in KiB.
fn status_bytes(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib = line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?;
    Some(kib * 1024)
}

/// The CPU time of a process so far: fields 14 and 15 of `/proc/PID/stat`; the name in field 2 may hold anything, even `)`.
pub(crate) fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Some(Duration::from_millis(
        (user + system).saturating_mul(1000) / ticks,
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn shell(script: &str) -> (Process, mpsc::Receiver<Line>) {
        let (sender, lines) = mpsc::channel();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        (
            Process::spawn("sh", command, 3, sender).expect("sh starts"),
            lines,
        )
    }

    #[test]
    fn lines_usage_status_and_last_words_are_seen() {
        let (mut process, lines) = shell(
            "echo one; echo two; echo why >&2; i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; exit 6",
        );
        let status = process
            .wait(Duration::from_secs(60))
            .expect("waits")
            .expect("ends");
        assert_eq!(status.code(), Some(6));
        let texts: Vec<_> = lines.iter().map(|line| (line.from, line.text)).collect();
        assert_eq!(texts, [(3, "one".to_owned()), (3, "two".to_owned())]);
        assert_eq!(process.obituary(), "sh exited with 6\n    why");
        assert!(
            process.usage().cpu > Duration::ZERO,
            "the CPU time outlives the process"
        );
        assert!(process.usage().peak_memory_bytes > 100_000);
    }

    #[test]
    fn last_words_are_few_and_not_that_it_goes_on() {
        let tail = Mutex::new(VecDeque::new());
        for number in 0..=TAIL_LINES_MAX {
            remember(&tail, number.to_string());
            remember(&tail, r#"{"event":"progress","rate":1}"#.to_owned());
        }
        let expected: Vec<String> = (1..=TAIL_LINES_MAX).map(|it| it.to_string()).collect();
        assert_eq!(tail.into_inner().expect("nobody panics"), expected);
    }

    #[test]
    fn a_killed_or_dropped_process_is_gone() {
        let (mut process, _lines) = shell("sleep 600 & wait");
        assert!(process.poll().expect("polls").is_none());
        process.kill().expect("kills");
        assert_eq!(process.obituary(), "sh was killed by signal 9");
        let (process, _lines) = shell("exec sleep 600");
        let id = process.child.id();
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{id}")).exists());
    }
}
