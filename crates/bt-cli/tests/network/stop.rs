//! Signals in the middle of a download.

use super::process::{Ended, PATIENCE, Process};
use super::{LOCAL, Place};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;
use std::time::Instant;

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

#[test]
fn bars_on_a_terminal_that_has_gone_end_nothing_uncleanly() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    // The program must not hold the other end of its own terminal.
    fcntl_setfd(&terminal, FdFlags::CLOEXEC).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let shown = File::options().write(true).open(name.to_str().unwrap());
    let get = ["get", &url, "-d", "copy", "--down-limit", "500K"];
    let get = [&get[..], &LOCAL[..]].concat();
    let mut command = Process::command(&place.path("."), &place.path("getter"), &get);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut getter = command.stderr(shown.unwrap()).spawn().unwrap();
    // Only the program holds the other end now: if it ends, so does what can be read.
    drop(command);
    let mut terminal = File::from(terminal);
    let mut seen = Vec::new();
    while !seen.contains(&b'%') {
        let mut some = [0; 512];
        let length = terminal.read(&mut some).unwrap();
        seen.extend_from_slice(&some[..length]);
    }
    drop(terminal);
    kill_process(Pid::from_child(&getter), Signal::HUP).unwrap();
    assert_eq!(getter.wait().unwrap().code(), Some(129));
}

/// Both ends of a pipe into which nothing fits any more.
fn full_pipe() -> (File, File) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let length = fcntl_getpipe_size(&writer).unwrap();
    let mut writer = File::from(writer);
    writer.write_all(&vec![b'\n'; length]).unwrap();
    (File::from(reader), writer)
}

/// Returns once the tracker's numbers are these.
fn await_scrape(place: &Place, url: &str, expected: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let scraped = place.bt("asker", &["scrape", url, "--json"]).end();
        if scraped.stdout[0].contains(expected) {
            break;
        }
        assert!(Instant::now() < until, "{:?}", scraped.stdout);
    }
}

#[test]
fn who_does_not_read_stderr_holds_nothing_up() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    for (who, copy, is_read_later) in [("first", "copy", false), ("second", "copy-2", true)] {
        // All that can be said, from the start on.
        let get = ["-vvv", "get", &url, "-d", copy, "--seed", "--json"];
        let get = [&get[..], &LOCAL[..]].concat();
        let (mut reader, writer) = full_pipe();
        let mut command = Process::command(&place.path("."), &place.path(who), &get);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let getter = command.stderr(writer).spawn().unwrap();
        drop(command);
        await_scrape(&place, &url, "\"complete\":2,\"incomplete\":0");
        kill_process(Pid::from_child(&getter), Signal::TERM).unwrap();
        let mut said = String::new();
        if is_read_later {
            reader.read_to_string(&mut said).unwrap();
        }
        let ended = getter.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert_eq!(said.contains("DEBUG"), is_read_later, "{said}");
        place.assert_copied(copy);
    }
}

#[test]
fn who_does_not_read_stdout_holds_nothing_up() {
    let place = Place::new();
    let (_publisher, url) = place.publish();
    let peers = |expected: &str| await_scrape(&place, &url, expected);
    for (who, copy, is_read_later) in [("first", "copy", false), ("second", "copy-2", true)] {
        let get = ["get", &url, "-d", copy, "--seed", "--json"];
        let get = [&get[..], &LOCAL[..]].concat();
        let (mut reader, writer) = full_pipe();
        let mut command = Process::command(&place.path("."), &place.path(who), &get);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let getter = command.stdout(writer).spawn().unwrap();
        // Only the program holds the other end now: if it ends, so does what can be read.
        drop(command);
        peers("\"complete\":2,\"incomplete\":0");
        kill_process(Pid::from_child(&getter), Signal::TERM).unwrap();
        let mut said = String::new();
        if is_read_later {
            reader.read_to_string(&mut said).unwrap();
        }
        peers("\"complete\":1,\"incomplete\":0");
        let ended = getter.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        let stderr = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(
            stderr.contains("nobody reads stdout"),
            !is_read_later,
            "{stderr}"
        );
        let events = said.lines().filter(|line| !line.is_empty());
        let events: Vec<Value> = events
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let names = events.iter().map(|event| event["event"].as_str().unwrap());
        let whenever = ["tracker", "peer", "progress"];
        let names: Vec<&str> = names.filter(|name| !whenever.contains(name)).collect();
        if is_read_later {
            let expected = ["listening", "metadata", "checked", "complete", "stopped"];
            assert_eq!(names, expected);
        }
        place.assert_copied(copy);
    }
}
