//! What silence means, and what trackers are told.

use crate::script::{PIECE_BYTES, PIECES, PLAIN, Script};
use bt_core::PeerId;
use bt_peer::{CloseReason, Command, Input, Output};
use bt_tracker::announce::{AnnounceRequest, AnnounceResponse, Event, Peer};
use bt_wire::Message;
use core::time::Duration;

#[test]
fn keep_alives_are_sent_and_silence_ends_a_connection() {
    // BEP 3: generally once every two minutes; the other side may close then.
    let mut script = Script::seeder();
    let (talker, silent) = (script.open(1, PLAIN), script.open(2, PLAIN));
    script.told(talker);
    let mut kept_alive = 0;
    for minute in 0..20 {
        script.hear(talker, Message::KeepAlive);
        script.pass(60);
        let told = script.told(talker);
        assert!(told.iter().all(|message| *message == Message::KeepAlive));
        kept_alive += told.len();
        let expected = (minute >= 4).then_some(&CloseReason::Idle);
        assert_eq!(script.closed(silent), expected, "{minute}");
    }
    assert_eq!(script.closed(talker), None);
    assert!(
        (10..=11).contains(&kept_alive),
        "{kept_alive} in 20 minutes"
    );
}

/// Takes the announces that were ordered; the numbers are theirs.
fn announces(script: &mut Script) -> Vec<(u64, AnnounceRequest)> {
    let orders = script.take().into_iter();
    orders
        .filter_map(|order| match order {
            Output::Announce { id, request, .. } => Some((id, request)),
            _ => None,
        })
        .collect()
}

fn answer(script: &mut Script, id: u64) {
    let result = Ok(AnnounceResponse {
        interval: Duration::from_secs(1_800),
        ..AnnounceResponse::default()
    });
    script.handle(Input::Announced { id, result });
}

#[test]
fn trackers_are_told_what_was_moved_and_what_is_left() {
    // BEP 3, "trackers": `left` counts what is not verified; `completed` comes once, when the last byte is there.
    let piece = u64::from(PIECE_BYTES);
    let url = || vec![vec!["http://tracker.test/announce".to_owned()]];
    let mut script = Script::with(0..PIECES - 2, |torrent, config| {
        torrent.trackers = url();
        config.listen_port = 6_881;
        config.key = 7;
    });
    let [(id, started)] = announces(&mut script).try_into().unwrap();
    assert_eq!(
        (started.event, started.left, started.port, started.key),
        (Event::Started, 2 * piece, 6_881, Some(7))
    );
    assert_eq!((started.uploaded, started.downloaded), (0, 0));
    answer(&mut script, id);
    let conn = script.open_seeder(1, PLAIN);
    script.piece_comes(conn, PIECES - 2);
    assert!(announces(&mut script).is_empty(), "a piece is no event");
    script.piece_comes(conn, PIECES - 1);
    let [(id, completed)] = announces(&mut script).try_into().unwrap();
    assert_eq!((completed.event, completed.left), (Event::Completed, 0));
    assert!(completed.downloaded >= 2 * piece);
    answer(&mut script, id);
    script.handle(Input::Command(Command::Stop));
    let [(_, stopped)] = announces(&mut script).try_into().unwrap();
    assert_eq!((stopped.event, stopped.numwant), (Event::Stopped, Some(0)));

    let mut seeder = Script::with(0..PIECES, |torrent, _| torrent.trackers = url());
    let [(id, started)] = announces(&mut seeder).try_into().unwrap();
    assert_eq!((started.event, started.left), (Event::Started, 0));
    answer(&mut seeder, id);
    seeder.pass(60);
    assert!(
        announces(&mut seeder).is_empty(),
        "it was complete at the start"
    );
}

#[test]
fn peers_of_a_tracker_are_dialled_but_for_ourselves() {
    // FAULTS 99.
    let mut script = Script::with([], |torrent, _| {
        torrent.trackers = vec![vec!["http://tracker.test/announce".to_owned()]];
    });
    let [(id, _)] = announces(&mut script).try_into().unwrap();
    let peer = |addr: &str, peer_id| Peer {
        addr: addr.parse().unwrap(),
        peer_id,
    };
    let result = Ok(AnnounceResponse {
        interval: Duration::from_secs(1_800),
        peers: vec![
            peer("10.0.0.1:6881", None),
            peer("10.0.0.2:6881", Some(crate::script::OWN_ID)),
            peer("10.0.0.3:6881", Some(PeerId([3; 20]))),
            peer("10.0.0.4:0", None),
            peer("10.0.0.1:6881", None),
        ],
        ..AnnounceResponse::default()
    });
    script.handle(Input::Announced { id, result });
    let orders = script.take();
    let mut dialled: Vec<String> = orders
        .iter()
        .filter_map(|order| match order {
            Output::Dial { addr, .. } => Some(addr.to_string()),
            _ => None,
        })
        .collect();
    dialled.sort();
    assert_eq!(dialled, ["10.0.0.1:6881", "10.0.0.3:6881"]);
}
