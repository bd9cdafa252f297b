//! Signals in the middle of a download.

use super::process::Process;
use super::{LOCAL, Place};
use rustix::process::Signal;

#[test]
fn a_download_goes_on_after_sigterm_and_after_sigkill() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let limit = ["--down-limit", "500K", "--json"];
    let get = [&["get", &url, "-d", "copy"], &LOCAL[..], &limit[..]].concat();
    let mut first = place.bt("getter", &get);
    while first.event("progress")["bytes_done"] == 0 {}
    first.signal(Signal::TERM);
    let ended = first.end();
    assert_eq!(ended.code, Some(143), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("what was verified is kept"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.last().unwrap().contains("\"stopped\""));

    let mut second = place.bt("getter", &get);
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
    let limit = ["--down-limit", "500K", "--json"];
    let get = [&["get", &url, "-d", "copy"], &LOCAL[..], &limit[..]].concat();
    let mut getter = place.bt("getter", &get);
    while getter.event("progress")["bytes_done"] == 0 {}
    // Both are there when it goes on; which it sees first is open.
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        getter.signal(signal);
    }
    let ended = getter.end();
    assert!(
        matches!(ended.code, Some(130 | 143)),
        "{:?} {}",
        ended.code,
        ended.stderr
    );
    assert!(ended.stdout.last().unwrap().contains("\"stopped\""));
}

#[test]
fn a_terminal_that_closes_ends_a_download_cleanly_unless_nohup_started_it() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let limit = ["--down-limit", "500K", "--json"];
    let get = [&["get", &url, "-d", "copy"], &LOCAL[..], &limit[..]].concat();
    let mut getter = place.bt("getter", &get);
    while getter.event("progress")["bytes_done"] == 0 {}
    // Some shells and the system say it both.
    getter.signal(Signal::HUP);
    getter.signal(Signal::HUP);
    let ended = getter.end();
    assert_eq!(ended.code, Some(129), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("what was verified is kept"),
        "{}",
        ended.stderr
    );
    assert!(ended.stdout.last().unwrap().contains("\"stopped\""));

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
