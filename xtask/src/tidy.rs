//! The rules that no compiler knows. Each rule is a function from what the repository holds to a list of findings.

mod arrows;
mod names;
mod sources;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand};

use crate::programs;

/// One broken rule: where, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// File, with `:line` where there is one, or crate.
    place: String,
    /// What is wrong there.
    what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

/// A file that git tracks.
pub(crate) struct Source {
    /// Path from the root, with `/`.
    path: String,
    text: String,
}

/// Checks every rule and prints what is broken.
pub(crate) fn run() -> Result<()> {
    let metadata = MetadataCommand::new().exec().context("cargo metadata")?;
    let sources = tracked_sources(&metadata)?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(&metadata, &sources));
    findings.extend(sources::check(&sources));
    findings.extend(names::check(&sources));
    let root = metadata.workspace_root.as_std_path();
    for (file, name, count) in crate::sim::missing(root) {
        let what = format!(
            "the text of the planted bug {name:?} stands here {count} times, not once: change xtask/src/sim/plants.rs"
        );
        findings.push(Finding::new(file, what));
    }
    findings.sort();
    for Finding { place, what } in &findings {
        println!("{place}: {what}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", sources.len());
        return Ok(());
    }
    bail!("tidy: {} findings", findings.len())
}

/// Every file git tracks or would track, as text; what is not UTF-8 (test data) is no source.
fn tracked_sources(metadata: &Metadata) -> Result<Vec<Source>> {
    let root = metadata.workspace_root.as_std_path();
    let mut sources = Vec::new();
    for path in programs::tracked_files(root)? {
        // A file deleted but not yet committed is listed too.
        let Ok(bytes) = std::fs::read(root.join(&path)) else {
            continue;
        };
        if let Ok(text) = String::from_utf8(bytes) {
            sources.push(Source { path, text });
        }
    }
    Ok(sources)
}
