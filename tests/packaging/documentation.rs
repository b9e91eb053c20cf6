//! Everything that a user can name is documented, and everything that is documented is there: metrics, change kinds,
//! settings, flags, error codes, keys of the status and of the conflist, findings. What there is, is taken from the code
//! itself: its types, its command line, its sources. And links lead somewhere, and commands are understood.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};
use podwired::args::Args;
use podwired::cluster::membership::{Member, Membership};
use podwired::cluster::settings::KEYS;
use podwired::doctor::finding::FindingKind;
use podwired::observe::metrics;
use podwired::observe::status::document::{
    self, Adds, Daemon, NetworkPolicy, PeerRoute, PeerState, PeerStatus, Probe, Range, Reach, RefusedPod,
    RejectedEntry, Status,
};
use podwired::report::change_kind::Counts;
use podwired::report::outcome::FastPathState;
use podwired::report::problem::{Problem, ProblemKind};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::Value;

use crate::stage::{root, text};

/// The part of a page below a heading, without what is below the next one of the same level or a higher one.
pub(crate) fn section(page: &str, heading: &str) -> String {
    let level = heading.split(' ').next().unwrap().len();
    let above = |line: &str| line.starts_with('#') && line.split(' ').next().unwrap().len() <= level;
    let text = text(page);
    let lines: Vec<_> =
        text.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !above(line)).collect();
    assert!(!lines.is_empty(), "{page} has no section {heading:?}");
    lines.join("\n")
}

/// The first cell of each row of the tables in a text, and the whole row.
pub(crate) fn rows(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("|-"))
        .filter_map(|line| Some((line.trim_start_matches("| ").split(" | ").next()?, line)))
        .collect()
}

/// What stands between backquotes.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// What the first cells of the tables in a section quote.
fn named(page: &str, heading: &str) -> BTreeSet<String> {
    rows(&section(page, heading)).into_iter().flat_map(|(cell, _)| quoted(cell)).collect()
}

/// A status with everything in it. It is written out whole, so that a new field does not compile until it is here.
fn full_status() -> Status {
    let network = || "10.244.1.0/24".parse().unwrap();
    let address = || "10.244.1.0".parse().unwrap();
    let counts = || Counts::default().named().map(|(name, count)| (name.to_owned(), count)).collect();
    let refused = || RefusedPod {
        namespace: Some(String::new()),
        pod: Some(String::new()),
        addresses: vec![address()],
        from_pod: 0,
        to_pod: 0,
    };
    let probe = Probe { address: address(), round_trip_microseconds: Some(1), loss_percent: 0 };
    let peer = PeerStatus {
        name: "node-2".into(),
        address: address(),
        pod_cidrs: vec![network()],
        routes: vec![PeerRoute { pod_cidr: network(), by: Reach::Plain.into() }],
        state: PeerState::Answers.into(),
        probes: vec![probe],
        path_mtu: Some(1500),
    };
    Status {
        version: "1".into(),
        node: "node-1".into(),
        address: Some(address()),
        pod_cidrs: vec![network()],
        cluster_cidrs: vec![network()],
        mode: "always".into(),
        vni: 1,
        port: 8472,
        mtu: Some(1450),
        underlay_mtu: Some(1500),
        fast_path: "on".into(),
        fast_path_state: FastPathState::On { devices_left_out: 1 }.into(),
        network_policy: Some(NetworkPolicy {
            in_force: true,
            policies: 1,
            cluster_policies: 1,
            isolated_pods: 1,
            refused_from_pods: Some(0),
            refused_to_pods: Some(0),
            refused_pods: vec![refused()],
            audited_pods: vec![refused()],
        }),
        conflist: "/".into(),
        plugin_directory: Some("/".into()),
        membership: document::Membership {
            source: "kubernetes".into(),
            file: Some("/".into()),
            connected: true,
            stored: false,
            age_seconds: 0,
            nodes: 2,
        },
        converged: true,
        wrong: vec![String::new()],
        problems: vec![Problem::new(ProblemKind::EntryRejected, "node-2", "").into()],
        daemon: Daemon {
            age_seconds: 0,
            last_pass_age_seconds: Some(0.0),
            last_pass_seconds: 0.0,
            passes: 1,
            short_passes: 0,
            changes: counts(),
            repairs: counts(),
        },
        peers: vec![peer],
        refused: vec![RejectedEntry {
            node: String::new(),
            why: String::new(),
            kind: ProblemKind::EntryRejected.into(),
        }],
        ranges: vec![Range { range: network(), used: 0, free: 1 }],
        guards: [("pod-spoofing".to_owned(), 0)].into(),
        adds: Some(Adds { count: 1, seconds: 0.1, within_microseconds: [(500, 1)].into() }),
        runtime: document::Runtime {
            socket: Some("/".into()),
            why: String::new(),
            name: String::new(),
            sandboxes: Some(1),
            failure: Some(String::new()),
        },
    }
}

/// The names that a type reads: the fields of a struct, as serde is told them.
struct Names(Vec<String>);

impl<'de> Deserializer<'de> for &mut Names {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.extend(fields.iter().map(|name| (*name).to_owned()));
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<T: Deserialize<'static>>() -> BTreeSet<String> {
    let mut names = Names(Vec::new());
    // It never has a value: the names are all there is.
    assert!(T::deserialize(&mut names).is_err() && !names.0.is_empty());
    names.0.into_iter().collect()
}

#[test]
fn every_setting_is_documented_and_no_other() {
    assert_eq!(named("docs/daemon.md", "## Settings"), KEYS.iter().map(|key| (*key).to_owned()).collect());
}

#[test]
fn every_key_of_the_membership_file_is_documented_and_no_other() {
    let mut keys = fields::<Membership>();
    assert!(keys.remove("node"), "{keys:?}");
    keys.extend(fields::<Member>());
    let documented = named("docs/daemon.md", "### Membership file");
    assert_eq!(documented, keys);
}

#[test]
fn every_metric_is_documented_with_its_type() {
    let page = metrics::render(&full_status());
    let exposed: BTreeSet<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let section = section("docs/daemon.md", "## Metrics");
    let documented: BTreeSet<_> = rows(&section)
        .into_iter()
        .filter(|(cell, _)| cell.starts_with('`'))
        .map(|(cell, row)| {
            let name = quoted(cell).remove(0).split('{').next().unwrap().to_owned();
            (name, row.split(" | ").nth(1).unwrap().to_owned())
        })
        .collect();
    assert_eq!(documented, exposed);
}

#[test]
fn every_change_kind_is_documented() {
    let kinds: BTreeSet<_> = Counts::default().named().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(named("docs/daemon.md", "## Change kinds"), kinds);
}

/// The keys of an object, and of the objects in it, each behind that of its parent. Where names are keys (kinds, guards),
/// they are not podwire's own.
pub(crate) fn keys(value: &Value, parent: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(fields) if !["changes", "repairs", "guards", "within_microseconds"].contains(&parent) => {
            for (key, value) in fields {
                found.insert((parent.to_owned(), key.clone()));
                keys(value, key, found);
            }
        }
        Value::Array(entries) => entries.iter().for_each(|entry| keys(entry, parent, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_status_is_documented_in_the_row_of_its_parent() {
    let mut there = BTreeSet::new();
    let off = Status { fast_path_state: FastPathState::Off { why: String::new() }.into(), ..full_status() };
    for status in [full_status(), off] {
        keys(&serde_json::to_value(status).unwrap(), "", &mut there);
    }
    let section = section("docs/daemon.md", "## Status");
    let rows = rows(&section);
    let top: BTreeSet<_> = rows.iter().flat_map(|(cell, _)| quoted(cell)).collect();
    let wanted: BTreeSet<_> =
        there.iter().filter(|(parent, _)| parent.is_empty()).map(|(_, key)| key.clone()).collect();
    assert_eq!(top, wanted);
    for (parent, key) in there.iter().filter(|(parent, _)| !parent.is_empty()) {
        let says = |row: &str, name: &String| quoted(row).contains(name);
        assert!(rows.iter().any(|(_, row)| says(row, parent) && says(row, key)), "{parent}.{key}");
    }
    let states = PeerState::ALL.map(|(_, name)| name.to_owned());
    let peers = rows.iter().find(|(cell, _)| *cell == "`peers`").unwrap().1;
    assert!(states.iter().all(|state| quoted(peers).contains(state)), "{states:?}");
}

#[test]
fn every_finding_is_documented_below_its_check_and_no_other() {
    let page = "docs/troubleshooting.md";
    let mut checks: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for kind in FindingKind::ALL {
        checks.entry(kind.check()).or_default().insert(kind.name().to_owned());
    }
    let listed: BTreeSet<_> = rows(&section(page, "## Findings of the doctor"))
        .into_iter()
        .filter_map(|(cell, _)| cell.strip_prefix("[`")?.split('`').next())
        .map(str::to_owned)
        .collect();
    assert_eq!(listed, checks.keys().map(|check| (*check).to_owned()).collect());
    for (check, kinds) in checks {
        let heading = format!("### {check}");
        assert!(section(page, &heading).contains("**Symptom.** "), "{heading}");
        assert_eq!(named(page, &heading), kinds, "{heading}");
    }
}

#[test]
fn every_problem_is_documented_and_no_other() {
    let kinds: BTreeSet<_> = ProblemKind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    let (page, heading) = ("docs/troubleshooting.md", "## Problems in the status");
    assert_eq!(named(page, heading), kinds);
    assert_eq!(rows(&section(page, heading)).iter().filter(|(cell, _)| cell.starts_with('`')).count(), kinds.len());
}

/// The commands that do something, and their names: of one that has commands of its own these.
fn commands_of(command: &Command, above: &str) -> Vec<(String, Command)> {
    let of = |command: &Command| {
        let name = format!("{above}{}", command.get_name());
        if command.has_subcommands() {
            commands_of(command, &format!("{name} "))
        } else {
            vec![(name, command.clone())]
        }
    };
    command.get_subcommands().flat_map(of).collect()
}

#[test]
fn every_flag_of_every_subcommand_is_documented_and_no_other() {
    for (name, command) in commands_of(&Args::command(), "") {
        let flags: BTreeSet<_> =
            command.get_arguments().filter_map(|flag| flag.get_long()).map(str::to_owned).collect();
        let heading = format!("### podwired {name}");
        let section = section("docs/daemon.md", &heading);
        let documented: BTreeSet<_> = rows(&section)
            .into_iter()
            .filter_map(|(cell, _)| Some(cell.strip_prefix("`--")?.split(['`', ' ']).next()?.to_owned()))
            .collect();
        assert_eq!(documented, flags, "{heading}");
        for variable in command.get_arguments().filter_map(|flag| flag.get_env()) {
            assert!(section.contains(&format!("`{}`", variable.display())), "{heading}: {}", variable.display());
        }
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_default_value_set()) {
            for default in flag.get_default_values().iter().map(|value| value.to_string_lossy()) {
                let row = rows(&section)
                    .into_iter()
                    .find(|(cell, _)| flag.get_long().is_some_and(|long| cell.starts_with(&format!("`--{long}"))));
                let says = row.is_none_or(|(_, row)| default == "false" || row.contains(&format!("`{default}`")));
                assert!(says, "{heading}: {default}");
            }
        }
    }
}

#[test]
fn every_error_code_is_documented_and_no_other() {
    let source = text("plugin/src/cni/failure.rs");
    let (_, variants) = source.split_once("pub enum Code {").unwrap();
    let (variants, _) = variants.split_once("\n}").unwrap();
    let number = |line: &str| line.trim().strip_suffix(',')?.rsplit_once(" = ")?.1.parse::<u32>().ok();
    let codes: BTreeSet<_> = variants.lines().filter_map(number).collect();
    assert!(codes.contains(&1) && codes.contains(&999), "{codes:?}");
    let section = section("docs/plugin.md", "## Error codes");
    let documented: BTreeSet<_> = rows(&section).into_iter().filter_map(|(cell, _)| cell.parse().ok()).collect();
    assert_eq!(documented, codes);
}

/// Keys are whatever the readers of the configuration name: single words between quotes, in product code of the files that
/// read its fields. Values are there as well, and are documented too.
#[test]
fn every_key_of_the_conflist_is_documented() {
    let documentation = text("docs/plugin.md");
    let spans = quoted(&documentation.replace("```", "")).join(" ");
    let words: BTreeSet<_> =
        spans.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_/.-".contains(letter)).collect();
    let is_said =
        |key: &str| words.iter().any(|word| word.trim_matches('.').split('.').any(|part| part == key) || *word == key);
    let mut keys: BTreeSet<_> = podwire_conf::conflist::CAPABILITIES.map(str::to_owned).into();
    let sources = files(".rs").into_iter().map(|path| fs::read_to_string(path).unwrap());
    let reads_it = |source: &String| source.contains("\nuse crate::json::Field;");
    for source in sources.filter(reads_it).chain([text("plugin/src/cni/arguments.rs")]) {
        let product = source.split("#[cfg(test)]").next().unwrap();
        for line in product.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let parts: Vec<_> = line.split('"').collect();
            let literals = parts.windows(2).step_by(2).filter(|two| !two[0].ends_with("skip_serializing_if = "));
            keys.extend(literals.map(|two| two[1].to_owned()).filter(|text| is_key(text)));
        }
    }
    assert!(keys.len() > 40, "{keys:?}");
    keys.retain(|key| !is_said(key));
    assert_eq!(keys, BTreeSet::new());
}

/// Whether a text has the form of a key, and is none of the words that are something else there.
fn is_key(text: &str) -> bool {
    let others = ["true", "false", "True", "False", "TRUE", "FALSE", "nameserver"];
    text.len() > 1
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !others.contains(&text)
        && !text.bytes().next().unwrap().is_ascii_digit()
}

/// Every file of the repository whose name ends like this.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                if name != "target" && (!name.starts_with('.') || name == ".github") {
                    directories.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found
}

/// Every document of the repository.
fn documents() -> Vec<PathBuf> {
    let found = files(".md");
    assert!(found.len() > 30, "{found:?}");
    found
}

/// A heading as the fragment of a link.
fn fragment(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || "-_ ".contains(*letter))
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", document.display());
            let has = |text: &str| text.lines().any(|line| line.starts_with('#') && fragment(line) == anchor);
            assert!(anchor.is_empty() || has(&fs::read_to_string(&target).unwrap()), "{}: {link}", document.display());
        }
    }
}

/// The commands in a document's indented lines, without what comments say.
fn commands(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| line.split(" #").next().unwrap().trim().to_owned()).collect()
}

/// The command line of podwired in a line or a span, where there is one: at its beginning, or behind that of `kubectl exec`.
fn command_of_podwired(text: &str) -> Option<&str> {
    let mut places = text.match_indices("podwired ").map(|(at, _)| at);
    let at = places.find(|at| *at == 0 || text[..*at].ends_with("-- "))?;
    let command = text[at..].split([';', '|', '&']).next()?.trim();
    // What names the form of a command is none.
    (!command.contains(['…', ',']) && !command.contains(" COMMAND")).then_some(command)
}

#[test]
fn every_command_of_podwired_in_a_document_is_understood() {
    let why = |command: &str| Args::try_parse_from(command.split_whitespace()).err().map(|error| error.kind());
    let (mut shown, mut named) = (0, 0);
    for document in documents() {
        let lines = commands(&document);
        for command in lines.iter().filter_map(|line| command_of_podwired(line)) {
            shown += 1;
            let why = why(command).filter(|kind| *kind != ErrorKind::DisplayHelp);
            assert_eq!(why, None, "{}: {command}", document.display());
        }
        // In running text a command is named without all that it needs.
        let text = fs::read_to_string(&document).unwrap().replace("```", "");
        for command in quoted(&text).iter().filter_map(|span| command_of_podwired(span)) {
            named += 1;
            let unknown =
                why(command).filter(|kind| [ErrorKind::UnknownArgument, ErrorKind::InvalidSubcommand].contains(kind));
            assert_eq!(unknown, None, "{}: {command}", document.display());
        }
    }
    assert!(shown >= 5 && named > 20, "{shown}, {named}");
}

#[test]
fn every_file_and_image_that_a_documents_command_names_exists() {
    let mut seen = 0;
    for document in documents() {
        for line in commands(&document) {
            for word in line.split_whitespace().filter(|word| word.starts_with("conf/") || word.starts_with("scripts/"))
            {
                seen += 1;
                assert!(root().join(word).exists(), "{}: {line}", document.display());
            }
        }
    }
    assert!(seen > 20, "{seen}");
    let image = format!(" target/podwired-{}.tar ", env!("CARGO_PKG_VERSION"));
    for document in ["README.md", "docs/kubernetes.md"] {
        assert!(text(document).contains(&image), "{document}: {image}");
    }
}

/// A path as documents write it: without `src`, since they name crates.
fn without_src(path: &str) -> String {
    path.split('/').filter(|part| *part != "src").collect::<Vec<_>>().join("/")
}

#[test]
fn every_source_file_that_a_document_names_is_there() {
    let files: BTreeSet<_> = files(".rs")
        .iter()
        .map(|path| format!("/{}", without_src(&path.strip_prefix(root()).unwrap().display().to_string())))
        .collect();
    let mut seen = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap().replace("```", "");
        for span in quoted(&text).into_iter().filter(|span| span.ends_with(".rs") && !span.contains([' ', 'N'])) {
            seen += 1;
            let end = format!("/{}", without_src(&span));
            assert!(files.iter().any(|file| file.ends_with(&end)), "{}: {span}", document.display());
        }
    }
    assert!(seen > 50, "{seen}");
}
