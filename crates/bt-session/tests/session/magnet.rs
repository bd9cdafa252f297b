//! Downloads that start from a link (BEP 9).

use super::{Place, Running, seed_only, session, start, with_peers};
use bt_core::Bitfield;
use bt_metainfo::Magnet;
use bt_session::{Choose, Failure, Session, SessionError, TorrentEvent, TorrentOptions};
use std::net::SocketAddr;
use std::path::Path;

/// A link with the seeder's address, and nothing else that helps.
fn link(place: &Place, seeder: SocketAddr) -> Magnet {
    let hash = place.torrent.info_hash;
    format!("magnet:?xt=urn:btih:{hash}&x.pe={seeder}")
        .parse()
        .unwrap()
}

fn start_magnet(
    session: &mut Session,
    magnet: Magnet,
    dir: &Path,
    options: TorrentOptions,
) -> Running {
    let (handle, events) = session.add_magnet(magnet, dir, options).unwrap();
    Running { handle, events }
}

async fn described(torrent: &mut Running) {
    torrent
        .until(|event| matches!(event, TorrentEvent::Metadata(_)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_becomes_a_copy_and_a_seeder_for_other_links() {
    let place = Place::new(&[]);
    let (mut seeding, addr) = session(None);
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let (mut first, first_addr) = session(None);
    let copy = place.path("first");
    let options = TorrentOptions::default();
    let mut leecher = start_magnet(&mut first, link(&place, addr), &copy, options.clone());
    let seen = leecher
        .until(|event| matches!(event, TorrentEvent::Metadata(_)))
        .await;
    let Some(TorrentEvent::Metadata(metainfo)) = seen.last() else {
        unreachable!("waited for it");
    };
    assert_eq!(metainfo.info_bytes(), place.torrent.info_bytes());
    leecher.complete().await;
    place.assert_copied(&copy);
    let stats = leecher.handle.status().stats;
    assert_eq!(stats.downloaded, place.torrent.info.layout().total_length());
    seeding.shutdown().await;

    // Whoever has it by now gives the metadata too.
    let (mut second, _) = session(None);
    let copy = place.path("second");
    let mut leecher = start_magnet(&mut second, link(&place, first_addr), &copy, options);
    leecher.complete().await;
    place.assert_copied(&copy);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_one_goes_on_without_asking_again() {
    let place = Place::new(&[]);
    let (mut seeding, addr) = session(None);
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let state = place.path("state");
    let copy = place.path("copy");
    let (mut leeching, _) = session(Some(state.clone()));
    let mut leecher = start_magnet(
        &mut leeching,
        link(&place, addr),
        &copy,
        TorrentOptions::default(),
    );
    leecher.complete().await;
    leeching.shutdown().await;
    seeding.shutdown().await;

    // Nobody is there any more.
    let (mut leeching, _) = session(Some(state.clone()));
    let magnet = link(&place, addr);
    let options = TorrentOptions::default();
    let mut again = start_magnet(&mut leeching, magnet.clone(), &copy, options.clone());
    described(&mut again).await;
    assert_eq!(
        again.checked().await,
        place.torrent.info.layout().pieces_count()
    );
    leeching.shutdown().await;

    // What was kept is believed by its hash alone.
    let kept = state.join("metadata");
    let file = std::fs::read_dir(&kept).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    bytes[20] ^= 1;
    std::fs::write(file.path(), bytes).unwrap();
    let (mut leeching, _) = session(Some(state));
    let (mut seeding, addr) = session(None);
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let mut again = start_magnet(&mut leeching, link(&place, addr), &copy, options);
    described(&mut again).await;
    again.complete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_link_or_the_user_says_which_files() {
    let place = Place::new(&[]);
    let (mut seeding, addr) = session(None);
    start(&mut seeding, &place, &place.source(), seed_only())
        .checked()
        .await;
    let none = |_: &bt_metainfo::Info| Err("nothing of it".to_owned());
    let last = |info: &bt_metainfo::Info| {
        let layout = info.layout();
        let mut pieces = Bitfield::new(layout.pieces_count());
        pieces.set(layout.piece(layout.pieces_count() - 1).unwrap());
        Ok(Some(pieces))
    };
    // (what the link selects, what the user does, pieces that are had)
    let rows: [(&str, Option<Choose>, u32); 4] = [
        ("1", None, 1),
        ("1-2", None, 2),
        ("1-2", Some(Choose::new(last)), 1),
        ("1", Some(Choose::new(none)), 0),
    ];
    for (number, (select, choose, pieces)) in rows.into_iter().enumerate() {
        let (mut leeching, _) = session(None);
        let magnet = format!("{}&so={select}", link(&place, addr));
        let options = TorrentOptions {
            choose,
            ..TorrentOptions::default()
        };
        let copy = place.path(&format!("copy-{number}"));
        let magnet = magnet.parse().unwrap();
        let mut leecher = start_magnet(&mut leeching, magnet, &copy, options);
        if pieces == 0 {
            let failed = TorrentEvent::Failed(Failure::Selection("nothing of it".to_owned()));
            leecher.until(|event| *event == failed).await;
            continue;
        }
        leecher.complete().await;
        assert_eq!(leecher.handle.stop().await.stats.pieces_have, pieces);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_nowhere_can_be_stopped() {
    let place = Place::new(&[]);
    let (mut session, addr) = session(None);
    let magnet = link(&place, addr);
    let waiting = start_magnet(
        &mut session,
        magnet.clone(),
        &place.path("copy"),
        with_peers(&[addr]),
    );
    let again = session.add_magnet(magnet, &place.path("copy"), TorrentOptions::default());
    assert!(matches!(again, Err(SessionError::Duplicate { .. })));
    waiting.handle.stop().await;
    let v2 = Magnet {
        info_hash_v2: Some([1; 32]),
        ..Magnet::default()
    };
    let refused = session.add_magnet(v2, &place.path("copy"), TorrentOptions::default());
    assert!(matches!(refused, Err(SessionError::V2Only)));
    session.shutdown().await;
}
