//! Bugs to plant: small changes of the engine that a test or the simulation must find.
//!
//! **Invariant:** each text stands in its file exactly once. `cargo xtask tidy` looks, so that a change of the sources
//! takes its plants along: give the plant the new text, or another bug of the same kind.

mod list;

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};

use list::PLANTS;

/// A bug.
pub(super) struct Plant {
    pub(super) name: &'static str,
    /// The file, from the root.
    file: &'static str,
    /// What stands there: statements, which end with `;`, or an expression. Where only a part of the text is to be
    /// replaced, as the part alone stands there more than once, that is between `«` and `»`.
    old: &'static str,
    new: &'static str,
    /// It is no code that a run could choose, and has to be built by itself.
    pub(super) alone: bool,
}

impl Plant {
    /// The crate that it is a bug of.
    pub(super) fn package(&self) -> Result<&'static str> {
        let folder = self.file.split('/').nth(1);
        folder.context("a plant's file lies in a crate")
    }

    /// Before what is replaced, that, and behind it.
    fn parts(&self) -> (&'static str, &'static str, &'static str) {
        let marked = |text: &'static str| {
            let (before, rest) = text.split_once('«')?;
            let (old, after) = rest.split_once('»')?;
            Some((before, old, after))
        };
        marked(self.old).unwrap_or(("", self.old, ""))
    }

    /// The whole text that has to stand in the file.
    fn text(&self) -> String {
        let (before, old, after) = self.parts();
        [before, old, after].concat()
    }

    /// What is replaced in the file's text.
    fn site(&self, text: &str) -> Option<Range<usize>> {
        let (before, old, _) = self.parts();
        let start = text.find(&self.text())? + before.len();
        Some(start..start + old.len())
    }
}

/// All plants; one's place in the list is its number.
pub(super) fn all() -> impl Iterator<Item = &'static Plant> {
    PLANTS.iter()
}

/// The plants whose texts do not stand once in their files, with how often they do.
pub(crate) fn missing(root: &Path) -> Vec<(&'static str, &'static str, usize)> {
    let count = |plant: &Plant| {
        let text = std::fs::read_to_string(root.join(plant.file)).unwrap_or_default();
        text.matches(&plant.text()).count()
    };
    let counted = PLANTS
        .iter()
        .map(|plant| (plant.file, plant.name, count(plant)));
    counted.filter(|(_, _, count)| *count != 1).collect()
}

/// The file's text with its bugs: each behind the question whether it is planted in this run, or the one that is built alone.
pub(super) fn graft(file: &str, text: String, alone: Option<&Plant>) -> String {
    let here = (0..).zip(PLANTS).filter(|(_, plant)| plant.file == file);
    grafted(file, text, here, alone)
}

fn grafted<'a>(
    file: &str,
    mut text: String,
    plants: impl Iterator<Item = (usize, &'a Plant)>,
    alone: Option<&Plant>,
) -> String {
    if let Some(plant) = alone {
        let site = plant.site(&text).filter(|_| plant.file == file);
        if let Some(site) = site {
            text.replace_range(site, plant.new);
        }
        return text;
    }
    let sites = plants.filter(|(_, plant)| !plant.alone);
    let sites = sites.filter_map(|(number, plant)| Some((plant.site(&text)?.start, number, plant)));
    let mut sites: Vec<_> = sites.collect();
    // From the end, so that the places of the others stay what they are.
    sites.sort_by_key(|(start, _, _)| std::cmp::Reverse(*start));
    for (start, number, plant) in sites {
        let (_, old, _) = plant.parts();
        text.replace_range(start..start + old.len(), &question(plant, number));
    }
    text
}

/// Both ways, and the question between them.
fn question(plant: &Plant, number: usize) -> String {
    let (_, old, _) = plant.parts();
    let core = if plant.file.starts_with("crates/bt-core/") {
        "crate"
    } else {
        "bt_core"
    };
    let new = plant.new;
    let either = format!("if {core}::planted({number}) {{ {new} }} else {{ {old} }}");
    if old.ends_with(';') {
        return either;
    }
    format!("({either})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn plant(file: &'static str, old: &'static str, new: &'static str) -> Plant {
        Plant {
            name: "a bug",
            file,
            old,
            new,
            alone: false,
        }
    }

    #[test]
    fn bugs_stand_behind_questions() {
        let plants = [
            plant("crates/bt-peer/src/a.rs", "x > 1", "x > 2"),
            plant("crates/bt-peer/src/a.rs", "if b {\n «c();»", ""),
        ];
        let text = "c(); if x > 1 && y {} if b {\n c();}";
        let expected = "c(); if (if bt_core::planted(0) { x > 2 } else { x > 1 }) && y {} \
                        if b {\n if bt_core::planted(1) {  } else { c(); }}";
        let all = || (0..).zip(&plants);
        assert_eq!(
            grafted("crates/bt-peer/src/a.rs", text.to_owned(), all(), None),
            expected
        );
        let [first, _] = &plants;
        let alone = grafted(
            "crates/bt-peer/src/a.rs",
            text.to_owned(),
            all(),
            Some(first),
        );
        assert_eq!(alone, text.replace("x > 1", "x > 2"));
        let other = grafted(
            "crates/bt-peer/src/b.rs",
            text.to_owned(),
            all(),
            Some(first),
        );
        assert_eq!(other, text);
    }

    #[test]
    fn names_are_given_once_and_no_two_bugs_share_a_place() {
        let root = crate::programs::workspace_root().expect("the workspace");
        for (number, plant) in (0..).zip(PLANTS) {
            let text = std::fs::read_to_string(root.join(plant.file)).expect("a file of ours");
            let site = plant.site(&text).expect("it stands there");
            for other in PLANTS.iter().skip(number + 1) {
                assert_ne!(plant.name, other.name);
                let apart = other.file != plant.file
                    || other
                        .site(&text)
                        .is_none_or(|other| other.end <= site.start || site.end <= other.start);
                assert!(apart, "{} and {}", plant.name, other.name);
            }
        }
    }
}
