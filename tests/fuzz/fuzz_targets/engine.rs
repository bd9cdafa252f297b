//! One engine in each of its roles, and peers, a disk, trackers and a user that do anything: never a panic, never a message that
//! the protocol forbids, its invariants after each fact, and with an honest seeder it comes to its end.
#![no_main]

use bt_sim::adversary::engine;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    let _ = engine::play(script);
});
