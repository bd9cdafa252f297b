//! Plays scripts to one engine, and to one schedule of trackers, until so many messages have been taken; says which seeds
//! ended badly. `adversary [MESSAGES [FIRST SEED]]`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: it talks to its user"
)]

use bt_sim::adversary::{announcer, engine, script};
use std::panic::catch_unwind;
use std::process::ExitCode;

/// As many messages as are played unless the command line says otherwise.
const MESSAGES: u64 = 1_000_000;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mut number = |default: u64| match words.next() {
        Some(word) => word.parse().ok(),
        None => Some(default),
    };
    let (Some(messages), Some(first)) = (number(MESSAGES), number(0)) else {
        eprintln!("usage: adversary [MESSAGES [FIRST SEED]]");
        return ExitCode::from(2);
    };
    let (mut engines, mut announcers) = (engine::Tally::default(), announcer::Tally::default());
    let (mut seed, mut failed) = (first, 0);
    while engines.messages < messages && failed < 10 {
        let played = catch_unwind(|| (engine::play(&script(seed)), announcer::play(&script(seed))));
        if let Ok((engine, announcer)) = played {
            engines.add(engine);
            announcers.add(announcer);
        } else {
            println!("seed {seed} ended badly");
            failed += 1;
        }
        seed += 1;
    }
    println!("seeds {first}..{seed}: {engines:?} {announcers:?}");
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
