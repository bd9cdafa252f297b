//! `docs/beps.md` names modules and tests; each name must exist, or the table is a promise nobody keeps.

use super::{Finding, Source};

/// The table of what is held, and by which test.
const TABLE: &str = "docs/beps.md";

/// Columns whose backquoted words are names.
const NAMED_COLUMNS: [&str; 4] = ["module", "modules", "test", "tests"];

pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(table) = sources.iter().find(|source| source.path == TABLE) else {
        return vec![Finding::new(
            TABLE,
            "missing: it says which BEP is held where",
        )];
    };
    let mut findings = Vec::new();
    let mut columns: Vec<usize> = Vec::new();
    for (number, line) in (1..).zip(table.text.lines()) {
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
        for name in columns
            .iter()
            .filter_map(|column| cells.get(*column))
            .flat_map(|cell| ticked(cell))
        {
            if !exists(name, sources) {
                let what = format!("`{name}` does not exist");
                findings.push(Finding::new(format!("{TABLE}:{number}"), what));
            }
        }
    }
    findings
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
}
