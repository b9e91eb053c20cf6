//! That no line of the protocol is forgotten: each has a test that is named after it, or a reason in `conformance.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use podwire_tests::lab::scene::{Outcome, check};

/// A line: its topic's letter and its number.
type Line = (char, u32);

const DOCUMENT: &str = include_str!("../../conformance.md");

/// A name as in `Q5`, in either case.
fn line(word: &str) -> Option<Line> {
    let mut letters = word.chars();
    let topic = letters.next().filter(char::is_ascii_alphabetic)?;
    let number = letters.as_str();
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((topic.to_ascii_uppercase(), number.parse().ok().filter(|_| digits)?))
}

fn text((topic, number): Line) -> String {
    format!("{topic}{number}")
}

/// The lines that a test is named after: `e1_e2_e3_…` is three, `e11_to_e15_…` is five.
fn named(test: &str) -> BTreeSet<Line> {
    let mut lines = BTreeSet::new();
    let mut words = test.split('_').peekable();
    while let Some((topic, first)) = words.next().and_then(line) {
        let last = match words.peek() {
            Some(&"to") => words.nth(1).and_then(line).filter(|(other, _)| *other == topic).map(|(_, last)| last),
            _ => None,
        };
        lines.extend((first..=last.unwrap_or(first)).map(|number| (topic, number)));
    }
    lines
}

/// The rows of the tables under a heading, cell by cell, their heads left out.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let under =
        DOCUMENT.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    let rows = under.filter(|line| line.starts_with('|') && !line.starts_with("| line |") && !line.starts_with("|--"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// Every Rust source below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![path].into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")).collect(),
    };
    entries.flat_map(of).collect()
}

/// The functions of a source that are tests.
fn tests(source: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut lines = source.lines().map(str::trim);
    while lines.any(|line| line == "#[test]") {
        let function = lines.find_map(|line| line.strip_prefix("fn "));
        found.extend(function.and_then(|rest| rest.split('(').next()));
    }
    found
}

#[test]
fn every_line_of_the_protocol_has_a_test_or_a_reason() -> Outcome {
    let mut weights = BTreeMap::new();
    for row in table("## Lines") {
        let [name, weight, expectation] = row[..] else { return Err(format!("{row:?} is no row")) };
        let line = line(name).ok_or_else(|| format!("{name:?} is no line"))?;
        let right = !weight.is_empty() && weight.chars().all(|letter| "MSRTDU".contains(letter));
        check(right, || format!("{name} has no weight"))?;
        check(expectation.ends_with('.'), || format!("{name} has no sentence: {expectation:?}"))?;
        check(weights.insert(line, weight).is_none(), || format!("{name} is there twice"))?;
    }
    // A line that got lost would not be missed otherwise.
    check(weights.len() == 286, || format!("{} lines", weights.len()))?;

    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("no workspace")?;
    let members = ["kernel", "conf", "plugin", "daemon", "tests"].map(|member| sources(&workspace.join(member)));
    let mut tested: BTreeMap<Line, String> = BTreeMap::new();
    for path in members.iter().flatten() {
        let source = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        for test in tests(&source) {
            tested.extend(named(test).into_iter().map(|line| (line, test.to_owned())));
        }
    }
    let reasons: BTreeMap<_, _> = table("## Without a test").iter().map(|row| (line(row[0]), row[1])).collect();
    let mut complaints = Vec::new();
    for (line, test) in &tested {
        if !weights.contains_key(line) {
            complaints.push(format!("{test} shows {}, which is no line", text(*line)));
        } else if reasons.contains_key(&Some(*line)) {
            complaints.push(format!("{} has a reason to have no test, and has {test}", text(*line)));
        }
    }
    for (line, reason) in &reasons {
        if !line.is_some_and(|line| weights.contains_key(&line)) || reason.is_empty() {
            complaints.push(format!("{:?} is no line, or {reason:?} no reason", line.map(text)));
        }
    }
    let forgotten = weights.keys().filter(|line| !tested.contains_key(line) && !reasons.contains_key(&Some(**line)));
    complaints.extend(forgotten.map(|line| format!("{} has neither a test nor a reason", text(*line))));
    check(complaints.is_empty(), || complaints.join("\n"))
}

#[test]
fn a_test_names_its_lines_before_its_sentence() {
    assert_eq!(named("q5_q10_a_damage_is_reported"), [('Q', 5), ('Q', 10)].into());
    assert_eq!(named("v1_to_v3_v7_version"), [('V', 1), ('V', 2), ('V', 3), ('V', 7)].into());
    assert_eq!(named("a_name_like_p6_is_none"), [].into());
    assert_eq!(
        tests("#[test]\n#[ignore]\nfn l1_x() {}\nfn l2_y() {}\n  #[test]\n  fn l3_z() -> T {"),
        ["l1_x", "l3_z"]
    );
}
