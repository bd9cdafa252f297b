//! What one run leaves to the next.

use super::{Place, seed_only, session, start, with_peers};
use bt_session::{Failure, Session, TorrentEvent};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Downloads everything and stops cleanly, or is dropped on the spot.
async fn download(place: &Place, copy: &Path, state: &Path, clean: bool) {
    let (mut seeding, addr) = session(None);
    start(&mut seeding, place, &place.source(), seed_only())
        .checked()
        .await;
    let (mut leeching, _) = session(Some(state.to_owned()));
    let mut leecher = start(&mut leeching, place, copy, with_peers(&[addr]));
    leecher.complete().await;
    if clean {
        leeching.shutdown().await;
    }
}

/// The lock goes with the last task of the session before, which nobody can wait for once it was dropped.
async fn restarted(place: &Place, copy: &Path, state: &Path) -> (Session, u32) {
    loop {
        let (mut session, _) = session(Some(state.to_owned()));
        let mut torrent = start(&mut session, place, copy, with_peers(&[]));
        let seen = torrent
            .until(|event| {
                matches!(
                    event,
                    TorrentEvent::Checked { .. } | TorrentEvent::Failed(_)
                )
            })
            .await;
        match seen.last() {
            Some(TorrentEvent::Checked { pieces_have, .. }) => return (session, *pieces_have),
            Some(TorrentEvent::Failed(Failure::InUse { .. })) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fetched_again_after_a_clean_stop_nor_after_a_crash() {
    for clean in [true, false] {
        let place = Place::new(&[]);
        let (copy, state) = (place.path("copy"), place.path("state"));
        download(&place, &copy, &state, clean).await;
        let (_session, have) = restarted(&place, &copy, &state).await;
        assert_eq!(
            have,
            place.torrent.info.layout().pieces_count(),
            "clean: {clean}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_meanwhile_is_not_believed() {
    let place = Place::new(&[]);
    let (copy, state) = (place.path("copy"), place.path("state"));
    download(&place, &copy, &state, true).await;
    let path = copy.join("top/sub/c");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[400_000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (_session, have) = restarted(&place, &copy, &state).await;
    assert_eq!(have, place.torrent.info.layout().pieces_count() - 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_file_that_is_torn_costs_a_check_and_nothing_else() {
    let place = Place::new(&[]);
    let (copy, state) = (place.path("copy"), place.path("state"));
    download(&place, &copy, &state, true).await;
    let mut torn = 0;
    for folder in std::fs::read_dir(&state).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path
                .extension()
                .is_some_and(|extension| extension == "resume")
            {
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                torn += 1;
            }
        }
    }
    assert_eq!(torn, 1);
    let (mut session, _) = session(Some(state));
    let mut torrent = start(&mut session, &place, &copy, with_peers(&[]));
    let seen = torrent
        .until(|event| matches!(event, TorrentEvent::Checked { .. }))
        .await;
    let warned = |event: &TorrentEvent| matches!(event, TorrentEvent::Warning { message } if message.contains("set aside"));
    assert!(seen.iter().any(warned), "{seen:?}");
    let pieces = place.torrent.info.layout().pieces_count();
    assert!(
        matches!(seen.last(), Some(TorrentEvent::Checked { pieces_have, .. }) if *pieces_have == pieces)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_downloads_into_one_folder_are_one_too_many() {
    let place = Place::new(&[]);
    let (copy, state) = (place.path("copy"), place.path("state"));
    let (mut first, _) = session(Some(state.clone()));
    start(&mut first, &place, &copy, with_peers(&[]))
        .checked()
        .await;
    let (mut second, _) = session(Some(state));
    let mut torrent = start(&mut second, &place, &copy, with_peers(&[]));
    let seen = torrent
        .until(|event| matches!(event, TorrentEvent::Failed(_)))
        .await;
    let Some(TorrentEvent::Failed(failure @ Failure::InUse { .. })) = seen.last() else {
        panic!("{seen:?}");
    };
    // The other may as well be a seeder.
    let words = format!("in use in {} already", copy.display());
    assert!(failure.to_string().contains(&words), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn seeding_changes_nothing_in_its_folder_even_if_it_could_not() {
    let place = Place::new(&[]);
    let top = place.source().join("top");
    // Root may write all the same; so what is in the folder is compared too.
    std::fs::set_permissions(&top, std::fs::Permissions::from_mode(0o555)).unwrap();
    let listed = || {
        let names = std::fs::read_dir(&top).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = listed();
    let state = place.path("state");
    let (mut session, _) = session(Some(state.clone()));
    let mut seeder = start(&mut session, &place, &place.source(), seed_only());
    seeder.checked().await;
    session.shutdown().await;
    assert_eq!(listed(), before);
    assert_eq!(std::fs::read_dir(place.source()).unwrap().count(), 1);
    assert!(state.exists());
    std::fs::set_permissions(&top, std::fs::Permissions::from_mode(0o755)).unwrap();
}
