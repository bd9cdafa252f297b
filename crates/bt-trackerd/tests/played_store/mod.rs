//! A store that is played: it shows what it is asked, and answers, holds its answer back, or hangs up, as a test has it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

/// Far more than a tracker takes to come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// What becomes of an exchange.
pub(crate) enum Fate {
    Answered(&'static [u8]),
    HeldBack,
    HungUp,
}

/// An exchange as it came: the arguments of the script, without its keys.
pub(crate) struct Asked(Vec<Vec<u8>>);

impl Asked {
    /// Argument `number` of the script, counted as there.
    pub(crate) fn number(&self, number: usize) -> i64 {
        let text = str::from_utf8(&self.0[4 + number]).unwrap();
        text.parse().unwrap()
    }

    /// Whether it asks for what is new. What is told of swarms as they stand, once the store is reached, does not: an announce that
    /// comes just then is told both ways.
    pub(crate) fn asks(&self) -> bool {
        self.number(3) > 0
    }

    /// As what a peer at the loopback with this port is told of, in numbers as the script has them.
    pub(crate) fn standing(&self, port: u16) -> Option<i64> {
        let [high, low] = port.to_be_bytes();
        let member = [127, 0, 0, 1, high, low];
        let mut peers = self.0[10..].chunks(2);
        let told = peers.find(|told| told[1] == member)?;
        let score: i64 = str::from_utf8(&told[0]).unwrap().parse().unwrap();
        Some((-score).rem_euclid(4))
    }
}

/// The exchanges that a tracker makes.
pub(crate) struct Exchanges(mpsc::Receiver<Asked>);

impl Exchanges {
    /// The next one that `fits`.
    pub(crate) fn until(&self, fits: impl Fn(&Asked) -> bool) -> Asked {
        loop {
            let asked = self.0.recv_timeout(PATIENCE);
            let asked = asked.expect("it is asked once more");
            if fits(&asked) {
                return asked;
            }
        }
    }
}

/// Plays a store; returns its address.
pub(crate) fn play(fate: impl FnMut(&Asked) -> Fate + Send + 'static) -> (String, Exchanges) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (sender, exchanges) = mpsc::channel();
    std::thread::spawn(move || {
        let mut fate = fate;
        // One connection after the other, as the tracker makes them.
        for stream in listener.incoming() {
            converse(&stream.unwrap(), &mut fate, &sender);
        }
    });
    (url, Exchanges(exchanges))
}

fn converse(
    mut stream: &TcpStream,
    fate: &mut impl FnMut(&Asked) -> Fate,
    sender: &mpsc::Sender<Asked>,
) {
    let mut reader = BufReader::new(stream);
    while let Some(command) = read(&mut reader) {
        let answer = match &*command[0] {
            b"SCRIPT" => &b"$3\r\nsha\r\n"[..],
            b"EVALSHA" => {
                let asked = Asked(command);
                let fate = fate(&asked);
                let _ = sender.send(asked);
                match fate {
                    Fate::Answered(answer) => answer,
                    Fate::HeldBack => continue,
                    Fate::HungUp => return,
                }
            }
            _ => b"+OK\r\n",
        };
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

/// A command; `None` once the tracker hung up.
fn read(reader: &mut impl BufRead) -> Option<Vec<Vec<u8>>> {
    let parts = number(reader)?;
    (0..parts)
        .map(|_| {
            let mut part = vec![0; number(reader)? + 2];
            reader.read_exact(&mut part).ok()?;
            part.truncate(part.len() - 2);
            Some(part)
        })
        .collect()
}

/// The number in `*3` or `$5`.
fn number(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim_end().parse().ok()
}
