//! What the community specification demands of a tracker's client beyond single replies.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use bt_core::{Rng, Time};
use bt_tracker::client::{Announcer, Ask, Input, Output};
use bt_tracker::http::decode;

fn ask(announcer: &mut Announcer) -> Ask {
    loop {
        match announcer.poll().unwrap() {
            Output::Ask(ask) => return ask,
            Output::Answered { .. } | Output::Stopped => {}
        }
    }
}

#[test]
fn a_tracker_id_stays_until_another_one_comes() {
    // "Tracker response", `tracker id`: if it is absent, the old value is not to be discarded.
    let tiers = vec![vec!["http://tracker.test/announce".to_owned()]];
    let mut announcer = Announcer::new(tiers, Rng::new(1));
    let rows = [
        ("d8:intervali60e5:peers0:e", None),
        ("d8:intervali60e5:peers0:10:tracker id3:onee", Some("one")),
        ("d8:intervali60e5:peers0:e", Some("one")),
        ("d14:failure reason4:busye", Some("one")),
        ("d8:intervali60e5:peers0:10:tracker id3:twoe", Some("two")),
    ];
    let mut now = Time::ZERO;
    announcer.handle(now, Input::Start { complete: false });
    let mut id = ask(&mut announcer).id;
    for (reply, expected) in rows {
        let result = decode::announce(reply.as_bytes());
        announcer.handle(now, Input::Answer { id, result });
        while announcer.poll().is_some() {}
        now = announcer.deadline().unwrap();
        announcer.handle(now, Input::Timeout);
        let asked = ask(&mut announcer);
        let sent = asked.tracker_id.as_deref();
        assert_eq!(sent, expected.map(str::as_bytes), "after {reply}");
        id = asked.id;
    }
}
