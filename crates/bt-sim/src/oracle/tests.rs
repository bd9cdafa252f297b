//! What may be sent when: scripts of one end of a connection.

use super::*;
use std::collections::BTreeMap;

const BLOCK: BlockAddress = BlockAddress {
    piece: 1,
    begin: 0,
    length: 16_384,
};

/// `>` what this end sends, `<` what it hears; it has pieces 0 and 2 of three.
fn check(fast: bool, script: &[&str], breach: Option<&str>) {
    let layout = Layout::new(3 * 16_384, 16_384).unwrap();
    let mut have = Bitfield::new(3);
    have.set(layout.piece(0).unwrap());
    have.set(layout.piece(2).unwrap());
    let mut monitor = Monitor::new(layout, fast);
    let mut result = Ok(());
    for line in script {
        assert_eq!(result, Ok(()), "before {line} of {script:?}");
        let (direction, words) = line.split_at(1);
        let (word, number) = words.split_once(' ').unwrap_or((words, "1"));
        let piece: u32 = number.parse().unwrap();
        let address = BlockAddress { piece, ..BLOCK };
        let message = match word {
            "bitfield" => Message::Bitfield(vec![0b1010_0000].into()),
            "greedy" => Message::Bitfield(vec![0b1110_0000].into()),
            "all" => Message::HaveAll,
            "none" => Message::HaveNone,
            "have" => Message::Have { piece },
            "choke" => Message::Choke,
            "unchoke" => Message::Unchoke,
            "interested" => Message::Interested,
            "bored" => Message::NotInterested,
            "request" => Message::Request(address),
            "cancel" => Message::Cancel(address),
            "reject" => Message::RejectRequest(address),
            "allowed" => Message::AllowedFast { piece },
            "alive" => Message::KeepAlive,
            "takes" => {
                let extensions = BTreeMap::from([(dont_have::NAME.to_owned(), 3)]);
                let handshake = ExtensionHandshake {
                    extensions,
                    ..ExtensionHandshake::default()
                };
                let payload = handshake.encode().into();
                Message::Extended { id: 0, payload }
            }
            "lost" => {
                let payload = dont_have::encode(piece);
                Message::Extended { id: 3, payload }
            }
            "piece" => Message::Piece {
                piece,
                begin: 0,
                data: vec![0; 16_384].into(),
            },
            "upload" => {
                let block = layout.block(piece, 0, 16_384).unwrap();
                result = monitor.upload(block, &have);
                continue;
            }
            other => panic!("{other}"),
        };
        if direction == ">" {
            result = monitor.send(&message, &have);
        } else {
            monitor.hear(&message);
        }
    }
    match (result, breach) {
        (Ok(()), None) => {}
        (Err(Breach(found)), Some(expected)) if found.contains(expected) => {}
        (found, expected) => panic!("{script:?}: {found:?}, expected {expected:?}"),
    }
}

#[test]
fn what_may_be_sent_when() {
    check(
        true,
        &[">alive", ">bitfield", ">have 1"],
        Some("before it is verified"),
    );
    check(true, &[">have 0"], Some("comes first"));
    check(false, &[">have 0", ">have 0"], Some("twice"));
    check(false, &[">have 0", ">bitfield"], Some("not the first"));
    check(true, &[">greedy"], Some("more than is verified"));
    check(true, &[">all"], Some("without all"));
    check(false, &[">none"], Some("without the fast extension"));
    check(false, &[">allowed 1"], Some("without the fast extension"));
    check(true, &[">none", ">piece"], Some("not ordered"));
    check(true, &[">none", ">choke"], Some("twice"));
    check(true, &[">none", ">bored"], Some("twice"));
}

#[test]
fn what_may_be_asked_for() {
    let ready = [">none", "<all", ">interested", "<unchoke"];
    let row = |more: &[&str], breach| {
        check(true, &[ready.as_slice(), more].concat(), breach);
    };
    row(&[">request 1", ">request 2"], None);
    row(&[">request 1", ">request 1"], Some("twice"));
    row(&[">request 1", "<piece 1", ">request 1"], None);
    row(&[">request 1", "<reject 1", ">request 1"], None);
    row(&[">request 1", ">cancel 1", ">request 1"], None);
    row(&["<choke", ">request 1"], Some("while choked"));
    row(&["<choke", "<allowed 1", ">request 1"], None);
    row(&[">request 3"], Some("no block"));
    row(&[">bored", ">request 1"], Some("without interest"));
    let lacks = [
        ">none",
        "<bitfield",
        ">interested",
        "<unchoke",
        ">request 1",
    ];
    check(true, &lacks, Some("who lacks it"));
    // Without the fast extension a choke answers all requests; with it none.
    let choked = [
        ">interested",
        "<have 1",
        "<unchoke",
        ">request 1",
        "<choke",
        "<unchoke",
    ];
    check(false, &[&choked, [">request 1"].as_slice()].concat(), None);
    row(
        &[">request 1", "<choke", "<unchoke", ">request 1"],
        Some("twice"),
    );
}

#[test]
fn what_may_be_answered() {
    let rows = [
        (true, ">bitfield, >unchoke, <request 0, >upload 0", None),
        (
            true,
            ">bitfield, >unchoke, <request 1, >upload 1",
            Some("unverified"),
        ),
        (
            true,
            ">bitfield, >unchoke, >upload 0",
            Some("not asked for"),
        ),
        (
            true,
            ">bitfield, >unchoke, <request 0, >upload 0, >upload 0",
            Some("not asked for"),
        ),
        (
            true,
            ">bitfield, >unchoke, <request 0, >choke, >upload 0",
            Some("to a choked peer"),
        ),
        (true, ">bitfield, >allowed 0, <request 0, >upload 0", None),
        (
            false,
            ">bitfield, >unchoke, <request 0, >choke, >unchoke, >upload 0",
            Some("not asked for"),
        ),
        (
            false,
            ">bitfield, >unchoke, <request 0, <cancel 0, >upload 0",
            Some("not asked for"),
        ),
        (true, ">none, <request 0, <cancel 0, >reject 0", None),
        (
            true,
            ">none, >unchoke, <request 0, >upload 0",
            Some("never told of"),
        ),
        (
            true,
            ">bitfield, >unchoke, <request 0, <cancel 0, <request 0, >reject 0, >upload 0",
            None,
        ),
        (true, ">none, >reject 0", Some("not asked")),
        (
            false,
            "<request 0, >reject 0",
            Some("without the fast extension"),
        ),
    ];
    for (fast, script, breach) in rows {
        check(fast, &script.split(", ").collect::<Vec<_>>(), breach);
    }
}

#[test]
fn what_may_be_taken_back() {
    // BEP 54; piece 1 is not here, and 0 is.
    check(true, &[">none", "<takes", ">lost 1"], None);
    check(true, &[">none", "<takes", ">lost 0"], Some("and is here"));
    check(true, &[">none", "<takes", ">lost 3"], Some("which is none"));
    check(true, &[">none", ">takes", ">lost 0"], None);
    let asked = [">none", "<takes", "<request 1", ">lost 1"];
    check(true, &asked, Some("was asked for"));
    check(false, &asked[1..], None);
    let heard = [">none", ">takes", "<all", ">interested", "<unchoke"];
    let row = |more: &[&str], breach| {
        check(true, &[heard.as_slice(), more].concat(), breach);
    };
    row(&["<lost 1", ">request 1"], Some("who lacks it"));
    row(&["<lost 1", "<have 1", ">request 1"], None);
    row(
        &[">request 1", "<lost 1", "<have 1", ">request 1"],
        Some("twice"),
    );
    let silent = [
        ">takes",
        "<have 1",
        ">interested",
        "<unchoke",
        ">request 1",
        "<lost 1",
    ];
    let again = ["<have 1", ">request 1"];
    check(false, &[silent.as_slice(), &again].concat(), None);
}

#[test]
fn what_a_choked_peer_may_get_is_counted_from_choke_to_choke() {
    let layout = Layout::new(16 << 20, 1 << 20).unwrap();
    let have = Bitfield::full(16);
    let give = |monitor: &mut Monitor, index: u32| {
        let piece = layout.piece(index).unwrap();
        layout.blocks(piece).try_for_each(|block| {
            monitor.hear(&Message::Request(block.into()));
            monitor.upload(block, &have)
        })
    };
    let opened = || {
        let mut monitor = Monitor::new(layout, true);
        monitor.send(&Message::HaveAll, &have).unwrap();
        for piece in 0..16 {
            let allowed = Message::AllowedFast { piece };
            monitor.send(&allowed, &have).unwrap();
        }
        monitor
    };
    // 4 MiB at once, whatever is allowed.
    let mut monitor = opened();
    (0..4).for_each(|piece| give(&mut monitor, piece).unwrap());
    let breach = give(&mut monitor, 4).unwrap_err();
    assert!(breach.0.contains("too much"), "{breach:?}");
    // Each choke is worth a piece more, and no more than that.
    let mut monitor = opened();
    for _ in 0..2 {
        monitor.send(&Message::Unchoke, &have).unwrap();
        monitor.send(&Message::Choke, &have).unwrap();
        (0..3).for_each(|piece| give(&mut monitor, piece).unwrap());
    }
    monitor.send(&Message::Unchoke, &have).unwrap();
    monitor.send(&Message::Choke, &have).unwrap();
    give(&mut monitor, 5).unwrap();
    let breach = give(&mut monitor, 6).unwrap_err();
    assert!(breach.0.contains("a piece each"), "{breach:?}");
}

#[test]
fn what_is_to_be_rejected_at_once() {
    let layout = Layout::new(3 * 16_384, 16_384).unwrap();
    let block = layout.block(1, 0, 16_384).unwrap();
    for fast in [false, true] {
        let have = Bitfield::full(3);
        let mut monitor = Monitor::new(layout, fast);
        let opening = Message::Bitfield(have.to_bytes().into());
        for sent in [opening, Message::Unchoke] {
            monitor.send(&sent, &have).unwrap();
        }
        let due = fast.then_some(BLOCK);
        monitor.hear(&Message::Request(BLOCK));
        assert_eq!(monitor.overdue(), None, "an answer has time");
        monitor.hear(&Message::Cancel(BLOCK));
        assert_eq!(monitor.overdue(), due);
        if fast {
            let reject = Message::RejectRequest(BLOCK);
            monitor.send(&reject, &have).unwrap();
            assert_eq!(monitor.overdue(), None);
        }
        monitor.hear(&Message::Request(BLOCK));
        monitor.send(&Message::Choke, &have).unwrap();
        assert_eq!(monitor.overdue(), due);
        if fast {
            // It may have the piece though choked, or the disk has not said yet why it is not read.
            let allowed = Message::AllowedFast { piece: 1 };
            monitor.send(&allowed, &have).unwrap();
            assert_eq!(monitor.overdue(), None);
            monitor.hear(&Message::Cancel(BLOCK));
            assert_eq!(monitor.overdue(), due);
            monitor.failed_to_read(block);
            assert_eq!(monitor.overdue(), None);
        }
    }
}
