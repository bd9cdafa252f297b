//! The events that `bt … --json` and `bt-trackerd --json` print, one object a line. Unknown events and keys are let pass:
//! more may be added.

use serde::Deserialize;

/// One line of `--json` output.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// A socket listens.
    Listening {
        /// The tracker's announce URL, from a tracker.
        announce: Option<String>,
    },
    /// The data at hand was checked.
    Checked {
        /// Pieces whose hash is right.
        pieces_have: u32,
        /// Pieces in all.
        pieces: u32,
    },
    /// Once a second.
    Progress(Progress),
    /// Every piece is there and right.
    Complete(Complete),
    /// The last words of a clean stop.
    Stopped {
        /// Payload bytes received in this run.
        #[serde(default)]
        downloaded: u64,
        /// Payload bytes sent in this run.
        #[serde(default)]
        uploaded: u64,
    },
    /// Something to know.
    Warning {
        /// In words.
        message: String,
    },
    /// Something went wrong.
    Error {
        /// In words.
        message: String,
    },
    /// Whatever else there is.
    #[default]
    #[serde(other)]
    Other,
}

/// How far a process is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    /// Bytes in verified pieces.
    pub(crate) bytes_done: u64,
    /// Payload bytes per second in.
    pub(crate) down_rate: u64,
    /// Payload bytes per second out.
    pub(crate) up_rate: u64,
    /// Payload bytes received in this run.
    pub(crate) downloaded: u64,
    /// Payload bytes sent in this run.
    pub(crate) uploaded: u64,
    /// Connected peers.
    pub(crate) peers: u32,
}

/// The account of a finished download.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Complete {
    /// Payload bytes received in this run.
    pub(crate) downloaded: u64,
    /// Payload bytes sent in this run.
    pub(crate) uploaded: u64,
    /// Payload bytes that came twice, or unasked.
    pub(crate) wasted: u64,
    /// Pieces whose hash was wrong.
    pub(crate) hash_failures: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_of_the_command_lines_is_read() {
        let hash = r#""time":1.5,"info_hash":"aa""#;
        let progress = Progress {
            bytes_done: 5,
            down_rate: 6,
            peers: 2,
            ..Progress::default()
        };
        let complete = Complete {
            downloaded: 9,
            wasted: 1,
            ..Complete::default()
        };
        let rows = [
            (
                r#"{"event":"listening","transport":"http","addr":"x","announce":"http://x/announce"}"#.to_owned(),
                Some(Event::Listening { announce: Some("http://x/announce".to_owned()) }),
            ),
            (r#"{"event":"listening","addr":"x"}"#.to_owned(), Some(Event::Listening { announce: None })),
            (
                format!(r#"{{"event":"checked",{hash},"pieces_have":1,"pieces":2}}"#),
                Some(Event::Checked { pieces_have: 1, pieces: 2 }),
            ),
            (
                format!(r#"{{"event":"progress",{hash},"bytes_done":5,"down_rate":6,"peers":2,"new":[]}}"#),
                Some(Event::Progress(progress)),
            ),
            (
                format!(r#"{{"event":"complete",{hash},"downloaded":9,"wasted":1,"seconds":1.25}}"#),
                Some(Event::Complete(complete)),
            ),
            (
                r#"{"event":"stopped","downloaded":1,"uploaded":2}"#.to_owned(),
                Some(Event::Stopped { downloaded: 1, uploaded: 2 }),
            ),
            (r#"{"event":"metadata","name":"x"}"#.to_owned(), Some(Event::Other)),
            ("Listening on 6881".to_owned(), None),
        ];
        for (line, expected) in rows {
            assert_eq!(serde_json::from_str(&line).ok(), expected, "{line}");
        }
    }
}
