//! `scripts/test` as a newcomer uses it: its list names every target of tests, as tests/README.md does, and a word that
//! means nothing is an error. It is played without a build: what it plays is the other targets. `scripts/e2e`, which plays what others
//! wrote, teaches its suites, and does not take a word for one.

use std::collections::BTreeSet;
use std::process::{Command, Output};

use crate::stage::{root, text};

fn scripts_test(arguments: &[&str]) -> Output {
    Command::new(root().join("scripts/test")).args(arguments).output().unwrap()
}

#[test]
fn every_target_of_tests_is_a_part_of_the_test_command() {
    let manifest: toml::Value = toml::from_str(&text("tests/Cargo.toml")).unwrap();
    let targets = manifest["test"].as_array().unwrap().iter().map(|target| target["name"].as_str().unwrap());
    let list = String::from_utf8(scripts_test(&["--list"]).stdout).unwrap();
    let listed: BTreeSet<_> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    let missing: Vec<_> = targets.filter(|target| !listed.contains(target)).collect();
    assert!(missing.is_empty(), "scripts/test --list has no {missing:?}:\n{list}");

    let script = text("scripts/test");
    let (played, _) = list.split_once("\n-- ").unwrap();
    let parts = played.lines().filter_map(|line| line.split(' ').next().filter(|word| !word.is_empty()));
    let parts: Vec<_> = parts.filter(|part| !script.contains(&format!("\nplay_{part}() {{"))).collect();
    assert!(parts.is_empty(), "nothing plays {parts:?}");
}

#[test]
fn the_readme_of_the_tests_lists_the_folder_of_every_target() {
    let manifest: toml::Value = toml::from_str(&text("tests/Cargo.toml")).unwrap();
    let readme = text("tests/README.md");
    for target in manifest["test"].as_array().unwrap() {
        let (folder, _) = target["path"].as_str().unwrap().split_once('/').unwrap();
        assert!(readme.contains(&format!("\n| `{folder}/` | ")), "tests/README.md has no row for {folder}/");
    }
}

#[test]
fn a_word_that_is_neither_a_part_nor_a_name_is_an_error() {
    for (words, sentence) in [
        (&["format", "nonsense"][..], "nonsense: no part is called so"),
        (&["--nonsense"], "what is --nonsense?"),
        (&["e2e"], "scripts/kube test"),
        (&[""], "an empty NAME"),
    ] {
        let output = scripts_test(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(sentence), "{words:?}: {output:?}");
    }
}

#[test]
fn the_command_for_suites_of_others_teaches_them_and_refuses_words_that_are_none() {
    let e2e = |words: &[&str]| Command::new(root().join("scripts/e2e")).args(words).output().unwrap();
    let help = e2e(&["--help"]);
    let taught = String::from_utf8_lossy(&help.stdout);
    let suites = ["netpol", "network", "cluster-policy"];
    assert!(help.status.success() && suites.iter().all(|suite| taught.contains(&format!("\n  {suite} "))), "{help:?}");
    for (words, sentence) in [
        (&["netpols"][..], "The suites are netpol, network and cluster-policy"),
        (&["netpol", "--focus"], "--focus wants a value"),
        (&["--processes", "many"], "--processes many is not a number above 0"),
    ] {
        let output = e2e(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(sentence), "{words:?}: {output:?}");
    }
}
