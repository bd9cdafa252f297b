//! Connections that take a place and ask nothing: silent ones, and those that send a byte a second.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Account, Over, Target, pace, talk};

/// More than the tracker has places for.
const CONNECTIONS: usize = 1_500;

/// Opened in a turn, of which there are twenty a second: faster than silent ones are dropped, and slow enough that an honest
/// one that asks each second is never the one that was silent longest.
const OPENED_EACH_TURN: usize = 10;
const TURN_EVERY: Duration = Duration::from_millis(50);

/// One in so many turns a connection says something, if it is not one that never does.
const DRIP_TURNS: u64 = 20;

/// The tracker ends who completes no request in ten seconds; a busy machine may take as long again.
const LIVES_MAX: Duration = Duration::from_secs(20);

struct Drip {
    stream: TcpStream,
    since: Instant,
    said: usize,
}

pub(super) fn connections(target: Target, stop: &AtomicBool) -> Account {
    let mut account = Account::new("connections that drip", Over::Http);
    let mut drips: Vec<Drip> = Vec::new();
    let mut turn = 0_u64;
    pace(&mut account, TURN_EVERY, stop, |account| {
        turn += 1;
        let (mut ended, mut overdue) = (0, 0);
        let mut number = 0;
        drips.retain_mut(|drip| {
            number += 1;
            if drip.since.elapsed() > LIVES_MAX {
                overdue += 1;
                return false;
            }
            let silent = number % 3 == 0;
            let stays = drip.stays(!silent && (turn + number).is_multiple_of(DRIP_TURNS));
            ended += u64::from(!stays);
            stays
        });
        account.good(ended);
        (0..overdue).for_each(|_| account.wrong("a connection without a request stays".to_owned()));
        for _ in 0..OPENED_EACH_TURN.min(CONNECTIONS - drips.len()) {
            drips.push(Drip::open(target)?);
        }
        Ok(())
    });
    account
}

impl Drip {
    fn open(target: Target) -> Result<Self> {
        let stream = talk::dial(Ipv4Addr::new(127, 0, 6, 1), target.http)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            since: Instant::now(),
            said: 0,
        })
    }

    /// Says a byte more if it is to; false once the tracker has closed.
    fn stays(&mut self, says: bool) -> bool {
        const REQUEST: &[u8] = b"GET /announce?info_hash=aaaaaaaaaaaaaaaaaaaa&peer_id=";
        let mut heard = [0; 16];
        match self.stream.read(&mut heard) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => return false,
        }
        let Some(byte) = REQUEST.get(self.said..=self.said).filter(|_| says) else {
            return true;
        };
        self.said += 1;
        self.stream.write_all(byte).is_ok()
    }
}
