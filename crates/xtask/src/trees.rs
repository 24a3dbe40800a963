//! Who enables one transport, or two, gets no other transport's dependencies.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use crate::Failure;

/// The transports: each a feature of the facade, and the suffix of its adapter's crate.
pub(crate) const TRANSPORTS: [&str; 6] = ["ws", "sse", "longpoll", "http-poll", "grpc-stream", "webhook"];

/// The sides that a transport is built for.
pub(crate) const SIDES: [&str; 3] = ["client", "server", "client,server"];

/// What makes a transport heavier than the rest: it comes with its transport, and never without.
const HALLMARKS: [(&str, &str); 7] = [
    ("ws", "tungstenite"),
    ("ws", "flate2"),
    ("sse", "sse-stream"),
    ("grpc-stream", "tonic"),
    ("grpc-stream", "tower"),
    ("webhook", "hmac"),
    ("webhook", "sha2"),
];

/// What several transports have need of. All else belongs to one.
const SHARED: [(&[&str], &[&str]); 2] = [
    // A handshake is hashed by SHA-1, a webhook signed by SHA-256.
    (
        &["ws", "webhook"],
        &["block-buffer", "const-oid", "cpufeatures", "crypto-common", "digest", "hybrid-array", "typenum"],
    ),
    // Both speak protobuf.
    (&["ws", "grpc-stream"], &["anyhow", "either", "itertools", "prost", "prost-derive"]),
];

/// The packages of a build, each with its version.
type Tree = BTreeMap<String, String>;

/// The packages that come with each transport alone.
type Own<'a> = BTreeMap<&'a str, BTreeSet<String>>;

/// Transports that were asked for, what they bring, and something in it that ought not to be.
type Found = (Vec<&'static str>, Tree, Offence);

/// A package that ought not to be in a build, and whose it is.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    package: String,
    owners: Vec<String>,
}

/// Looks through the trees of every one and every two transports, for each side.
pub(crate) fn check() -> Result<(), Failure> {
    // What core, HTTP and the broker need for both sides belongs to nobody, whichever side is built.
    let base = tree("client,server", &[])?;
    let mut told = astray(&own("client,server", &base)?, &base);
    let mut doubtful = Vec::new();
    for side in SIDES {
        let own = own(side, &base)?;
        for (asked, tree, offence) in offences(side, &base, &own)? {
            let wrong = if rightful(&offence.package).is_some() { &mut told } else { &mut doubtful };
            wrong.push(tell(side, &asked, &tree, &offence)?);
        }
    }
    // Whose these are is not certain; they may only follow from the others.
    if told.is_empty() {
        told = doubtful;
    }
    match told.is_empty() {
        true => {
            eprintln!("trees: {} sets of transports bring nothing of any other", SIDES.len() * sets().len());
            Ok(())
        }
        false => Err(format!("dependencies of other transports:\n{}", told.join("\n"))),
    }
}

/// Each offence in the smallest set that shows it.
fn offences(side: &str, base: &Tree, own: &Own<'_>) -> Result<Vec<Found>, Failure> {
    let (mut offences, mut known) = (Vec::new(), BTreeSet::new());
    for asked in sets() {
        let tree = tree(side, &asked)?;
        for offence in offending(&asked, &tree, base, own) {
            if known.insert(offence.package.clone()) {
                offences.push((asked.clone(), tree.clone(), offence));
            }
        }
    }
    Ok(offences)
}

/// Every one and every two transports.
fn sets() -> Vec<Vec<&'static str>> {
    let ones = TRANSPORTS.iter().map(|one| vec![*one]);
    let twos = TRANSPORTS.iter().enumerate().flat_map(|(at, one)| {
        let others = &TRANSPORTS[at + 1..];
        others.iter().map(move |other| vec![*one, *other])
    });
    ones.chain(twos).collect()
}

fn tree(side: &str, asked: &[&str]) -> Result<Tree, Failure> {
    Ok(packages(&cargo_tree(side, asked, &["--prefix", "none"])?))
}

fn cargo_tree(side: &str, asked: &[&str], more: &[&str]) -> Result<String, Failure> {
    let features = [&[side], asked].concat().join(",");
    let mut cargo = Command::new("cargo");
    cargo.args(["tree", "--locked", "--package", "pushpull", "--edges", "normal,build"]);
    cargo.args(["--no-default-features", "--features", &features]).args(more);
    let output = cargo.output().map_err(|error| format!("{cargo:?}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{cargo:?} failed:\n{}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// What `cargo tree` printed, a package a line: `name v1.2.3 (where from)`.
fn packages(printed: &str) -> Tree {
    let package = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    };
    printed.lines().filter_map(package).collect()
}

fn own(side: &str, base: &Tree) -> Result<Own<'static>, Failure> {
    let own = |transport: &'static str| {
        let mut alone = tree(side, &[transport])?;
        alone.retain(|package, _| !base.contains_key(package));
        Ok((transport, alone.into_keys().collect()))
    };
    TRANSPORTS.into_iter().map(own).collect()
}

/// Adapters and hallmarks that come without their transport, and hallmarks that no longer come with it.
fn astray(own: &Own<'_>, base: &Tree) -> Vec<String> {
    let adapters = TRANSPORTS.map(|transport| (transport, format!("pushpull-{transport}")));
    let hallmarks = HALLMARKS.map(|(transport, package)| (transport, package.to_owned()));
    let told = |(transport, package): (&str, String)| match base.contains_key(&package) {
        true => format!("{package}, which belongs to {transport}, comes without any transport"),
        false => format!("{package} no longer comes with {transport}: this check is to be mended"),
    };
    let all = adapters.into_iter().chain(hallmarks);
    all.filter(|(transport, package)| !own[transport].contains(package)).map(told).collect()
}

/// What is in `tree` though it belongs to others.
fn offending(asked: &[&str], tree: &Tree, base: &Tree, own: &Own<'_>) -> Vec<Offence> {
    let new = tree.keys().filter(|package| !base.contains_key(*package));
    new.filter_map(|package| judge(asked, package, own)).collect()
}

fn judge(asked: &[&str], package: &str, own: &Own<'_>) -> Option<Offence> {
    let owners = own.iter().filter(|(_, theirs)| theirs.contains(package)).map(|(owner, _)| *owner);
    let (mine, mut others): (Vec<_>, Vec<_>) = owners.partition(|owner| asked.contains(owner));
    let mut is_offence = mine.is_empty() || !others.is_empty();
    if let Some(owner) = rightful(package) {
        is_offence = !asked.contains(&owner);
        others = vec![owner];
    }
    let may = mine.iter().any(|mine| others.iter().all(|other| may_share(mine, other, package)));
    let owners = others.into_iter().map(str::to_owned).collect();
    (is_offence && !may).then(|| Offence { package: package.to_owned(), owners })
}

/// Whose `package` is beyond doubt.
fn rightful(package: &str) -> Option<&'static str> {
    let adapter = package.strip_prefix("pushpull-");
    let adapter = TRANSPORTS.into_iter().find(|transport| Some(*transport) == adapter);
    let hallmark = || HALLMARKS.iter().find(|(_, hallmark)| *hallmark == package);
    adapter.or_else(|| hallmark().map(|(transport, _)| *transport))
}

fn may_share(one: &str, other: &str, package: &str) -> bool {
    let is_theirs = |(sharers, packages): &(&[&str], &[&str])| {
        sharers.contains(&one) && sharers.contains(&other) && packages.contains(&package)
    };
    SHARED.iter().any(is_theirs)
}

/// The offence, and how the package comes into the build.
fn tell(side: &str, asked: &[&str], tree: &Tree, offence: &Offence) -> Result<String, Failure> {
    let Offence { package, owners } = offence;
    let whose = match owners.is_empty() {
        true => "which neither brings alone".to_owned(),
        false => format!("which comes with {}", owners.join(" and with ")),
    };
    let exactly = format!("{package}@{}", tree[package]);
    let path = cargo_tree(side, asked, &["--invert", &exactly])?;
    Ok(format!("{} with {side} brings {package}, {whose}:\n{path}", asked.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_of(packages: &[&str]) -> Tree {
        packages.iter().map(|package| ((*package).to_owned(), "1.0.0".to_owned())).collect()
    }

    fn own_of(own: &[(&'static str, &[&str])]) -> Own<'static> {
        own.iter()
            .map(|(transport, packages)| (*transport, tree_of(packages).into_keys().collect()))
            .collect()
    }

    fn found(asked: &[&str], packages: &[&str], own: &Own<'_>) -> Vec<(String, Vec<String>)> {
        let offences = offending(asked, &tree_of(packages), &tree_of(&["bytes"]), own);
        offences.into_iter().map(|offence| (offence.package, offence.owners)).collect()
    }

    #[test]
    fn packages_are_read_as_cargo_prints_them() {
        let printed = "pushpull v0.1.0 (/somewhere)\nbytes v1.12.0\nserde_derive v1.0.2 (proc-macro)\nbytes v1.12.0 (*)\n\n";
        let expected = [("bytes", "1.12.0"), ("pushpull", "0.1.0"), ("serde_derive", "1.0.2")];
        let packages = packages(printed);
        assert_eq!(
            packages.iter().map(|(name, version)| (&**name, &**version)).collect::<Vec<_>>(),
            expected
        );
    }

    #[test]
    fn every_one_and_every_two_are_looked_at() {
        let sets = sets();
        assert_eq!((sets.len(), sets.iter().collect::<BTreeSet<_>>().len()), (21, 21));
        assert!(sets.contains(&vec!["sse"]) && sets.contains(&vec!["ws", "webhook"]));
    }

    #[test]
    fn a_dependency_of_another_transport_is_found_with_its_owner() {
        let own = own_of(&[
            ("ws", &["tungstenite", "sha1", "digest"]),
            ("sse", &["tungstenite", "sha1"]),
            ("webhook", &["digest"]),
        ]);
        let offence = |package: &str, owner: &str| (package.to_owned(), vec![owner.to_owned()]);
        assert_eq!(found(&["sse"], &["bytes", "tungstenite"], &own), [offence("tungstenite", "ws")]);
        assert_eq!(found(&["sse"], &["bytes", "sha1"], &own), [offence("sha1", "ws")]);
        assert_eq!(found(&["ws"], &["bytes", "tungstenite", "digest"], &own), []);
        assert_eq!(found(&["webhook"], &["digest"], &own), [], "these two may share it");
        assert_eq!(found(&["longpoll", "webhook"], &["sha1"], &own).len(), 1);
    }

    #[test]
    fn an_adapter_that_was_not_asked_for_is_found() {
        let own = own_of(&[("sse", &["pushpull-sse"]), ("longpoll", &["pushpull-sse", "pushpull-longpoll"])]);
        let expected = ("pushpull-sse".to_owned(), vec!["sse".to_owned()]);
        assert_eq!(found(&["longpoll"], &["pushpull-sse", "pushpull-longpoll"], &own), [expected]);
        assert_eq!(found(&["sse"], &["pushpull-sse"], &own), []);
    }

    #[test]
    fn what_only_two_together_bring_is_found() {
        let own = own_of(&[("sse", &["pushpull-sse"]), ("longpoll", &["pushpull-longpoll"])]);
        assert_eq!(found(&["sse", "longpoll"], &["odd"], &own), [("odd".to_owned(), vec![])]);
    }

    #[test]
    fn a_hallmark_that_everybody_gets_is_found() {
        let adapters = TRANSPORTS.map(|transport| format!("pushpull-{transport}"));
        let hallmarks = HALLMARKS.map(|(_, package)| package);
        let all: Vec<_> = adapters.iter().map(String::as_str).chain(hallmarks).collect();
        let mut own = own_of(&TRANSPORTS.map(|transport| (transport, &*all)));
        assert_eq!(astray(&own, &tree_of(&["bytes"])), Vec::<String>::new());
        own.get_mut("grpc-stream").unwrap().remove("tonic");
        own.get_mut("sse").unwrap().remove("pushpull-sse");
        let expected = [
            "pushpull-sse, which belongs to sse, comes without any transport",
            "tonic no longer comes with grpc-stream: this check is to be mended",
        ];
        assert_eq!(astray(&own, &tree_of(&["pushpull-sse"])), expected);
    }
}
