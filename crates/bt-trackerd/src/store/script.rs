//! The exchange of one swarm as a command, and its answer.
//!
//! A peer is a member of a sorted set: its compact address. Its score says when it was heard of, by the store's own clock, and
//! as what, in the two lowest bits; the greater score stays, so the later announce counts, and who left is told by a score too.
//! The clocks of the trackers' machines do not matter.

use super::outbox::Exchange;
use bt_core::Time;
use bt_core::addr::{COMPACT_V4_BYTES, decode_compact_v4, decode_compact_v6, encode_compact};
use bt_tracker::server::{Heard, Standing};
use core::fmt::Write as _;
use core::time::Duration;
use redis::{Cmd, Value};

/// What the store runs.
pub(super) const SCRIPT: &str = include_str!("exchange.lua");

/// Most peers that one answer has: 60 kB. A swarm that has more is read on at once.
pub(super) const PAGE_PEERS: u64 = 2_000;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) downloaded: u32,
    pub(super) heard: Vec<Heard>,
    /// How far the swarm was read now, in milliseconds of the store's clock.
    pub(super) until_ms: u64,
    /// There is more.
    pub(super) more: bool,
}

/// The command that makes an exchange.
pub(super) fn command(script: &str, exchange: &Exchange, now: Time, expiry: Duration) -> Cmd {
    let mut key = String::from("bt:{");
    for byte in exchange.info_hash.as_bytes() {
        // Writing to a string does not fail.
        let _ = write!(key, "{byte:02x}");
    }
    key.push_str("}:");
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(script).arg(2);
    cmd.arg(format!("{key}peers"))
        .arg(format!("{key}downloads"));
    let (since_ms, most) = exchange
        .since_ms
        .map_or((0, 0), |since_ms| (since_ms, PAGE_PEERS));
    cmd.arg(millis(expiry)).arg(since_ms * 4).arg(most);
    cmd.arg(exchange.completed).arg(exchange.floor);
    let mut member = Vec::new();
    for told in &exchange.told {
        let standing = match told.standing {
            Standing::Downloader => 0,
            Standing::PartialSeed => 1,
            Standing::Seeder => 2,
            Standing::Gone => 3,
        };
        cmd.arg(millis(told.age(now)) * 4 - standing);
        member.clear();
        encode_compact(told.addr, &mut member);
        cmd.arg(&*member);
    }
    cmd
}

fn millis(span: Duration) -> i64 {
    // So that four times as much is a number that the script can count with.
    let most = 1 << 48;
    i64::try_from(span.as_millis()).map_or(most, |millis| millis.min(most))
}

/// Reads an answer; `None` if it is none of the script's.
pub(super) fn read(exchange: &Exchange, answer: &Value) -> Option<Answer> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [
        Value::Int(now_ms),
        Value::Int(downloaded),
        Value::Array(peers),
    ] = &**parts
    else {
        return None;
    };
    let now_ms = u64::try_from(*now_ms).ok()?;
    let (pairs, rest) = peers.as_chunks::<2>();
    let mut heard = Vec::with_capacity(pairs.len());
    let mut last_ms = 0;
    for [member, score] in pairs {
        let (Value::BulkString(member), Value::BulkString(score)) = (member, score) else {
            return None;
        };
        let score: u64 = core::str::from_utf8(score).ok()?.parse().ok()?;
        last_ms = score / 4;
        let age_secs = now_ms.saturating_sub(last_ms) / 1_000;
        // What is no address was put there by somebody else.
        let addr = if member.len() == COMPACT_V4_BYTES {
            decode_compact_v4(member).next()
        } else {
            decode_compact_v6(member).next()
        };
        heard.extend(addr.map(|addr| Heard {
            addr,
            age_secs: u32::try_from(age_secs).unwrap_or(u32::MAX),
            standing: match score % 4 {
                0 => Standing::Downloader,
                1 => Standing::PartialSeed,
                2 => Standing::Seeder,
                _ => Standing::Gone,
            },
        }));
    }
    let more = pairs.len() as u64 == PAGE_PEERS;
    let since_ms = exchange.since_ms.unwrap_or(0);
    // More of the same millisecond than fit an answer: the rest is passed over, until the swarm is read as a whole.
    let page_end = last_ms.max(since_ms + u64::from(last_ms == since_ms));
    rest.is_empty().then_some(Answer {
        downloaded: u32::try_from(*downloaded).unwrap_or(u32::MAX),
        heard,
        until_ms: if more { page_end } else { now_ms },
        more,
    })
}
