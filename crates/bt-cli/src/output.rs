//! Results on stdout: lines for a person, or JSON, one object a line.
//!
//! **Invariant:** a closed stdout is no error. Whoever pipes into `head` has seen enough, and a download goes on. It goes on
//! too while nobody reads: what a long-running command says is written by a thread of its own.

pub(crate) mod writer;

use crate::exit::Failure;
use crate::log;
use anyhow::Context as _;
use bt_core::InfoHash;
use serde::Serialize;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use writer::{Kind, Writer};

/// How long the end of the program waits for who reads stdout, and then for who reads stderr, after trackers have been told and the state is saved.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(3);

/// Where results go, and in which form.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    /// Who writes, if it is not whoever has something to say.
    writer: Option<&'static Writer>,
}

impl Output {
    /// Lines for a person, or JSON and nothing else.
    pub(crate) const fn new(json: bool) -> Self {
        let writer = None;
        Self { json, writer }
    }

    /// The same for a command that must go on while nobody reads, be it stdout or stderr. It ends with
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub(crate) fn unwaiting(json: bool) -> Result<Self, Failure> {
        let writer = Writer::start("stdout", io::stdout(), None);
        let writer = writer.context("cannot start a thread")?;
        log::unwaiting()?;
        let writer = Some(writer);
        Ok(Self { json, writer })
    }

    /// Lines for a person.
    pub(crate) const fn person() -> Self {
        Self::new(false)
    }

    /// True if stdout carries JSON only.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Prints a line for a person; nothing in JSON mode. Strangers' text in it has passed [`crate::text::escape`].
    ///
    /// # Errors
    /// If stdout cannot be written, and is not just closed.
    pub(crate) fn line(self, line: impl AsRef<str>) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.say(format!("{}\n", line.as_ref()).as_bytes(), Kind::News)?;
        if let Some(writer) = self.writer.filter(|_| io::stdout().is_terminal()) {
            // Whoever took bars out of the way draws them again after this.
            writer.settle();
        }
        Ok(())
    }

    /// Prints an object as one line of JSON; nothing if a person reads.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub(crate) fn json(self, object: &impl Serialize) -> Result<(), Failure> {
        self.object(object, Kind::News)
    }

    /// Prints `{"event": name, "time": now, "info_hash": …, …fields}` as one line; nothing if a person reads.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub(crate) fn event(
        self,
        name: &str,
        info_hash: Option<InfoHash>,
        fields: &impl Serialize,
    ) -> Result<(), Failure> {
        self.told(name, info_hash, fields, Kind::News)
    }

    /// The event `progress`, which is of use until the next [`overtake`](Self::overtake).
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub(crate) fn progress(
        self,
        info_hash: InfoHash,
        fields: &impl Serialize,
    ) -> Result<(), Failure> {
        self.told("progress", Some(info_hash), fields, Kind::Numbers)
    }

    /// Newer numbers follow: those that nobody has read yet are taken back.
    ///
    /// # Errors
    /// As [`line`](Self::line), of what was printed before.
    pub(crate) fn overtake(self) -> Result<(), Failure> {
        match self.writer {
            Some(writer) => written(writer.overtake()),
            None => Ok(()),
        }
    }

    /// Waits a moment until what was printed is written, and says on stderr if it was not.
    ///
    /// # Errors
    /// As [`line`](Self::line), of what was printed before.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let Some(writer) = self.writer else {
            return Ok(());
        };
        let lost = writer.finish(END_PATIENCE);
        if let Ok(lost @ 1..) = lost {
            tracing::warn!("nobody reads stdout: up to {lost} lines are lost");
        }
        written(lost.map(drop))
    }

    fn told(
        self,
        name: &str,
        info_hash: Option<InfoHash>,
        fields: &impl Serialize,
        kind: Kind,
    ) -> Result<(), Failure> {
        #[derive(Serialize)]
        struct Event<'a, F> {
            event: &'a str,
            time: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            info_hash: Option<String>,
            #[serde(flatten)]
            fields: &'a F,
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let event = Event {
            event: name,
            time: time.map_or(0, |since| since.as_secs()),
            info_hash: info_hash.map(|hash| hash.to_string()),
            fields,
        };
        self.object(&event, kind)
    }

    fn object(self, object: &impl Serialize, kind: Kind) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let mut line = serde_json::to_vec(object).context("cannot write the result as JSON")?;
        line.push(b'\n');
        self.say(&line, kind)
    }

    fn say(self, line: &[u8], kind: Kind) -> Result<(), Failure> {
        match self.writer {
            Some(writer) => written(writer.say(line, kind)),
            None => self.bytes(line),
        }
    }

    /// Prints bytes as they are, at once.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => written(result),
        }
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    Ok(result.context("cannot write to stdout")?)
}
