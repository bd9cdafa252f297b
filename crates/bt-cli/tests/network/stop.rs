//! Signals in the middle of a download.

use super::process::{Ended, Process};
use super::{LOCAL, Place};
use rustix::process::Signal;

/// The arguments of a download that takes some seconds.
fn slowly(url: &str) -> Vec<&str> {
    let get = ["get", url, "-d", "copy", "--down-limit", "500K", "--json"];
    [&get[..], &LOCAL[..]].concat()
}

/// A download of which something is there, and not all.
fn halfway(place: &Place, url: &str) -> Process {
    let mut getter = place.bt("getter", &slowly(url));
    while getter.event("progress")["bytes_done"] == 0 {}
    getter
}

/// Asserts that it ends with one of these codes, and in good order.
fn assert_stopped(getter: Process, codes: &[i32]) {
    let Ended {
        code,
        stdout,
        stderr,
    } = getter.end();
    let is_expected = code.is_some_and(|code| codes.contains(&code));
    assert!(is_expected, "{code:?} {stderr}");
    assert!(stderr.contains("what was verified is kept"), "{stderr}");
    assert!(stdout.last().unwrap().contains("\"stopped\""));
}

#[test]
fn a_download_goes_on_after_sigterm_and_after_sigkill() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let first = halfway(&place, &url);
    first.signal(Signal::TERM);
    assert_stopped(first, &[143]);

    let mut second = place.bt("getter", &slowly(&url));
    let had = second.event("checked")["pieces_have"].as_u64().unwrap();
    assert!(had > 0);
    let mut done = 0;
    while done <= had * 16_384 {
        done = second.event("progress")["bytes_done"].as_u64().unwrap();
    }
    second.signal(Signal::KILL);
    assert_eq!(second.end().code, None);

    let get = [&["get", &url, "-d", "copy", "--json"], &LOCAL[..]].concat();
    let mut third = place.bt("getter", &get);
    assert!(third.event("checked")["pieces_have"].as_u64().unwrap() >= done / 16_384);
    assert_eq!(third.end().code, Some(0));
    place.assert_copied("copy");
}

#[test]
fn two_signals_in_one_moment_ask_for_a_clean_stop() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let getter = halfway(&place, &url);
    // Both are there when it goes on; which it sees first is open.
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        getter.signal(signal);
    }
    assert_stopped(getter, &[130, 143]);
}

#[test]
fn a_terminal_that_closes_ends_a_download_cleanly_unless_nohup_started_it() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let getter = halfway(&place, &url);
    // Some shells and the system say it both.
    getter.signal(Signal::HUP);
    getter.signal(Signal::HUP);
    assert_stopped(getter, &[129]);

    let mut command = std::process::Command::new("nohup");
    let get = [&["get", &url, "-d", "copy", "--json"], &LOCAL[..]].concat();
    command
        .arg(env!("CARGO_BIN_EXE_bt"))
        .args(&get)
        .args(["--down-limit", "2M"])
        .current_dir(place.path("."))
        .env("HOME", place.path("getter"))
        .env_remove("XDG_STATE_HOME");
    let mut getter = Process::spawn(command);
    assert_ne!(getter.event("checked")["pieces_have"], 0);
    getter.signal(Signal::HUP);
    assert_eq!(getter.end().code, Some(0));
    place.assert_copied("copy");
}
