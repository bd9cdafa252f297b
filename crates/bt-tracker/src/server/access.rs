//! Which torrents a tracker serves.
//!
//! The lists are text: an info hash of forty hexadecimal digits a line, `#` begins a comment, empty lines are fine.

use bt_core::InfoHash;
use std::collections::BTreeSet;

/// Which torrents are served: those on the allow list if there is one, but none on the deny list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    allowed: Option<BTreeSet<InfoHash>>,
    denied: BTreeSet<InfoHash>,
}

/// A line of a list is neither an info hash nor a comment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?} is no info hash (40 hexadecimal digits)")]
pub struct AccessError {
    /// The line, from 1.
    pub line: usize,
    /// What stands there, cut.
    pub text: String,
}

/// How much of a wrong line an error shows, in characters.
const SHOWN_MAX: usize = 60;

impl Access {
    /// The access that the texts of two lists describe.
    ///
    /// # Errors
    /// [`AccessError`] for the first wrong line. A list that is wrong somewhere is not half obeyed.
    pub fn parse(allow: Option<&str>, deny: Option<&str>) -> Result<Self, AccessError> {
        Ok(Self {
            allowed: allow.map(parse).transpose()?,
            denied: deny.map(parse).transpose()?.unwrap_or_default(),
        })
    }

    /// The access that both grant.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.denied.extend(other.denied);
        self.allowed = match (self.allowed, other.allowed) {
            (Some(mine), Some(theirs)) => Some(&mine & &theirs),
            (mine, theirs) => mine.or(theirs),
        };
        self
    }

    /// True if the torrent stands on the deny list: it will not be served tomorrow either.
    #[must_use]
    pub fn denies(&self, info_hash: &InfoHash) -> bool {
        self.denied.contains(info_hash)
    }

    /// True if the torrent is served.
    #[must_use]
    pub fn permits(&self, info_hash: &InfoHash) -> bool {
        let allowed = self
            .allowed
            .as_ref()
            .is_none_or(|list| list.contains(info_hash));
        allowed && !self.denied.contains(info_hash)
    }
}

fn parse(text: &str) -> Result<BTreeSet<InfoHash>, AccessError> {
    let entry = |(number, line): (usize, &str)| {
        let entry = line.split('#').next().unwrap_or_default().trim();
        let wrong = |_| AccessError {
            line: number + 1,
            text: entry.chars().take(SHOWN_MAX).collect(),
        };
        (!entry.is_empty()).then(|| entry.parse().map_err(wrong))
    };
    text.lines().enumerate().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_decide() {
        let (a, b) = ("a".repeat(40), "B".repeat(40));
        let both = format!("# ours\n{a} # a\n\n  {b}\r\n");
        let rows = [
            (None, None, [true, true]),
            (Some(both.as_str()), None, [true, true]),
            (Some(&a), None, [true, false]),
            (Some(""), None, [false, false]),
            (None, Some(&*a), [false, true]),
            (Some(&both), Some(&a), [false, true]),
        ];
        for (allow, deny, expected) in rows {
            let access = Access::parse(allow, deny).unwrap();
            let got = [&a, &b].map(|hash| access.permits(&hash.parse().unwrap()));
            assert_eq!(got, expected, "{allow:?} {deny:?}");
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let text = format!("{}\nnonsense\n", "0".repeat(40));
        let error = Access::parse(Some(&text), None).unwrap_err();
        assert_eq!((error.line, error.text.as_str()), (2, "nonsense"));
        let long = Access::parse(None, Some(&"é".repeat(500))).unwrap_err();
        assert_eq!(long.text.chars().count(), SHOWN_MAX);
    }
}
