//! How much one address, or one key, may have: announces a minute, and peers at a time.
//!
//! Announces are counted by when the next one is due (the "generic cell rate algorithm"): a minute's worth may come at once,
//! and after that one each time a part of the minute has passed. A peer is an entry of a swarm: torrent, address and port.
//! It counts until it stops, or is silent for as long as the tracker waits for it.
//!
//! **Invariant:** memory is bounded by [`ACCOUNTS_MAX`] and [`ENTRIES_MAX`], whoever asks. An account that no longer fits
//! takes the place of the one in its row that was silent longest, which thereby starts anew.

use super::hash::HashKey;
use bt_core::Time;
use core::time::Duration;

/// Most accounts of one table.
pub const ACCOUNTS_MAX: usize = ROWS_COUNT * ROW_MAX;

/// Most peers of one table that are counted: a million of the sixteen tables that `bt-trackerd` has for addresses, and of
/// those for keys. Those beyond are let in uncounted, as the swarms have a limit of their own.
pub const ENTRIES_MAX: usize = 1_000_000 / 16;

/// Rows of accounts; a power of two, so that the hash spreads evenly.
const ROWS_COUNT: usize = 1_024;

/// Accounts of one row: few enough to look at all of them.
const ROW_MAX: usize = 8;

/// What announces are counted over.
const MINUTE_NANOS: u64 = 60 * 1_000_000_000;

/// What one may have; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Announces a minute.
    pub announces_per_minute: u32,
    /// Entries of swarms at a time.
    pub peers: u32,
}

impl Quota {
    /// True if nothing is limited.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.announces_per_minute == 0 && self.peers == 0
    }
}

/// More was asked for than one may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Too many announces.
    #[error("too many announces")]
    Announces {
        /// When the next one is due.
        retry_in: Duration,
    },
    /// Too many peers.
    #[error("too many peers at a time")]
    Peers,
}

/// One announce, as far as it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Whose account: an address or a key.
    pub who: &'a [u8],
    /// Which entry of which swarm.
    pub entry: &'a [u8],
}

/// A table of accounts.
#[derive(Debug)]
pub struct Quotas {
    key: HashKey,
    rows: Vec<Vec<Account>>,
    entries_count: usize,
}

#[derive(Debug)]
struct Account {
    tag: u64,
    /// When the last announce was due, in nanoseconds.
    due: u64,
    /// The last announce, in seconds.
    seen: u32,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    seen: u32,
}

impl Quotas {
    /// A table without accounts; the seed keys it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            key: HashKey::new(seed),
            rows: Vec::new(),
            entries_count: 0,
        }
    }

    /// Counts an announce; a peer that was silent for `expiry` counts no longer. True if its entry was not counted before.
    ///
    /// # Errors
    /// [`Exceeded`] if it is one too many. It is not counted then.
    pub fn count(
        &mut self,
        now: Time,
        quota: Quota,
        expiry: Duration,
        counted: Counted<'_>,
    ) -> Result<bool, Exceeded> {
        let seconds = u32::try_from(now.as_nanos() / 1_000_000_000).unwrap_or(u32::MAX);
        let silent = u32::try_from(expiry.as_secs()).unwrap_or(u32::MAX);
        let tag = self.key.hash(counted.who);
        let entry = Entry {
            tag: self.entry_tag(counted.entry),
            seen: seconds,
        };
        let full = self.entries_count >= ENTRIES_MAX;
        let Some(account) = self.account(tag, seconds) else {
            return Ok(false);
        };
        let before = account.entries.len();
        let verdict = account
            .take(now.as_nanos(), quota.announces_per_minute)
            .and_then(|due| {
                let is_new = account.enter(entry, quota.peers, silent, full)?;
                account.due = due;
                Ok(is_new)
            });
        let after = account.entries.len();
        account.seen = seconds;
        self.entries_count = self.entries_count + after - before;
        verdict
    }

    /// Counts an entry no longer: it leaves, or was not let in elsewhere. That is always allowed.
    pub fn leave(&mut self, counted: Counted<'_>) {
        let tag = self.key.hash(counted.who);
        let entry_tag = self.entry_tag(counted.entry);
        let row = self.rows.get_mut(row_of(tag));
        let account = row.and_then(|row| row.iter_mut().find(|account| account.tag == tag));
        if let Some(account) = account {
            let before = account.entries.len();
            account.entries.retain(|entry| entry.tag != entry_tag);
            self.entries_count -= before - account.entries.len();
        }
    }

    fn entry_tag(&self, entry: &[u8]) -> u32 {
        let [a, b, c, d, ..] = self.key.hash(entry).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn account(&mut self, tag: u64, seconds: u32) -> Option<&mut Account> {
        if self.rows.is_empty() {
            self.rows.resize_with(ROWS_COUNT, Vec::new);
        }
        let row = self.rows.get_mut(row_of(tag))?;
        let place = match row.iter().position(|account| account.tag == tag) {
            Some(place) => place,
            None if row.len() < ROW_MAX => {
                row.push(Account::new(tag, seconds));
                row.len() - 1
            }
            None => {
                let (place, silent) = row
                    .iter_mut()
                    .enumerate()
                    .min_by_key(|(_, account)| account.seen)?;
                self.entries_count -= silent.entries.len();
                *silent = Account::new(tag, seconds);
                place
            }
        };
        row.get_mut(place)
    }
}

fn row_of(tag: u64) -> usize {
    usize::try_from(tag % ROWS_COUNT as u64).unwrap_or(0)
}

impl Account {
    const fn new(tag: u64, seconds: u32) -> Self {
        Self {
            tag,
            due: 0,
            seen: seconds,
            entries: Vec::new(),
        }
    }

    /// When the announce of now is due, if it may come now.
    fn take(&self, now: u64, per_minute: u32) -> Result<u64, Exceeded> {
        if per_minute == 0 {
            return Ok(self.due);
        }
        let due = self.due.max(now) + MINUTE_NANOS / u64::from(per_minute);
        match (due - now).checked_sub(MINUTE_NANOS) {
            None | Some(0) => Ok(due),
            Some(early) => Err(Exceeded::Announces {
                retry_in: Duration::from_nanos(early),
            }),
        }
    }

    /// True if the entry is counted from now on.
    fn enter(
        &mut self,
        entry: Entry,
        most: u32,
        silent: u32,
        full: bool,
    ) -> Result<bool, Exceeded> {
        if most == 0 {
            self.entries = Vec::new();
            return Ok(false);
        }
        let known = |other: &&mut Entry| other.tag == entry.tag;
        if let Some(known) = self.entries.iter_mut().find(known) {
            *known = entry;
            return Ok(false);
        }
        if self.entries.len() >= most as usize {
            let live = |other: &Entry| entry.seen.saturating_sub(other.seen) <= silent;
            self.entries.retain(live);
            if self.entries.len() >= most as usize {
                return Err(Exceeded::Peers);
            }
        }
        if !full {
            self.entries.push(entry);
        }
        Ok(!full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Duration = Duration::from_secs(100);

    fn count(
        quotas: &mut Quotas,
        at: Time,
        quota: Quota,
        who: &[u8],
        entry: u32,
    ) -> Result<bool, Exceeded> {
        let counted = Counted {
            who,
            entry: &entry.to_be_bytes(),
        };
        quotas.count(at, quota, EXPIRY, counted)
    }

    #[test]
    fn a_minutes_worth_may_come_at_once() {
        let quota = Quota {
            announces_per_minute: 3,
            peers: 0,
        };
        let mut quotas = Quotas::new(1);
        // At second, from whom, and for how many seconds to wait.
        let rows: [(u64, &[u8], Option<u64>); 10] = [
            (10, b"a", None),
            (10, b"a", None),
            (10, b"a", None),
            (10, b"a", Some(20)),
            (15, b"a", Some(15)),
            (15, b"b", None),
            (30, b"a", None),
            (30, b"a", Some(20)),
            (200, b"a", None),
            (200, b"a", None),
        ];
        for (at, who, wait) in rows {
            let expected = wait.map_or(Ok(false), |wait| {
                Err(Exceeded::Announces {
                    retry_in: Duration::from_secs(wait),
                })
            });
            let got = count(&mut quotas, Time::from_secs(at), quota, who, 1);
            assert_eq!(got, expected, "{at}");
        }
    }

    #[test]
    fn peers_count_until_they_stop_or_fall_silent() {
        let quota = Quota {
            announces_per_minute: 0,
            peers: 2,
        };
        let mut quotas = Quotas::new(1);
        let rows = [
            (0, 1, Ok(true)),
            (0, 1, Ok(false)),
            (60, 2, Ok(true)),
            (60, 3, Err(Exceeded::Peers)),
            (90, 1, Ok(false)),
            (150, 3, Err(Exceeded::Peers)),
            // The second peer is silent for 101 seconds now.
            (161, 3, Ok(true)),
            (161, 2, Err(Exceeded::Peers)),
        ];
        for (at, entry, expected) in rows {
            let got = count(&mut quotas, Time::from_secs(at), quota, b"a", entry);
            assert_eq!(got, expected, "{at} {entry}");
        }
        let now = Time::from_secs(161);
        let entry = &1_u32.to_be_bytes();
        // Who leaves is not somebody else, and makes no account.
        quotas.leave(Counted { who: b"b", entry });
        assert_eq!(
            count(&mut quotas, now, quota, b"a", 2),
            Err(Exceeded::Peers)
        );
        quotas.leave(Counted { who: b"a", entry });
        assert_eq!(quotas.rows.iter().map(Vec::len).sum::<usize>(), 1);
        assert_eq!(count(&mut quotas, now, quota, b"a", 2), Ok(true));
        assert_eq!(quotas.entries_count, 2);
        // A limit that is taken away forgets what it counted.
        let free = Quota::default();
        assert!(free.is_unlimited() && !quota.is_unlimited());
        assert_eq!(count(&mut quotas, now, free, b"a", 9), Ok(false));
        assert_eq!(quotas.entries_count, 0);
    }

    #[test]
    fn a_flood_of_strangers_is_bounded() {
        let quota = Quota {
            announces_per_minute: 1,
            peers: 20,
        };
        let mut quotas = Quotas::new(1);
        for who in 0..200_000_u32 {
            let at = Time::from_secs(u64::from(who / 1_000));
            for entry in 0..2 {
                let _ = count(&mut quotas, at, quota, &who.to_be_bytes(), entry);
            }
        }
        let accounts: usize = quotas.rows.iter().map(Vec::len).sum();
        assert!(
            accounts <= ACCOUNTS_MAX && accounts > ACCOUNTS_MAX / 2,
            "{accounts}"
        );
        let entries = quotas.rows.iter().flatten().map(|one| one.entries.len());
        assert_eq!(entries.sum::<usize>(), quotas.entries_count);
        assert!(quotas.entries_count <= ENTRIES_MAX);
        // The last ones are still held to what they used up.
        let again = count(
            &mut quotas,
            Time::from_secs(199),
            quota,
            &199_999_u32.to_be_bytes(),
            0,
        );
        assert!(matches!(again, Err(Exceeded::Announces { .. })));
    }
}
