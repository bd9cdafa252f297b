//! Over HTTP: requests that are wrong in every way, and floods of right ones.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::rows::{self, ANNOUNCE};
use super::{Account, Over, Target, pace, talk};
use crate::rng::Rng;

/// How often a bad request comes.
const MALFORMED_EVERY: Duration = Duration::from_millis(20);

/// Right ones come so many at a time, pipelined on a connection that is kept.
const FLOOD_EVERY: Duration = Duration::from_millis(20);
const FLOOD_AT_A_TIME: u64 = 20;

pub(super) fn malformed(target: Target, stop: &AtomicBool) -> Account {
    let mut account = Account::new("bad requests", Over::Http);
    let rows = rows::all();
    let mut rows = rows.iter().cycle();
    pace(&mut account, MALFORMED_EVERY, stop, |account| {
        let row = rows.next().context("a row")?;
        let shown = String::from_utf8_lossy(row.bytes.get(..80).unwrap_or(&row.bytes));
        let span = row
            .play(target.http)
            .with_context(|| format!("{shown:?}"))?;
        account.answered(1, span);
        Ok(())
    });
    account
}

/// A thousand torrents a second that nobody has, of one address.
pub(super) fn floods_of_torrents(target: Target, stop: &AtomicBool) -> Account {
    let mut rng = Rng::new(5);
    flood(
        "torrents of one address, HTTP",
        1,
        target,
        stop,
        move || {
            let mut hash = [0; 20];
            rng.fill(&mut hash);
            let hash: String = hash.iter().map(|byte| format!("%{byte:02x}")).collect();
            ANNOUNCE.replace("aaaaaaaaaaaaaaaaaaaa", &hash)
        },
    )
}

/// As many peers of one torrent, of one address.
pub(super) fn floods_of_peers(target: Target, stop: &AtomicBool) -> Account {
    let mut rng = Rng::new(6);
    flood("peers of one torrent, HTTP", 2, target, stop, move || {
        let port = 1 + rng.below(65_535);
        ANNOUNCE
            .replace("aaaaaaaaaaaaaaaaaaaa", "pppppppppppppppppppp")
            .replace("7001", &port.to_string())
    })
}

fn flood(
    name: &'static str,
    host: u8,
    target: Target,
    stop: &AtomicBool,
    mut path: impl FnMut() -> String,
) -> Account {
    let mut account = Account::new(name, Over::Http);
    let mut kept: Option<TcpStream> = None;
    pace(&mut account, FLOOD_EVERY, stop, |account| {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => talk::dial(Ipv4Addr::new(127, 0, 8, host), target.http)?,
        };
        let requests: String = (0..FLOOD_AT_A_TIME)
            .map(|_| format!("GET {} HTTP/1.1\r\nHost: t\r\n\r\n", path()))
            .collect();
        let asked = Instant::now();
        talk::say(&mut stream, requests.as_bytes(), false);
        let mut unread = Vec::new();
        for _ in 0..FLOOD_AT_A_TIME {
            // Its place may be given to somebody else: a flood has no claim on it.
            let Some(reply) = talk::reply(&mut stream, &mut unread)? else {
                return Ok(());
            };
            let refused = reply.body.starts_with(b"d14:failure reason");
            if reply.status != 200 || refused {
                bail!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
            }
        }
        account.answered(FLOOD_AT_A_TIME, asked..Instant::now());
        kept = Some(stream);
        Ok(())
    });
    account
}
