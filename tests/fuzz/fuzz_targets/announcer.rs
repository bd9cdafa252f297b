//! The schedule of trackers, and trackers that answer anything, late, or never: one request of each at a time, none too soon,
//! events in an order that a tracker can believe, a deadline within the bounds, and an end.
#![no_main]

use bt_sim::adversary::announcer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    let _ = announcer::play(script);
});
