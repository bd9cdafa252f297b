//! Results on stdout: lines for a person, or JSON, one object a line.
//!
//! **Invariant:** a closed stdout is no error. Whoever pipes into `head` has seen enough, and a download goes on.

use crate::exit::Failure;
use anyhow::Context as _;
use bt_core::InfoHash;
use serde::Serialize;
use std::io::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Lines for a person, or JSON and nothing else.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
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
        self.bytes(format!("{}\n", line.as_ref()).as_bytes())
    }

    /// Prints an object as one line of JSON; nothing if a person reads.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub(crate) fn json(self, object: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let mut line = serde_json::to_vec(object).context("cannot write the result as JSON")?;
        line.push(b'\n');
        self.bytes(&line)
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
        self.json(&Event {
            event: name,
            time: time.map_or(0, |since| since.as_secs()),
            info_hash: info_hash.map(|hash| hash.to_string()),
            fields,
        })
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// As [`line`](Self::line).
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => Ok(result.context("cannot write to stdout")?),
        }
    }
}
