//! Processes that are killed, state that is torn, folders that are not what they should be: nothing verified is lost, nothing
//! false is claimed, nobody else is harmed.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "shell: owns clocks, files and sockets"
)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bt_tests::peer::honest;
use bt_tests::process::PATIENCE;
use bt_tests::shared::Shared;
use rustix::process::Signal;
use serde_json::Value;

const PIECE: usize = 16_384;

fn shared(pieces: usize) -> Shared {
    Shared::new(pieces * PIECE - 7, PIECE, "http://127.0.0.1:1/announce")
}

fn pieces_have(event: &Value) -> usize {
    usize::try_from(event["pieces_have"].as_u64().expect("a number")).expect("a small number")
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// Kills a download again and again, each time once a few more pieces lie on its disk. What it claims when it comes back is
/// exactly what lies there.
#[test]
fn a_killed_download_goes_on_with_exactly_what_it_had() {
    let shared = shared(120);
    let (_seeder, addr) = shared.seed(&["--up-limit", "500K"]);
    let mut had = 0;
    for (kills, more) in [1, 3, 2, 17, 5, 40, 1].into_iter().enumerate() {
        let mut get = shared.get("copy", addr, &[]);
        let claimed = pieces_have(&get.event("checked"));
        assert_eq!(claimed, had, "after {kills} kills: {}", get.stderr());
        let deadline = Instant::now() + PATIENCE;
        while shared.whole_pieces("copy") < had + more && get.is_running() {
            assert!(Instant::now() < deadline, "nothing comes: {}", get.stderr());
            std::thread::park_timeout(Duration::from_millis(3));
        }
        get.signal(Signal::KILL);
        assert_eq!(get.end(), 128 + 9, "it was still at it");
        had = shared.whole_pieces("copy");
    }
    let mut get = shared.get("copy", addr, &[]);
    assert_eq!(pieces_have(&get.event("checked")), had);
    let complete = get.event("complete");
    let missing = (shared.pieces() - had) * PIECE;
    let downloaded = complete["downloaded"].as_u64().expect("a number");
    assert!(
        downloaded <= missing as u64,
        "{downloaded} bytes for the {missing} that were missing"
    );
    assert_eq!(get.end(), 0);
    assert!(shared.is_copied("copy"));
}

/// The state of a complete download, cut at every length and with its tail zeroed: it is never believed, and what is said
/// about the data stays true.
#[test]
fn torn_state_is_never_believed() {
    let shared = shared(5);
    let (_seeder, addr) = shared.seed(&[]);
    let mut get = shared.get("copy", addr, &[]);
    assert_eq!(get.end(), 0, "{}", get.stderr());
    let states: Vec<PathBuf> = files(&shared.make("copy-home"));
    let state = states
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|data| data.len() > 0))
        .expect("a finished download leaves its state");
    let whole = fs::read(&state).expect("the state");
    let step = (whole.len() / 24).max(1);
    for cut in (0..whole.len()).step_by(step) {
        let mut zeroed = whole.clone();
        zeroed[cut..].fill(0);
        for (torn, how) in [(&whole[..cut], "cut"), (&zeroed[..], "zeroed")] {
            fs::write(&state, torn).expect("a torn state");
            // A byte of the data is wrong too: whoever believes the state now would lie.
            let copy = fs::File::options()
                .write(true)
                .open(shared.folder.path().join("copy/it"));
            let at = (PIECE + 5) as u64;
            let wrong = shared.data[PIECE + 5] ^ 1;
            copy.expect("the copy")
                .write_all_at(&[wrong], at)
                .expect("a wrong byte");
            let mut get = shared.get("copy", addr, &[]);
            let claimed = pieces_have(&get.event("checked"));
            assert_eq!(
                claimed,
                shared.pieces() - 1,
                "{how} at {cut}: {}",
                get.stderr()
            );
            assert_eq!(get.end(), 0, "{how} at {cut}: {}", get.stderr());
            assert!(shared.is_copied("copy"), "{how} at {cut}");
        }
    }
}

/// The data changed while nobody looked: the state does not fit it any more, and the changed piece is fetched again.
#[test]
fn changed_data_is_noticed_whatever_the_state_says() {
    type Change = fn(&Path, &Shared);
    let rows: [(&str, usize, Change); 4] = [
        ("a byte", 4, |path, shared| {
            let mut data = shared.data.clone();
            data[0] ^= 1;
            fs::write(path, data).expect("a change");
        }),
        ("cut short", 2, |path, shared| {
            fs::write(path, &shared.data[..2 * PIECE]).expect("a change");
        }),
        ("longer", 5, |path, shared| {
            fs::write(path, [&shared.data[..], b"more"].concat()).expect("a change");
        }),
        ("gone", 0, |path, _| {
            fs::remove_file(path).expect("a change")
        }),
    ];
    let shared = shared(5);
    let (_seeder, addr) = shared.seed(&[]);
    let mut get = shared.get("copy", addr, &[]);
    assert_eq!(get.end(), 0, "{}", get.stderr());
    let copy = shared.folder.path().join("copy/it");
    for (name, pieces, change) in rows {
        change(&copy, &shared);
        let mut get = shared.get("copy", addr, &[]);
        assert_eq!(
            pieces_have(&get.event("checked")),
            pieces,
            "{name}: {}",
            get.stderr()
        );
        assert_eq!(get.end(), 0, "{name}: {}", get.stderr());
        let found = fs::read(&copy).expect("the copy");
        assert_eq!(found[..shared.data.len()], shared.data[..], "{name}");
    }
}

#[test]
fn a_second_process_on_the_same_data_refuses_and_harms_nobody() {
    let shared = shared(60);
    let (_seeder, addr) = shared.seed(&["--up-limit", "400K"]);
    let mut first = shared.get("copy", addr, &[]);
    first.event("checked");
    let mut second = shared.get("copy", addr, &[]);
    assert_eq!(second.end(), 1, "{}", second.stderr());
    assert!(!second.stderr().contains("panicked"), "{}", second.stderr());
    assert!(
        second.stderr().contains("process"),
        "it says why: {}",
        second.stderr()
    );
    assert_eq!(first.end(), 0, "{}", first.stderr());
    assert!(shared.is_copied("copy"));
}

#[test]
fn folders_that_cannot_take_the_data_end_with_exit_code_6_and_their_name() {
    let shared = shared(5);
    let (_seeder, addr) = shared.seed(&[]);
    type Prepare = fn(&Path);
    let rows: [(&str, Prepare); 2] = [
        ("a folder where the file goes", |folder| {
            fs::create_dir_all(folder.join("it/inside")).expect("a folder");
        }),
        ("a file where the folder goes", |folder| {
            fs::remove_dir(folder).expect("an empty folder");
            fs::write(folder, "in the way").expect("a file");
        }),
    ];
    for (number, (name, prepare)) in rows.into_iter().enumerate() {
        let copy = format!("copy{number}");
        prepare(&shared.make(&copy));
        let into = shared.folder.path().join(&copy);
        let peer = addr.to_string();
        let torrent = shared.torrent.to_str().expect("UTF-8");
        let arguments = [
            "get",
            torrent,
            "-d",
            into.to_str().expect("UTF-8"),
            "--peer",
            &peer,
        ];
        let more = [
            "--bind",
            "127.0.0.1",
            "--port",
            "0",
            "--no-tracker",
            "--timeout",
            "20s",
        ];
        let home = shared.make("home");
        let (code, _, said) =
            bt_tests::process::run("bt", &home, &[&arguments[..], &more].concat());
        assert_eq!(code, 6, "{name}: {said}");
        assert!(
            said.contains(&copy) || said.contains("it"),
            "{name}: {said}"
        );
        assert!(!said.contains("panicked"), "{name}: {said}");
    }
}

/// A file that is cut short under a running seeder: its readers are refused, the process lives, and serves again once the
/// data is back.
#[test]
fn data_that_goes_away_under_a_seeder_does_not_bring_it_down() {
    let shared = shared(5);
    let (mut seeder, addr) = shared.seed(&[]);
    let source = shared.folder.path().join("source/it");
    honest(addr, &shared, PATIENCE).expect("served at first");
    let file = fs::File::options()
        .write(true)
        .open(&source)
        .expect("the source");
    file.set_len(0).expect("cut short");
    let short = Duration::from_secs(2);
    assert!(
        honest(addr, &shared, short).is_err(),
        "nothing is there to be served"
    );
    assert!(seeder.is_running(), "{}", seeder.stderr());
    assert!(!seeder.stderr().contains("panicked"), "{}", seeder.stderr());
    seeder.signal(Signal::TERM);
    let code = seeder.end();
    assert!([0, 6].contains(&code), "exit {code}: {}", seeder.stderr());
}
