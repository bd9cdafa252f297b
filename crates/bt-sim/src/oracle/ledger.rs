//! The books of one run of a node: what went in and out, and what the tracker was told.
//!
//! Kept from the facts and orders alone. **Invariant:** every payload byte that came is verified, wasted, lost by a failing
//! disk or in an unfinished piece; what the engine says of itself is what was seen.

use super::Breach;
use bt_core::{Bitfield, Layout, Time};
use bt_peer::limits::{DIALS_MAX, REQUEST_BYTES_MAX, REQUESTS_TOTAL_MAX, WRITES_MAX_BYTES};
use bt_peer::{ConnId, Stats};
use bt_tracker::announce::{AnnounceRequest, AnnounceResponse, Event};
use std::collections::BTreeSet;

/// Most peers that a client ever wants of a tracker.
const NUMWANT_MAX: u32 = 200;

/// Most bytes that the disk was given and has not taken: the mark above which nothing is requested, and what may be on its
/// way then.
const WRITING_MAX_BYTES: u64 = WRITES_MAX_BYTES + REQUESTS_TOTAL_MAX as u64 * 16_384;

/// What a limit that is not used up keeps, in time.
const LIMIT_UNUSED_MILLIS: u64 = 150;

/// The books of one run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Payload bytes that its peers sent.
    pub received: u64,
    /// Payload bytes that it sent.
    pub sent: u64,
    /// Bytes of the pieces it had at the start.
    pub had: u64,
    /// Bytes of verified pieces that its disk lost again.
    pub rotten: u64,
    /// Every piece was there at some time in this run. Its disk may lose one before a tracker can be told.
    pub was_complete: bool,
    /// It does not know what the torrent is yet, only its hash.
    pub unknown: bool,
    /// Its disk failed, so bytes may be lost.
    pub disk_failed: bool,
    /// What it may send, in bytes per second, and when that began to count.
    pub limit: Option<(u64, Time)>,
    /// Payload bytes that were ordered to be sent.
    ordered: u64,
    /// Whom it banned.
    pub banned: BTreeSet<usize>,
    /// Dials that are under way.
    dials: BTreeSet<ConnId>,
    /// Bytes that the disk has not taken.
    writing: u64,
    announces: Announces,
}

/// What the tracker was told.
#[derive(Debug, Default)]
struct Announces {
    any: bool,
    completed: bool,
    stopped: bool,
    last: Option<(u64, u64)>,
    last_at: Time,
    /// An announce without an event may not come before.
    not_before: Time,
}

macro_rules! demand {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(Breach(format!($($words)+)));
        }
    };
}

impl Ledger {
    /// The node dials.
    ///
    /// # Errors
    /// [`Breach`] if it dials too many at a time.
    pub fn dial(&mut self, conn: ConnId) -> Result<(), Breach> {
        demand!(self.dials.insert(conn), "{conn:?} is dialled twice");
        let dials = self.dials.len();
        demand!(dials <= DIALS_MAX, "{dials} dials at a time");
        Ok(())
    }

    /// A dial has come to something, or to nothing.
    pub fn dialled(&mut self, conn: ConnId) {
        self.dials.remove(&conn);
    }

    /// A block is ordered to be sent.
    ///
    /// # Errors
    /// [`Breach`] if that is more than the upload limit lets pass: its rate, what is unused of the last moment, and a block.
    pub fn upload(&mut self, now: Time, length_bytes: u32) -> Result<(), Breach> {
        self.ordered += u64::from(length_bytes);
        if let Some((bytes_per_s, since)) = self.limit {
            let spans = (now - since).as_millis() + u128::from(LIMIT_UNUSED_MILLIS);
            let most = u128::from(bytes_per_s) * spans / 1_000 + u128::from(REQUEST_BYTES_MAX);
            let ordered = self.ordered;
            demand!(
                u128::from(ordered) <= most,
                "{ordered} bytes are sent, and the limit is {bytes_per_s} a second"
            );
        }
        Ok(())
    }

    /// The disk is given bytes.
    ///
    /// # Errors
    /// [`Breach`] if that is more than the engine may leave waiting.
    pub fn write(&mut self, length_bytes: u32) -> Result<(), Breach> {
        self.writing += u64::from(length_bytes);
        let writing = self.writing;
        demand!(
            writing <= WRITING_MAX_BYTES,
            "{writing} bytes wait for the disk"
        );
        Ok(())
    }

    /// The disk has taken bytes.
    pub fn wrote(&mut self, length_bytes: u32) {
        self.writing -= u64::from(length_bytes);
    }

    /// Compares what the engine says of itself with the books; `have` is verified now.
    ///
    /// # Errors
    /// [`Breach`] if it differs.
    pub fn audit(&self, stats: &Stats, layout: &Layout, have: &Bitfield) -> Result<(), Breach> {
        let (received, sent) = (self.received, self.sent);
        demand!(
            stats.downloaded == received,
            "{} bytes received, says the engine; {received} came",
            stats.downloaded
        );
        demand!(
            stats.uploaded == sent,
            "{} bytes sent, says the engine; {sent} went",
            stats.uploaded
        );
        let verified = bytes_of(layout, have);
        demand!(
            stats.bytes_done == verified,
            "{} bytes done, says the engine; {verified} are verified",
            stats.bytes_done
        );
        let gained = (verified + self.rotten).saturating_sub(self.had);
        demand!(
            gained + stats.wasted <= received,
            "{gained} bytes won and {} wasted of {received}",
            stats.wasted
        );
        Ok(())
    }

    /// The same when the download is complete and all has come to rest: nothing is lost.
    ///
    /// # Errors
    /// [`Breach`] if bytes are missing.
    pub fn close(&self, stats: &Stats, layout: &Layout, have: &Bitfield) -> Result<(), Breach> {
        self.audit(stats, layout, have)?;
        let gained = (bytes_of(layout, have) + self.rotten).saturating_sub(self.had);
        let (wasted, received) = (stats.wasted, self.received);
        demand!(
            self.disk_failed || gained + wasted == received,
            "{gained} bytes won and {wasted} wasted are not the {received} that came"
        );
        demand!(
            self.writing == 0,
            "{} bytes were never written",
            self.writing
        );
        Ok(())
    }

    /// The tracker is told something, at a time when the node has `have`.
    ///
    /// # Errors
    /// [`Breach`] if it is not what BEP 3 asks for, or not true.
    pub fn announce(
        &mut self,
        now: Time,
        request: &AnnounceRequest,
        layout: &Layout,
        have: &Bitfield,
    ) -> Result<(), Breach> {
        let told = &mut self.announces;
        let event = request.event;
        demand!(!told.stopped, "{event:?} after stopped");
        demand!(
            told.any || matches!(event, Event::Started | Event::Stopped),
            "{event:?} before started"
        );
        if event == Event::Completed {
            demand!(
                have.is_full() || self.was_complete,
                "completed with pieces missing"
            );
            demand!(
                self.had < layout.total_length(),
                "completed, but it was complete at the start"
            );
        }
        demand!(
            event != Event::Completed || !told.completed || now == told.last_at,
            "completed was told and answered, and is told again"
        );
        let left = layout.total_length() - bytes_of(layout, have);
        demand!(
            request.left == left || (self.unknown && request.left > 0),
            "left {}, not {left}",
            request.left
        );
        let numbers = (request.uploaded, request.downloaded);
        demand!(
            numbers.0 == self.sent && numbers.1 == self.received,
            "{numbers:?} sent and received, not {:?}",
            (self.sent, self.received)
        );
        demand!(
            told.last <= Some(numbers),
            "uploaded and downloaded go back from {:?}",
            told.last
        );
        let numwant = request.numwant.unwrap_or(0);
        demand!(numwant <= NUMWANT_MAX, "{numwant} peers wanted");
        demand!(
            event != Event::Stopped || numwant == 0,
            "peers wanted by one that leaves"
        );
        demand!(
            event != Event::Interval || now >= told.not_before,
            "an announce before its time"
        );
        told.any = true;
        told.stopped = event == Event::Stopped;
        told.last = Some(numbers);
        told.last_at = now;
        Ok(())
    }

    /// The tracker answered the announce with this event.
    pub fn announced(&mut self, now: Time, event: Event, response: &AnnounceResponse) {
        let told = &mut self.announces;
        told.completed |= event == Event::Completed;
        let wait = response.min_interval.unwrap_or(response.interval);
        told.not_before = now + wait.min(response.interval);
    }
}

fn bytes_of(layout: &Layout, pieces: &Bitfield) -> u64 {
    let whole = u64::from(pieces.count_ones()) * u64::from(layout.piece_length_max());
    let last = layout.pieces().next_back().filter(|last| pieces.get(*last));
    let short = last.map_or(0, |last| {
        layout.piece_length_max() - layout.piece_length(last)
    });
    whole - u64::from(short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bt_core::{InfoHash, PeerId};
    use core::time::Duration;

    const LAYOUT: fn() -> Layout = || Layout::new(100_000, 32_768).unwrap();

    fn have(pieces: &[u32]) -> Bitfield {
        let mut have = Bitfield::new(LAYOUT().pieces_count());
        for piece in pieces {
            have.set(LAYOUT().piece(*piece).unwrap());
        }
        have
    }

    fn check(result: Result<(), Breach>, expected: Option<&str>) {
        match (&result, expected) {
            (Ok(()), None) => {}
            (Err(Breach(words)), Some(part)) if words.contains(part) => {}
            _ => panic!("{result:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn books_must_balance() {
        // (received, wasted, pieces, had, disk failed, breach while it runs, breach at the end)
        type Row = (
            u64,
            u64,
            &'static [u32],
            u64,
            bool,
            Option<&'static str>,
            Option<&'static str>,
        );
        let rows: [Row; 7] = [
            (32_768, 0, &[0], 0, false, None, None),
            (34_464, 0, &[0, 3], 0, false, None, None),
            (32_768, 0, &[0, 1], 32_768, false, None, None),
            (40_000, 7_232, &[0], 0, false, None, None),
            (40_000, 0, &[0], 0, false, None, Some("are not the 40000")),
            (40_000, 0, &[0], 0, true, None, None),
            (
                32_768,
                1,
                &[0],
                0,
                false,
                Some("1 wasted"),
                Some("1 wasted"),
            ),
        ];
        for (received, wasted, pieces, had, disk_failed, running, ended) in rows {
            let have = have(pieces);
            let stats = Stats {
                downloaded: received,
                wasted,
                bytes_done: bytes_of(&LAYOUT(), &have),
                ..Stats::default()
            };
            let ledger = Ledger {
                received,
                had,
                disk_failed,
                ..Ledger::default()
            };
            check(ledger.audit(&stats, &LAYOUT(), &have), running);
            check(ledger.close(&stats, &LAYOUT(), &have), ended);
            let lie = Stats {
                bytes_done: 1,
                ..stats
            };
            check(ledger.audit(&lie, &LAYOUT(), &have), Some("bytes done"));
        }
    }

    #[test]
    fn what_trackers_are_told() {
        use Event::{Completed, Interval, Started, Stopped};
        let all: &[u32] = &[0, 1, 2, 3];
        // Each row: events with the second at which they are told and the pieces then; what is wrong with the last.
        type Told = (Event, u64, &'static [u32]);
        let rows: [(&[Told], Option<&str>); 9] = [
            (&[(Started, 0, &[]), (Interval, 60, &[0])], None),
            (
                &[(Started, 0, &[]), (Interval, 59, &[0])],
                Some("before its time"),
            ),
            (&[(Interval, 0, &[])], Some("before started")),
            (&[(Started, 0, &[]), (Completed, 5, all)], None),
            (
                &[(Started, 0, &[]), (Completed, 5, &[0])],
                Some("pieces missing"),
            ),
            (
                &[(Started, 0, &[]), (Completed, 5, all), (Completed, 9, all)],
                Some("told again"),
            ),
            (&[(Started, 0, &[]), (Stopped, 5, &[])], None),
            (
                &[(Started, 0, &[]), (Stopped, 5, &[]), (Interval, 99, &[])],
                Some("after stopped"),
            ),
            (&[(Stopped, 0, &[])], None),
        ];
        for (told, expected) in rows {
            let mut ledger = Ledger::default();
            let mut result = Ok(());
            for (event, second, pieces) in told {
                assert_eq!(result, Ok(()), "{told:?}");
                let (now, have) = (Time::from_secs(*second), have(pieces));
                let left = 100_000 - bytes_of(&LAYOUT(), &have);
                let mut request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, left);
                request.event = *event;
                result = ledger.announce(now, &request, &LAYOUT(), &have);
                let response = AnnounceResponse {
                    interval: Duration::from_secs(60),
                    ..AnnounceResponse::default()
                };
                ledger.announced(now, *event, &response);
                request.left += 1;
                check(
                    Ledger::default().announce(now, &request, &LAYOUT(), &have),
                    Some(if matches!(event, Started | Stopped) {
                        "left"
                    } else {
                        ""
                    }),
                );
            }
            check(result, expected);
        }
    }

    #[test]
    fn who_does_not_know_the_torrent_says_that_something_is_left() {
        let nothing = have(&[]);
        for (unknown, left, expected) in [
            (true, 16_384, None),
            (true, 0, Some("left")),
            (false, 16_384, Some("left")),
        ] {
            let mut ledger = Ledger {
                unknown,
                ..Ledger::default()
            };
            let mut request = AnnounceRequest::new(InfoHash([1; 20]), PeerId([1; 20]), 1, left);
            request.event = Event::Started;
            check(
                ledger.announce(Time::ZERO, &request, &LAYOUT(), &nothing),
                expected,
            );
        }
    }

    #[test]
    fn dials_and_writes_are_bounded() {
        let mut ledger = Ledger::default();
        for number in 0..DIALS_MAX as u64 {
            check(ledger.dial(ConnId(number)), None);
        }
        check(ledger.dial(ConnId(3)), Some("twice"));
        ledger.dialled(ConnId(3));
        check(ledger.dial(ConnId(900)), None);
        check(ledger.dial(ConnId(901)), Some("dials at a time"));
        let half = u32::try_from(WRITING_MAX_BYTES / 2).unwrap();
        check(ledger.write(half), None);
        check(ledger.write(half), None);
        check(ledger.write(1), Some("wait for the disk"));
    }
}
