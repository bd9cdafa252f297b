//! What was odd about a torrent that is used all the same.

use core::fmt;

/// How many notes are kept: enough to show a person what is wrong. To find the path of one may take a run through the
/// whole file, so a hostile one must not cause many.
pub const NOTES_MAX: usize = 20;

/// One oddity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Not canonical bencode. The info hash is of the bytes as they stand.
    NonCanonical {
        /// What is not.
        what: bt_bencode::NoteKind,
        /// Where in the metainfo.
        path: String,
    },
    /// A value that is left out.
    Ignored {
        /// Where in the metainfo.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// A value that means something else than what it says.
    Taken {
        /// Where in the metainfo.
        path: String,
        /// How it is read, and why.
        how: &'static str,
    },
    /// A name or path that was changed by the rule of [`path`](crate::path).
    Renamed {
        /// As the torrent has it, for showing.
        from: String,
        /// As it is used.
        to: String,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NonCanonical { what, path } if path.is_empty() => write!(f, "{what}"),
            Self::NonCanonical { what, path } => write!(f, "{what}, in {path}"),
            Self::Ignored { path, why } => write!(f, "{path} is left out: {why}"),
            Self::Taken { path, how } => write!(f, "{path} is {how}"),
            Self::Renamed { from, to } => {
                write!(f, "\"{}\" is used as \"{to}\"", from.escape_debug())
            }
        }
    }
}

/// Notes under collection.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    pub(crate) fn push(&mut self, note: impl FnOnce() -> Note) {
        if self.0.len() < NOTES_MAX {
            self.0.push(note());
        }
    }

    pub(crate) fn ignored(&mut self, path: impl FnOnce() -> String, why: &'static str) {
        self.push(|| Note::Ignored { path: path(), why });
    }

    pub(crate) fn into_vec(self) -> Vec<Note> {
        self.0
    }
}
