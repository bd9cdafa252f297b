//! What the path of a request asks for, and the key in it: `/announce`, `/announce/KEY`, `/KEY/announce`, and the same with
//! `scrape`.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To take part in a swarm.
    Announce,
    /// The numbers of torrents.
    Scrape,
}

/// What a path asks for, and with which key; `None` if it is something else.
#[must_use]
pub fn read(path: &str) -> Option<(Asked, Option<&str>)> {
    let path = path.strip_prefix('/')?;
    let asked = |word: &str| match word {
        "announce" => Some(Asked::Announce),
        "scrape" => Some(Asked::Scrape),
        _ => None,
    };
    // Nearly all requests end here.
    let Some((first, second)) = path.split_once('/') else {
        return asked(path).map(|asked| (asked, None));
    };
    match (asked(first), asked(second)) {
        (Some(asked), None) if is_word(second) => Some((asked, Some(second))),
        (None, Some(asked)) if is_word(first) => Some((asked, Some(first))),
        _ => None,
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        let rows = [
            ("/announce", Some((Asked::Announce, None))),
            ("/scrape", Some((Asked::Scrape, None))),
            ("/announce/k3y", Some((Asked::Announce, Some("k3y")))),
            ("/k3y/announce", Some((Asked::Announce, Some("k3y")))),
            ("/scrape/k3y", Some((Asked::Scrape, Some("k3y")))),
            ("/k3y/scrape", Some((Asked::Scrape, Some("k3y")))),
            ("/announce/", None),
            ("//announce", None),
            ("/announce/announce", None),
            ("/announce/a/b", None),
            ("/a/b/announce", None),
            ("/announces", None),
            ("announce", None),
            ("/", None),
            ("", None),
        ];
        for (path, expected) in rows {
            assert_eq!(read(path), expected, "{path}");
        }
    }
}
