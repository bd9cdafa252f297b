//! What all commands share: help, completions, manual pages, and an unwilling stdout.

use crate::Place;
use std::fs::File;
use std::process::Stdio;

#[test]
fn the_command_line_itself() {
    let place = Place::new();
    let rows: [(&[&str], i32); 9] = [
        (&["--help"], 0),
        (&["--version"], 0),
        (&["create", "--help"], 0),
        (&["completions", "bash"], 0),
        (&["completions", "tcsh"], 2),
        (&[], 2),
        (&["frobnicate"], 2),
        (&["show"], 2),
        (&["-q", "-v", "show", "x"], 2),
    ];
    for (arguments, code) in rows {
        let outcome = place.bt(arguments);
        assert_eq!(outcome.code, code, "{arguments:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout.is_empty(), code != 0, "{arguments:?}");
        assert_eq!(outcome.stderr.is_empty(), code == 0, "{arguments:?}");
    }
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let place = Place::new();
    assert_eq!(place.bt(&["man", "pages"]).code, 0);
    let help = place.bt(&["--help"]).stdout;
    let commands = help
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap();
    let names = commands
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<_> = names.filter(|name| *name != "help").collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        let page = place.read(&format!("pages/bt-{name}.1"));
        assert!(page.starts_with(b".ie"), "{name}");
    }
}

#[test]
fn a_closed_stdout_is_no_error_and_a_full_one_is() {
    // FAULTS 155.
    let place = Place::with_torrent();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.command(&["show", "data.torrent"]);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");

    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut command = place.command(&["show", "data.torrent"]);
    assert_eq!(
        command
            .stdout(full)
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .code(),
        Some(6)
    );
}
