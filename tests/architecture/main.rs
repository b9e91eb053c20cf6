//! The architecture, held by tests: who may import whom (`layers`), that no files import each other in a circle, that each
//! file says what lives in it, and that none grows beyond what one reads at a sitting.
//!
//! No rights, no namespaces, no programs: only the sources are read. ARCHITECTURE.md shows the same table for people.

#![allow(clippy::unwrap_used, reason = "a source that cannot be read is a failed test")]

mod imports;
mod layers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use imports::Crate;

/// The longest file of a program, in lines.
const LONGEST: usize = 400;

/// The longest file of tests, in lines.
const LONGEST_OF_TESTS: usize = 500;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().into()
}

fn crates() -> Vec<Crate> {
    layers::CRATES.iter().map(|(name, folder, _)| Crate::read(&repository(), name, folder)).collect()
}

/// All complaints at once, so that one run shows what there is to do.
fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n  {}\n", complaints.join("\n  "));
}

#[test]
fn a_crate_imports_only_the_crates_below_it() {
    let mut complaints = Vec::new();
    for read in crates() {
        let (name, _, below) = layers::CRATES.iter().find(|(name, ..)| *name == read.name).unwrap();
        for (file, imported) in &read.crates {
            for other in imported.iter().filter(|other| !below.contains(&other.as_str())) {
                let may = if below.is_empty() { "none of ours".into() } else { below.join(", ") };
                complaints.push(format!("{file} may not import {other}: {name} imports {may}"));
            }
        }
    }
    assert_none(&complaints);
}

#[test]
fn the_plugin_links_nothing_that_only_a_daemon_needs() {
    let mut complaints = Vec::new();
    for (folder, forbidden) in layers::NOT_LINKED {
        let manifest = fs::read_to_string(repository().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for name in forbidden.iter().filter(|name| dependencies.contains_key(**name)) {
            complaints.push(format!("{folder}/Cargo.toml may not depend on {name}: an ADD pays for it at each start"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn a_folder_of_the_daemon_imports_only_what_stands_below_it() {
    let daemon = crates().into_iter().find(|read| read.name == "podwired").unwrap();
    let mut complaints = Vec::new();
    let mut folders = BTreeSet::new();
    for (file, imported) in &daemon.files {
        let folder = layers::folder(file);
        folders.insert(folder.clone());
        let Some(own) = layers::layer(&folder) else {
            complaints
                .push(format!("{file} is in no layer: say where {folder} stands in tests/architecture/layers.rs"));
            continue;
        };
        for other in imported {
            let (name, below) = (layers::folder(other), layers::layer(&layers::folder(other)));
            if name != folder && below.is_none_or(|below| below <= own) {
                complaints.push(format!("{file} may not import {other}: {folder} imports only {}", layers::below(own)));
            }
        }
    }
    let gone = layers::DAEMON.iter().flat_map(|layer| layer.iter()).filter(|name| !folders.contains(**name));
    complaints.extend(gone.map(|name| format!("{name} stands in tests/architecture/layers.rs, and nowhere else")));
    assert_none(&complaints);
}

#[test]
fn pure_modules_use_no_io() {
    let mut complaints = Vec::new();
    for read in crates() {
        for (folder, forbidden, why) in layers::PURE.iter().filter(|(folder, ..)| folder.starts_with(read.name)) {
            let prefix = folder.replace("::", "/").replacen(read.name, &read.folder, 1);
            for (file, paths) in read.paths.iter().filter(|(file, _)| in_folder(file, &prefix)) {
                for path in paths {
                    if let Some(name) =
                        forbidden.iter().find(|name| path == *name || path.starts_with(&format!("{name}::")))
                    {
                        complaints.push(format!("{file} may not import {name}: {why}"));
                    }
                }
            }
        }
    }
    assert_none(&complaints);
}

fn in_folder(file: &str, folder: &str) -> bool {
    file == format!("{folder}.rs") || file.starts_with(&format!("{folder}/"))
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let circles: Vec<_> = crates().iter().flat_map(|read| circles(&read.files)).collect();
    assert_none(&circles);
}

/// The circles of a graph, each by its files: those that are reached from each other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let reached: BTreeMap<_, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reached_from(file, imports))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for (file, others) in &reached {
        if !others.contains(file) || seen.contains(file) {
            continue;
        }
        let members: Vec<_> = others.iter().filter(|other| reached[*other].contains(file)).copied().collect();
        seen.extend(members.iter().copied());
        circles.push(format!("these import each other in a circle: {}", members.join(", ")));
    }
    circles
}

fn reached_from<'a>(file: &'a str, imports: &'a BTreeMap<String, BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&str> = vec![file];
    while let Some(next) = open.pop() {
        for other in imports.get(next).into_iter().flatten() {
            if reached.insert(other.as_str()) {
                open.push(other);
            }
        }
    }
    reached
}

#[test]
fn a_circle_is_found_and_a_chain_is_no_circle() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry((*from).into()).or_default().insert((*to).into());
            graph.entry((*to).into()).or_default();
        }
        graph
    };
    assert!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let found = circles(&graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("d", "a")]));
    assert_eq!(found, ["these import each other in a circle: a, b, c"]);
}

#[test]
fn each_file_says_what_lives_in_it_and_is_short_enough_to_be_read() {
    let mut complaints = Vec::new();
    let mut files = Vec::new();
    for (_, folder, _) in layers::CRATES {
        list(&repository().join(folder), &mut files);
    }
    list(&repository().join("tests"), &mut files);
    for file in files {
        let shown = file.strip_prefix(repository()).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            complaints.push(format!("{shown} does not say in its first line, by //!, what lives in it"));
        }
        let of_tests = shown.starts_with("tests/") || shown.ends_with("/tests.rs") || shown.contains("/tests/");
        let (longest, lines) = (if of_tests { LONGEST_OF_TESTS } else { LONGEST }, text.lines().count());
        if lines > longest {
            complaints.push(format!("{shown} has {lines} lines, more than {longest}: it is more than one noun"));
        }
    }
    assert_none(&complaints);
}

#[test]
fn each_folder_of_a_program_has_a_head() {
    let mut complaints = Vec::new();
    for read in crates() {
        let folders: BTreeSet<_> =
            read.files.keys().filter_map(|file| file.rsplit_once('/')).map(|(folder, _)| folder).collect();
        for folder in folders.into_iter().filter(|folder| *folder != read.folder) {
            let head = format!("{folder}.rs");
            let text = fs::read_to_string(repository().join(&head)).unwrap_or_default();
            let prose: String = text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join(" ");
            if !prose.contains("may not live here") && !prose.contains("may live here") {
                complaints.push(format!("{head} does not say what may not live in {folder}/"));
            }
        }
    }
    assert_none(&complaints);
}

/// The Rust files below a folder, built ones and the fuzz targets' workspace left out.
fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && !path.ends_with("target") {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
