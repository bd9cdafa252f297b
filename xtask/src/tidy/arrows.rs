//! Which crate may use which: the arrows of `docs/ARCHITECTURE.md`, and no runtime below the purity line.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, PackageId};

use super::{Finding, Source};

/// Crates that decide: they must not even be able to reach a clock or a socket through somebody else.
const PURE: [&str; 8] = [
    "bt-core",
    "bt-bencode",
    "bt-metainfo",
    "bt-wire",
    "bt-tracker",
    "bt-dht",
    "bt-peer",
    "bt-sim",
];

/// What a pure crate must not reach: runtimes, and what opens sockets.
const IMPURE: [&str; 7] = [
    "tokio",
    "hyper",
    "hyper-util",
    "mio",
    "socket2",
    "reqwest",
    "async-std",
];

/// Where the arrows are written down.
const ARROWS: &str = "docs/ARCHITECTURE.md";

pub(super) fn check(metadata: &Metadata, sources: &[Source]) -> Vec<Finding> {
    let members: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let Some(document) = sources.iter().find(|source| source.path == ARROWS) else {
        return vec![Finding::new(
            ARROWS,
            "missing: it says which crate may use which",
        )];
    };
    let allowed = parse_arrows(&document.text, &members);
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        for dependency in &package.dependencies {
            let edge = (package.name.to_string(), dependency.name.clone());
            if members.contains(dependency.name.as_str()) && !allowed.contains(&edge) {
                let what = format!("uses {}, but {ARROWS} has no such arrow", dependency.name);
                findings.push(Finding::new(edge.0, what));
            }
        }
    }
    findings.extend(impure_paths(metadata));
    findings
}

/// Every edge the arrow lines allow: `a, b → c, d`, several to a line with two or more blanks between them, and
/// `all but x and y → z`.
fn parse_arrows(document: &str, members: &BTreeSet<&str>) -> BTreeSet<(String, String)> {
    let mut edges = BTreeSet::new();
    let mut fenced = false;
    for line in document.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if !fenced {
            continue;
        }
        for arrow in line.split("  ").filter(|part| part.contains('→')) {
            let Some((from, to)) = arrow.split_once('→') else {
                continue;
            };
            for from in users(from, members) {
                for to in to.split(',') {
                    edges.insert((from.clone(), to.trim().to_owned()));
                }
            }
        }
    }
    edges
}

fn users(text: &str, members: &BTreeSet<&str>) -> Vec<String> {
    let text = text.trim();
    let Some(exceptions) = text.strip_prefix("all but ") else {
        return text.split(',').map(|name| name.trim().to_owned()).collect();
    };
    let exceptions: Vec<&str> = exceptions.split(" and ").map(str::trim).collect();
    members
        .iter()
        .filter(|member| !exceptions.contains(member))
        .map(|member| (*member).to_owned())
        .collect()
}

/// Pure crates that reach an impure one through ordinary dependencies, with the way they reach it.
fn impure_paths(metadata: &Metadata) -> Vec<Finding> {
    let Some(resolve) = &metadata.resolve else {
        return vec![Finding::new("Cargo.lock", "cargo resolved nothing")];
    };
    let names: BTreeMap<&PackageId, &str> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.as_str()))
        .collect();
    let uses: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node.deps.iter().filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind == DependencyKind::Normal)
            });
            (&node.id, normal.map(|dep| &dep.pkg).collect())
        })
        .collect();
    let mut findings = Vec::new();
    for package in metadata.workspace_packages() {
        if PURE.contains(&package.name.as_str())
            && let Some(path) = path_to_impure(&package.id, &uses, &names)
        {
            findings.push(Finding::new(
                package.name.to_string(),
                format!(
                    "is pure but reaches a runtime or socket: {}",
                    path.join(" → ")
                ),
            ));
        }
    }
    findings
}

/// Breadth first, so that the way shown is a shortest one.
fn path_to_impure<'a>(
    start: &'a PackageId,
    uses: &BTreeMap<&'a PackageId, Vec<&'a PackageId>>,
    names: &BTreeMap<&'a PackageId, &'a str>,
) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&PackageId, &PackageId> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        if at != start && names.get(at).is_some_and(|name| IMPURE.contains(name)) {
            let mut path = vec![at];
            while let Some(before) = path.last().and_then(|last| came_from.get(last)) {
                path.push(before);
            }
            return Some(
                path.iter()
                    .rev()
                    .filter_map(|id| names.get(id).copied())
                    .collect(),
            );
        }
        for next in uses.get(at).into_iter().flatten() {
            if *next != start && !came_from.contains_key(next) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_are_read_from_fenced_lines_only() {
        let document = "An arrow `a → b` is no edge here.\n```\na → b, c     b → c\nall but c and a → d\n```\n";
        let members = BTreeSet::from(["a", "b", "c", "e"]);
        let edges = parse_arrows(document, &members);
        let expected = [("a", "b"), ("a", "c"), ("b", "c"), ("b", "d"), ("e", "d")];
        let expected: BTreeSet<_> = expected
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect();
        assert_eq!(edges, expected);
    }

    #[test]
    fn the_shortest_way_to_a_runtime_is_named() {
        let ids: Vec<PackageId> = ["pure", "a", "b", "tokio"]
            .iter()
            .map(|name| PackageId {
                repr: (*name).to_owned(),
            })
            .collect();
        let [pure, a, b, tokio] = ids.as_slice() else {
            panic!("four ids")
        };
        let names = ids.iter().map(|id| (id, id.repr.as_str())).collect();
        let mut uses = BTreeMap::from([(pure, vec![a, b]), (a, vec![b]), (b, vec![pure])]);
        assert_eq!(path_to_impure(pure, &uses, &names), None);
        uses.insert(b, vec![pure, tokio]);
        assert_eq!(
            path_to_impure(pure, &uses, &names),
            Some(vec!["pure", "b", "tokio"])
        );
    }
}
