//! One place in the swarm: a folder, and the processes that lived in it one after the other, with what their events said.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::event::{Complete, Event, Progress};
use crate::process::{Line, Process, Usage};

/// What a place is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Knows who is there.
    Tracker,
    /// Has everything from the start.
    Seeder,
    /// Has nothing at the start.
    Leecher,
}

/// What one process's events said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Life {
    /// `(have, all)` after the first check.
    pub(crate) checked: Option<(u32, u32)>,
    /// The last progress.
    pub(crate) progress: Progress,
    /// The account at the end of the download.
    pub(crate) complete: Option<Complete>,
    /// Bytes that its disk gained until it was killed; what it told last may be a second older.
    pub(crate) gained: u64,
}

impl Life {
    /// Payload bytes received; of a process that was killed, at least.
    pub(crate) fn downloaded(&self) -> u64 {
        self.progress.downloaded.max(self.gained)
    }
}

/// A place in the swarm.
pub(crate) struct Node {
    /// What it is there for.
    pub(crate) role: Role,
    /// What the tables call it.
    pub(crate) name: String,
    /// Where its data lies.
    pub(crate) folder: PathBuf,
    /// The announce URL, once a tracker has said it.
    pub(crate) announce: Option<String>,
    /// Whether the running process listens.
    pub(crate) listening: bool,
    /// What each of its processes said; the last one may still run.
    pub(crate) lives: Vec<Life>,
    /// From the first start until everything was there.
    pub(crate) took: Option<Duration>,
    number: usize,
    arguments: Command,
    started: Option<Instant>,
    process: Option<Process>,
    usage_before: Usage,
    complaints: Vec<String>,
}

impl Node {
    /// A place whose processes are all started as `arguments` says.
    pub(crate) fn new(
        role: Role,
        number: usize,
        name: String,
        folder: PathBuf,
        arguments: Command,
    ) -> Self {
        Self {
            role,
            name,
            folder,
            announce: None,
            listening: false,
            lives: Vec::new(),
            took: None,
            number,
            arguments,
            started: None,
            process: None,
            usage_before: Usage::default(),
            complaints: Vec::new(),
        }
    }

    /// Starts a process here.
    pub(crate) fn start(&mut self, lines: &Sender<Line>) -> Result<()> {
        let mut command = Command::new(self.arguments.get_program());
        command.args(self.arguments.get_args());
        for (name, value) in self.arguments.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.started.get_or_insert_with(Instant::now);
        self.listening = false;
        self.lives.push(Life::default());
        self.process = Some(Process::spawn(
            &self.name,
            command,
            self.number,
            lines.clone(),
        )?);
        Ok(())
    }

    /// Takes a line that its process printed.
    pub(crate) fn take(&mut self, line: &Line) -> Result<()> {
        let event: Event = serde_json::from_str(&line.text)
            .with_context(|| format!("{} printed what is no event: {}", self.name, line.text))?;
        let Some(life) = self.lives.last_mut() else {
            bail!("{} speaks before it was started", self.name);
        };
        match event {
            Event::Listening { announce } => {
                self.listening = true;
                if announce.is_some() {
                    self.announce = announce;
                }
            }
            Event::Checked {
                pieces_have,
                pieces,
            } => {
                life.checked.get_or_insert((pieces_have, pieces));
                if pieces_have == pieces {
                    self.note_time(line.at);
                }
            }
            Event::Progress(progress) => life.progress = progress,
            Event::Complete(complete) => {
                life.complete = Some(complete);
                life.progress.downloaded = life.progress.downloaded.max(complete.downloaded);
                life.progress.uploaded = life.progress.uploaded.max(complete.uploaded);
                self.note_time(line.at);
            }
            Event::Stopped {
                downloaded,
                uploaded,
            } => {
                life.progress.downloaded = life.progress.downloaded.max(downloaded);
                life.progress.uploaded = life.progress.uploaded.max(uploaded);
            }
            Event::Warning { message } | Event::Error { message } => self.complaints.push(message),
            Event::Other => {}
        }
        Ok(())
    }

    /// Looks at the process; one that ended by itself is an error, with its last words.
    pub(crate) fn watch(&mut self) -> Result<()> {
        if let Some(process) = &mut self.process
            && process.poll()?.is_some()
        {
            bail!("{}", self.obituary());
        }
        Ok(())
    }

    /// The first time everything is there counts.
    fn note_time(&mut self, at: Instant) {
        if let Some(started) = self.started {
            self.took.get_or_insert(at.duration_since(started));
        }
    }

    /// Whether the running process has everything: it finished, or had it when it started.
    pub(crate) fn is_complete(&self) -> bool {
        let all = |life: &Life| life.checked.is_some_and(|(have, pieces)| have == pieces);
        self.lives
            .last()
            .is_some_and(|life| life.complete.is_some() || all(life))
    }

    /// Whether the running process listens and has checked that it has everything.
    pub(crate) fn is_seeding(&self) -> bool {
        let all = |(have, pieces): (u32, u32)| have == pieces;
        self.listening
            && self
                .lives
                .last()
                .and_then(|life| life.checked)
                .is_some_and(all)
    }

    /// Whether a process runs here.
    pub(crate) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// SIGKILL: nothing is saved, nothing is said.
    pub(crate) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            self.bury(&process);
        }
        Ok(())
    }

    /// SIGTERM: asks the process to stop.
    pub(crate) fn terminate(&self) {
        if let Some(process) = &self.process {
            process.terminate();
        }
    }

    /// Waits at most `patience` for the end of a process that was asked to stop; one that does not is killed, and that
    /// is an error.
    pub(crate) fn wait_for_end(&mut self, patience: Duration) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let ended = process.wait(patience)?;
        self.bury(&process);
        match ended {
            Some(status) if is_clean(status) => Ok(()),
            Some(_) => bail!("after SIGTERM {}", process.obituary()),
            None => bail!("{} did not end within {patience:?} of SIGTERM", self.name),
        }
    }

    /// What all its processes used.
    pub(crate) fn usage(&self) -> Usage {
        self.process.as_ref().map_or(self.usage_before, |process| {
            add(self.usage_before, process.usage())
        })
    }

    /// Sums over all its processes. A killed one sent, received and wasted at least so much: its last words are up to a
    /// second old, and it never told its waste.
    pub(crate) fn traffic(&self) -> Complete {
        let mut sum = Complete::default();
        for life in &self.lives {
            sum.downloaded += life.downloaded();
            sum.uploaded += life.progress.uploaded;
            sum.wasted += life.complete.map_or(0, |complete| complete.wasted);
            sum.hash_failures += life.complete.map_or(0, |complete| complete.hash_failures);
        }
        sum
    }

    /// How it stands, and what it complained of: for the message when something went wrong.
    pub(crate) fn obituary(&self) -> String {
        let mut text = match &self.process {
            Some(process) => process.obituary(),
            None => format!("{} does not run", self.name),
        };
        for complaint in self.complaints.iter().rev().take(5).rev() {
            text.push_str("\n    said: ");
            text.push_str(complaint);
        }
        text
    }

    fn bury(&mut self, process: &Process) {
        self.usage_before = add(self.usage_before, process.usage());
    }
}

fn add(one: Usage, two: Usage) -> Usage {
    Usage {
        cpu: one.cpu + two.cpu,
        peak_memory_bytes: one.peak_memory_bytes.max(two.peak_memory_bytes),
    }
}

/// 0, or the exit code that says "stopped by SIGTERM before it was done".
fn is_clean(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 143))
}
