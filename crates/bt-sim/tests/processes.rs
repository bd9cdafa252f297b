//! One seed is one run, in two processes too: nothing depends on addresses in memory or on the hashes of one process.
#![allow(clippy::unwrap_used, reason = "tests: a failure is to be seen")]
#![allow(clippy::disallowed_types, reason = "tests start processes")]

use std::process::Command;

fn run(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim"))
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

/// The lines that speak of a run, and not of the time it took.
fn traces(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("trace "))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn two_processes_run_a_seed_alike() {
    let arguments = ["--seed", "40", "--seeds", "6", "--verbose"];
    let (well, first) = run(&arguments);
    let (_, second) = run(&[&arguments[..], &["--threads", "1"]].concat());
    assert!(well, "{first}");
    assert_eq!(traces(&first).len(), 6);
    assert_eq!(traces(&first), traces(&second));
}

#[test]
fn what_is_asked_for_is_checked() {
    for wrong in [
        &["--seed", "x"][..],
        &["--scenario", "no"],
        &["--what", "1"],
    ] {
        assert_eq!(run(wrong), (false, String::new()), "{wrong:?}");
    }
}
