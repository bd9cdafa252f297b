//! The scrape of everything (BEP 48), made once in a while and handed out to whoever asks, and gzip for long scrapes.
//!
//! **Invariant:** it is made by one at a time, no more often than once in [`KEPT`], and names no more torrents than the operator
//! allows.

use crate::state::{Rules, State};
use bt_core::Time;
use bt_tracker::http::encode;
use bt_tracker::scrape::ScrapeResponse;
use core::time::Duration;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use std::io::Write as _;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How long an answer is handed out again: what it says changes slowly, and making it touches every torrent.
const KEPT: Duration = Duration::from_secs(60);

/// From here on a scrape is compressed for who can read that. Shorter ones fit two packets anyway.
pub(crate) const GZIP_MIN_BYTES: usize = 2_048;

/// The last answer to a scrape of everything.
#[derive(Debug, Default)]
pub(crate) struct FullScrape(Mutex<Option<Made>>);

#[derive(Clone, Debug)]
struct Made {
    at: Time,
    generation: u64,
    plain: Bytes,
    gzipped: Bytes,
}

impl FullScrape {
    /// All torrents, compressed if `gzip`; `None` if there are more than `most`.
    pub(crate) async fn of(state: &Arc<State>, most: usize, gzip: bool) -> Option<Bytes> {
        if state.shards.totals().torrents > most {
            return None;
        }
        let mut last = state.full_scrape.0.lock().await;
        let now = state.now();
        let generation = state.generation();
        let fresh = |made: &&Made| made.generation == generation && now.since(made.at) < KEPT;
        let made = if let Some(made) = last.as_ref().filter(fresh) {
            made.clone()
        } else {
            let state = Arc::clone(state);
            let make = move || make(&state, &state.rules(), now, generation, most);
            let made = tokio::task::spawn_blocking(make).await;
            let made = made.expect("writing numbers does not panic");
            last.insert(made).clone()
        };
        Some(if gzip { made.gzipped } else { made.plain })
    }

    /// Gives back the memory of an answer that is too old.
    pub(crate) fn forget(&self, now: Time) {
        if let Ok(mut last) = self.0.try_lock()
            && let Some(made) = last.as_ref()
            && now.since(made.at) >= KEPT
        {
            *last = None;
        }
    }
}

fn make(state: &State, rules: &Rules, at: Time, generation: u64, most: usize) -> Made {
    let mut torrents = state.shards.scrape_all();
    torrents.retain(|torrent| rules.access.permits(&torrent.info_hash));
    torrents.truncate(most);
    let response = ScrapeResponse {
        torrents,
        min_request_interval: Some(KEPT),
    };
    let mut plain = Vec::new();
    encode::scrape(&response, &mut plain);
    let gzipped = gzipped(&plain).into();
    Made {
        at,
        generation,
        plain: plain.into(),
        gzipped,
    }
}

/// True if a header `Accept-Encoding` allows gzip.
pub(crate) fn accepts_gzip(header: &[u8]) -> bool {
    let header = core::str::from_utf8(header).unwrap_or_default();
    header.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.trim().strip_prefix("q=").is_some_and(|weight| {
            // 0, 0.0, 0.000
            weight.trim().bytes().all(|byte| b"0.".contains(&byte))
        });
        ["gzip", "x-gzip", "*"]
            .iter()
            .any(|known| name.trim().eq_ignore_ascii_case(known))
            && !refused
    })
}

/// The bytes, compressed.
pub(crate) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let out = Vec::with_capacity(bytes.len() / 2);
    let mut gzip = GzEncoder::new(out, Compression::fast());
    gzip.write_all(bytes).expect("a vector takes everything");
    gzip.finish().expect("a vector takes everything")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_who_asks_for_it() {
        for (header, expected) in [
            ("gzip", true),
            ("deflate, GZip;q=0.5", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, deflate", false),
            ("deflate, br", false),
            ("gzipped", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(header.as_bytes()), expected, "{header}");
        }
    }
}
