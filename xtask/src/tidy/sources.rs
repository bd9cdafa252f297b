//! Rules that look at one file at a time: length, module documents, lints, ignored tests, and what no tracked file may say.

use super::{Finding, Source};

/// A longer file holds more than one idea.
const FILE_LINES_MAX: usize = 800;

/// A test that does not run proves nothing.
const IGNORED_TEST: &str = concat!("#[", "ignore");

/// Words that mean something only on the machine or in the papers the code was written with. Each is put together here so
/// that this file passes its own rule.
const PRIVATE_WORDS: [&str; 9] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("../sha", "red"),
    concat!("STY", "LE.md"),
    concat!("SEE", "DS.md"),
    concat!("SEE", "DS §"),
    concat!("FAU", "LTS.md"),
    concat!("FEAT", "URES.md"),
    concat!("CL", "I.md"),
];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Source { path, text } in sources {
        if path.ends_with(".rs") {
            findings.extend(rust_rules(path, text));
        }
        if path.ends_with("Cargo.toml") && is_member(path) && !takes_workspace_lints(text) {
            findings.push(Finding::new(path, "lacks `[lints] workspace = true`"));
        }
        findings.extend(private_words(path, text));
    }
    findings
}

fn rust_rules(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines, more than {FILE_LINES_MAX}: split it");
        findings.push(Finding::new(path, what));
    }
    if !is_tests_of_a_module(path) && !opens_with_document(text) {
        findings.push(Finding::new(
            path,
            "does not open with `//!`: say what the module owns",
        ));
    }
    for (number, line) in (1..).zip(text.lines()) {
        if line.contains(IGNORED_TEST) {
            let what = format!("{IGNORED_TEST}]: a test runs or goes");
            findings.push(Finding::new(format!("{path}:{number}"), what));
        }
    }
    findings
}

/// Such a file belongs to the module it tests, whose document says what that owns.
fn is_tests_of_a_module(path: &str) -> bool {
    let below = path.split("/src/").nth(1).unwrap_or_default();
    below
        .split('/')
        .any(|part| part == "tests" || part == "tests.rs")
}

/// Attributes of the whole file (as `#![no_main]`) may stand before its document.
fn opens_with_document(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!["))
        .is_some_and(|line| line.starts_with("//!"))
}

fn is_member(path: &str) -> bool {
    path.starts_with("crates/") || path == "xtask/Cargo.toml" || path == "tests/Cargo.toml"
}

fn takes_workspace_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim);
    lines.any(|line| line == "[lints]")
        && lines
            .take_while(|line| !line.starts_with('['))
            .any(|line| line == "workspace = true")
}

fn private_words(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in PRIVATE_WORDS.iter().filter(|word| line.contains(**word)) {
            let what = format!("`{word}` means nothing to a reader of this repository");
            findings.push(Finding::new(format!("{path}:{number}"), what));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(path: &str, text: &str) -> Vec<String> {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check(&[source])
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn every_rule_finds_its_fault_and_nothing_else() {
        let long = format!("//! m\n{}", "\n".repeat(FILE_LINES_MAX));
        let ignored = format!("//! m\n{IGNORED_TEST}]\nfn x() {{}}\n");
        let path = format!("//! m\n// see {}x\n", PRIVATE_WORDS[0]);
        let rows: [(&str, &str, Option<&str>); 14] = [
            ("a/lib.rs", "//! m\nfn x() {}\n", None),
            ("a/lib.rs", "#![no_main]\n\n//! m\n", None),
            ("a/lib.rs", "// m\nfn x() {}\n", Some("does not open")),
            ("a/lib.rs", "", Some("does not open")),
            ("a/src/x/tests.rs", "use super::*;\n", None),
            ("a/src/tests/x.rs", "use super::*;\n", None),
            ("a/tests/x.rs", "fn x() {}\n", Some("does not open")),
            ("a/lib.rs", &long, Some("801 lines")),
            ("a/lib.rs", &ignored, Some("a test runs or goes")),
            ("a/lib.rs", &path, Some("means nothing")),
            ("README.md", &path, Some("means nothing")),
            ("crates/a/Cargo.toml", "[lints]\nworkspace = true\n", None),
            (
                "crates/a/Cargo.toml",
                "[lints]\n[x]\nworkspace = true\n",
                Some("lacks"),
            ),
            ("tests/fuzz/Cargo.toml", "[workspace]\n", None),
        ];
        for (path, text, expected) in rows {
            let found = check_one(path, text);
            assert_eq!(
                found.len(),
                usize::from(expected.is_some()),
                "{path} {text:?}: {found:?}"
            );
            if let (Some(found), Some(expected)) = (found.first(), expected) {
                assert!(found.contains(expected), "{found}");
            }
        }
    }
}
