//! URLs of trackers and web seeds as they come from strangers: cleaned, without repetitions, and not too many.

use std::collections::BTreeSet;

/// The most tracker URLs that are kept. Public torrents carry a dozen; each costs an announce.
pub const TRACKERS_MAX: usize = 64;
/// The most web seeds that are kept.
pub const WEB_SEEDS_MAX: usize = 64;
/// The longest URL, in bytes: what web servers take.
pub const URL_BYTES_MAX: usize = 8_192;

/// Schemes of trackers (BEP 3, BEP 15; WebTorrent for the last two).
pub(crate) const TRACKER_SCHEMES: &[&str] = &["http", "https", "udp", "ws", "wss"];
/// Schemes of web seeds (BEP 17, BEP 19). `file:` above all is not among them.
pub(crate) const WEB_SEED_SCHEMES: &[&str] = &["http", "https"];

/// The URL without white space around it.
///
/// # Errors
/// Why it is left out.
pub(crate) fn clean<'a>(url: &'a str, schemes: &[&str]) -> Result<&'a str, &'static str> {
    let url = url.trim();
    if url.is_empty() {
        return Err("empty");
    }
    if url.len() > URL_BYTES_MAX {
        return Err("too long");
    }
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("control character or space in it");
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("no URL with a scheme and //");
    };
    if !schemes
        .iter()
        .any(|known| known.eq_ignore_ascii_case(scheme))
    {
        return Err("unknown scheme");
    }
    if rest.starts_with(['/', '?', '#', ':']) || rest.is_empty() {
        return Err("no host");
    }
    Ok(url)
}

/// URLs under collection.
#[derive(Debug)]
pub(crate) struct Collector {
    schemes: &'static [&'static str],
    max: usize,
    seen: BTreeSet<String>,
}

impl Collector {
    pub(crate) const fn trackers() -> Self {
        Self {
            schemes: TRACKER_SCHEMES,
            max: TRACKERS_MAX,
            seen: BTreeSet::new(),
        }
    }

    pub(crate) const fn web_seeds() -> Self {
        Self {
            schemes: WEB_SEED_SCHEMES,
            max: WEB_SEEDS_MAX,
            seen: BTreeSet::new(),
        }
    }

    /// The URL, cleaned, if it is to be kept.
    ///
    /// # Errors
    /// Why it is left out.
    pub(crate) fn take(&mut self, url: &str) -> Result<String, &'static str> {
        let url = clean(url, self.schemes)?;
        if self.seen.contains(url) {
            return Err("repeated");
        }
        if self.seen.len() >= self.max {
            return Err("too many");
        }
        self.seen.insert(url.to_owned());
        Ok(url.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_34_what_is_kept() {
        let rows = [
            ("http://a/announce", Ok("http://a/announce")),
            (" \thttp://a/announce\r\n", Ok("http://a/announce")),
            ("HTTP://2", Ok("HTTP://2")),
            ("udp://[::1]:6969", Ok("udp://[::1]:6969")),
            ("wss://a", Ok("wss://a")),
            ("", Err("empty")),
            ("   ", Err("empty")),
            ("http://a b", Err("control character or space in it")),
            ("http://a\0b", Err("control character or space in it")),
            ("http://a\u{85}b", Err("control character or space in it")),
            ("ftp://a", Err("unknown scheme")),
            ("file:///etc/passwd", Err("unknown scheme")),
            (
                "magnet:?xt=urn:btih:abc",
                Err("no URL with a scheme and //"),
            ),
            ("httpabc", Err("no URL with a scheme and //")),
            ("http:///announce", Err("no host")),
            ("http://:80/announce", Err("no host")),
            ("http://", Err("no host")),
        ];
        for (url, expected) in rows {
            assert_eq!(clean(url, TRACKER_SCHEMES), expected, "{url:?}");
        }
        let long = format!("http://{}", "a".repeat(URL_BYTES_MAX));
        assert_eq!(clean(&long, TRACKER_SCHEMES), Err("too long"));
        assert_eq!(clean("udp://a", WEB_SEED_SCHEMES), Err("unknown scheme"));
    }

    #[test]
    fn each_once_and_not_too_many() {
        let mut trackers = Collector::trackers();
        assert!(trackers.take("http://0").is_ok());
        assert_eq!(trackers.take("http://0 "), Err("repeated"));
        for number in 1..TRACKERS_MAX {
            assert!(trackers.take(&format!("http://{number}")).is_ok());
        }
        assert_eq!(trackers.take("http://one.more"), Err("too many"));
    }
}
