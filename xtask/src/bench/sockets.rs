//! What the system saw some addresses send over TCP: the same measure for every program, whatever it says of itself.
//!
//! It is read from `ss`, which knows open sockets only: what goes out between the last look and the end of a connection
//! is missed.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Between two looks, each of which costs some milliseconds: at 10 MB/s a connection that ends between two of them hides
/// at most 0.4 % of 256 MiB.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The sockets of some peers.
pub(crate) struct Sockets {
    filter: String,
    looked: Instant,
    /// Bytes acknowledged on each connection, by both its ends.
    acknowledged: BTreeMap<(String, String), u64>,
}

impl Sockets {
    /// Of those who listen at these addresses, and dial from them.
    pub(crate) fn of(peers: &[SocketAddrV4]) -> Self {
        let ips: Vec<String> = peers
            .iter()
            .map(|peer| format!("src {}", peer.ip()))
            .collect();
        Self {
            filter: ips.join(" or "),
            looked: Instant::now(),
            acknowledged: BTreeMap::new(),
        }
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&mut self) -> Result<()> {
        if self.looked.elapsed() < LOOK_EVERY {
            return Ok(());
        }
        self.looked = Instant::now();
        self.look_now()
    }

    /// Looks.
    pub(crate) fn look_now(&mut self) -> Result<()> {
        let output = Command::new("ss")
            .args(["-tinOH", &self.filter])
            .output()
            .context("ss (package iproute2)")?;
        if !output.status.success() {
            bail!("ss: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.take(&String::from_utf8_lossy(&output.stdout));
        Ok(())
    }

    /// Bytes seen so far.
    pub(crate) fn sent(&self) -> u64 {
        self.acknowledged.values().sum()
    }

    /// One socket a line: state, two queues, own address, the other's, then `name:value` words.
    fn take(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace().skip(3);
            let (Some(own), Some(other)) = (words.next(), words.next()) else {
                continue;
            };
            let bytes = words
                .find_map(|word| word.strip_prefix("bytes_acked:"))
                .and_then(|bytes| bytes.parse().ok());
            let seen = self
                .acknowledged
                .entry((own.to_owned(), other.to_owned()))
                .or_default();
            *seen = (*seen).max(bytes.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_counts_once_and_stays_when_it_is_gone() {
        let mut sockets =
            Sockets::of(&["10.0.0.1:5".parse().unwrap(), "10.0.0.2:6".parse().unwrap()]);
        assert_eq!(sockets.filter, "src 10.0.0.1 or src 10.0.0.2");
        sockets.take(
            "ESTAB 0 0 10.0.0.1:5 10.0.0.9:1 cubic rto:204 bytes_sent:9 bytes_acked:7 bytes_received:3\n\
             ESTAB 0 0 10.0.0.1:5 10.0.0.9:2 cubic\nLISTEN\n",
        );
        assert_eq!(sockets.sent(), 7);
        sockets.take("ESTAB 0 0 10.0.0.1:5 10.0.0.9:2 bytes_acked:4 x:1\n");
        sockets.take("ESTAB 0 0 10.0.0.1:5 10.0.0.9:2 bytes_acked:6\n");
        assert_eq!(sockets.sent(), 13);
    }
}
