//! `docs/beps.md` names modules and tests; each name must exist, or the table is a promise nobody keeps. The bad inputs of some
//! groups have a test each that bears their number. `docs/plants.md` names the tests that find planted bugs.

use super::{Finding, Source};

/// The table of what is held, and by which test.
const TABLE: &str = "docs/beps.md";

/// The table of who finds which planted bug.
const PLANTS: &str = "docs/plants.md";

/// Columns whose backquoted words are names.
const NAMED_COLUMNS: [&str; 5] = ["module", "modules", "test", "tests", "scenario"];

/// Headings of the groups of bad inputs whose every row names a test that bears its number.
const NUMBERED: [&str; 3] = ["### C.", "### E.", "### K."];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let tables = sources
        .iter()
        .filter(|source| [TABLE, PLANTS].contains(&source.path.as_str()));
    if !tables.clone().any(|table| table.path == TABLE) {
        let what = "missing: it says which BEP is held where";
        return vec![Finding::new(TABLE, what)];
    }
    tables
        .flat_map(|table| check_table(table, sources))
        .collect()
}

fn check_table(table: &Source, sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut columns: Vec<usize> = Vec::new();
    let mut numbered = false;
    for (number, line) in (1..).zip(table.text.lines()) {
        if line.starts_with('#') {
            numbered = NUMBERED.iter().any(|heading| line.starts_with(heading));
        }
        let Some(row) = line.trim().strip_prefix('|') else {
            columns.clear();
            continue;
        };
        let cells: Vec<&str> = row
            .trim_end_matches('|')
            .split('|')
            .map(str::trim)
            .collect();
        if columns.is_empty() {
            let named = |cell: &&str| NAMED_COLUMNS.contains(&cell.to_lowercase().as_str());
            columns = (0..)
                .zip(&cells)
                .filter(|(_, cell)| named(cell))
                .map(|(i, _)| i)
                .collect();
            continue;
        }
        let named = columns.iter().filter_map(|column| cells.get(*column));
        let names: Vec<&str> = named.flat_map(|cell| ticked(cell)).collect();
        let place = format!("{}:{number}", table.path);
        for name in names.iter().filter(|name| !exists(name, sources)) {
            let what = format!("`{name}` does not exist");
            findings.push(Finding::new(place.clone(), what));
        }
        let is_rule = |cell: &&&str| cell.bytes().all(|byte| byte == b'-');
        let faults = cells.first().filter(|cell| numbered && !is_rule(cell));
        let faults = faults.into_iter();
        for fault in faults.flat_map(|cell| cell.split(',')).map(str::trim) {
            if !names.iter().any(|name| bears(name, fault)) {
                let what = format!("no test named by the number {fault}, as `fault_{fault}_…`");
                findings.push(Finding::new(place.clone(), what));
            }
        }
    }
    findings
}

/// Whether a test is called `fault_12_…` or `faults_11_12_…` for the number 12.
fn bears(name: &str, fault: &str) -> bool {
    let mut words = name.rsplit("::").next().unwrap_or(name).split('_');
    let is_fault = matches!(words.next(), Some("fault" | "faults"));
    let is_number = |word: &&str| word.bytes().all(|byte| byte.is_ascii_digit());
    is_fault && words.take_while(is_number).any(|number| number == fault)
}

/// The words between backquotes.
fn ticked(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`')
        .skip(1)
        .step_by(2)
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

/// Whether a path such as `bt-wire`, `bt-wire/handshake`, `bt_peer::choker::tests::rotates` or `rotates` names something:
/// its first segment may be a crate, each other one a folder, a file, or an item of that crate.
fn exists(name: &str, sources: &[Source]) -> bool {
    let name = name
        .trim_end_matches("()")
        .replace("::", "/")
        .replace(".rs", "");
    let mut segments = name
        .split('/')
        .filter(|segment| !matches!(*segment, "crates" | "src"))
        .peekable();
    let folder = segments
        .peek()
        .and_then(|first| crate_folder(first, sources));
    if folder.is_some() {
        segments.next();
    }
    let folder = folder.unwrap_or_default();
    let mut rest = segments.peekable();
    (!folder.is_empty() || rest.peek().is_some())
        && rest.all(|segment| {
            sources
                .iter()
                .filter(|source| source.path.ends_with(".rs") && source.path.starts_with(&folder))
                .any(|source| is_on_path(segment, &source.path) || has_item(segment, &source.text))
        })
}

fn crate_folder(name: &str, sources: &[Source]) -> Option<String> {
    let folder = match name {
        "xtask" | "tests" => format!("{name}/"),
        _ => format!("crates/{}/", name.replace('_', "-")),
    };
    sources
        .iter()
        .any(|source| source.path.starts_with(&folder))
        .then_some(folder)
}

fn is_on_path(segment: &str, path: &str) -> bool {
    path.split('/')
        .any(|part| part == segment || part.strip_suffix(".rs") == Some(segment))
}

fn has_item(name: &str, text: &str) -> bool {
    const KINDS: [&str; 8] = [
        "fn", "mod", "struct", "enum", "trait", "const", "type", "static",
    ];
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (
            text.get(..at).unwrap_or(""),
            text.get(at + name.len()..).unwrap_or(""),
        );
        let ends = !after.starts_with(|next: char| next.is_alphanumeric() || next == '_');
        ends && KINDS.iter().any(|kind| {
            before.strip_suffix(' ').is_some_and(|before| {
                before.strip_suffix(kind).is_some_and(|before| {
                    !before.ends_with(|last: char| last.is_alphanumeric() || last == '_')
                })
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_exists_if_each_of_its_parts_does() {
        let source = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let sources = [
            source(
                "crates/bt-wire/src/handshake.rs",
                "pub struct Handshake;\nfn rows_of_bep3() {}",
            ),
            source(
                "crates/bt-peer/src/picker/mod.rs",
                "#[test]\nfn rarest_comes_first() {}",
            ),
        ];
        let rows = [
            ("bt-wire", true),
            ("bt-wire/handshake", true),
            ("bt_wire::handshake::Handshake", true),
            ("crates/bt-wire/src/handshake.rs", true),
            ("rows_of_bep3", true),
            ("bt-peer/picker::rarest_comes_first", true),
            ("bt-peer/handshake", false),
            ("rows_of_bep", false),
            ("of_bep3", false),
            ("bt-none", false),
            ("bt-wire/codec", false),
        ];
        for (name, expected) in rows {
            assert_eq!(exists(name, &sources), expected, "{name}");
        }
    }

    #[test]
    fn only_the_named_columns_of_a_table_are_read() {
        let table = "`nothing`\n\n| BEP | module | departures | test |\n|--|--|--|--|\n| 3 | `bt-wire` | `none` | `lost` |\n";
        let sources = [
            Source {
                path: TABLE.to_owned(),
                text: table.to_owned(),
            },
            Source {
                path: "crates/bt-wire/src/lib.rs".to_owned(),
                text: String::new(),
            },
        ];
        let findings = check(&sources);
        assert_eq!(
            findings,
            [Finding::new("docs/beps.md:5", "`lost` does not exist")]
        );
    }

    #[test]
    fn bad_inputs_of_some_groups_have_a_test_with_their_number() {
        let table = "### B. One\n\n| number | test |\n|--|--|\n| 30 | `a` |\n\n### C. Other\n\n| number | test |\n|--|--|\n\
                     | 31, 32 | `faults_30_32_a` |\n| 33 | `fault_33_b` |\n| 3 | `fault_33_b` |\n";
        let source = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let tests = "fn a() {} fn faults_30_32_a() {} fn fault_33_b() {}";
        let sources = [source(TABLE, table), source("crates/x/src/lib.rs", tests)];
        let missing = |line, fault| {
            let what = format!("no test named by the number {fault}, as `fault_{fault}_…`");
            Finding::new(format!("{TABLE}:{line}"), what)
        };
        assert_eq!(check(&sources), [missing(11, 31), missing(13, 3)]);
    }
}
