//! The reflector against an API that is played in memory, with a second kind of object and a paused clock.

mod absent;
mod api;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Deserialize;

use super::*;
use api::{Answer, Api};

/// What would be kept of a Namespace: its labels.
type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Namespace(Labels);

#[derive(Deserialize)]
struct KubeNamespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    resource_version: String,
    #[serde(default)]
    labels: Labels,
}

impl Kind for Namespace {
    const PATH: &'static str = "/api/v1/namespaces";
    const PLURAL: &'static str = "namespaces";
    type Wire = KubeNamespace;

    fn trim(KubeNamespace { metadata }: KubeNamespace) -> Object<Self> {
        Object { key: metadata.name, version: metadata.resource_version, kept: Self(metadata.labels) }
    }
}

/// A store that records what the reflector calls.
#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

impl Recorder {
    fn record(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

fn shown(key: &str, Namespace(labels): &Namespace) -> String {
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!(" {key}={value}")).collect();
    format!("{key}{}", labels.concat())
}

impl Store for Recorder {
    type Kind = Namespace;

    fn count(&self) -> usize {
        0
    }

    fn replace(&mut self, objects: BTreeMap<String, Namespace>) {
        let objects: Vec<_> = objects.iter().map(|(key, object)| shown(key, object)).collect();
        self.record(format!("all: {}", objects.join(", ")));
    }

    fn set(&mut self, key: String, object: Namespace) {
        self.record(format!("set {}", shown(&key, &object)));
    }

    fn remove(&mut self, key: &str) {
        self.record(format!("remove {key}"));
    }

    fn connected(&mut self) {
        self.record("connected".into());
    }

    fn failed(&mut self, failure: &Failure) {
        self.record(format!("failed: {failure}"));
    }
}

/// A Namespace as an API server writes it, cut short where there is more of the same.
fn namespace(name: &str, version: u32, labels: &str) -> String {
    let metadata = format!(
        r#""name": "{name}", "uid": "1", "resourceVersion": "{version}", "labels": {{{labels}}}, "managedFields": [{{}}]"#
    );
    format!(
        r#"{{"metadata": {{{metadata}}}, "spec": {{"finalizers": ["kubernetes"]}}, "status": {{"phase": "Active"}}}}"#
    )
}

fn page(version: u32, next: &str, items: &[String]) -> Answer {
    let metadata = format!(r#"{{"resourceVersion": "{version}", "continue": "{next}"}}"#);
    Answer::whole(200, format!(r#"{{"metadata": {metadata}, "items": [{}]}}"#, items.join(", ")))
}

fn event(of: &str, object: &str) -> String {
    format!("{{\"type\": \"{of}\", \"object\": {object}}}\n")
}

fn bookmark(version: u32) -> String {
    let object =
        format!(r#"{{"kind": "Namespace", "apiVersion": "v1", "metadata": {{"resourceVersion": "{version}"}}}}"#);
    event("BOOKMARK", &object)
}

fn gone() -> String {
    let status = r#"{"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410}"#;
    event("ERROR", status)
}

/// Runs a reflector with these answers for some seconds of a paused clock: the calls of the store, and the requests to the
/// API, each with its second.
fn play(seconds: u64, answers: impl IntoIterator<Item = Answer>) -> (Vec<String>, Vec<(u64, String)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (recorder, api) = (Recorder::default(), Api::new(answers));
        let mut reflector = Reflector::new(Some("/no/kubeconfig".into()), recorder.clone());
        reflector.client = Some(Client::new(api.clone(), "default"));
        let ended = timeout(Duration::from_secs(seconds), reflector.run()).await;
        assert!(ended.is_err(), "a reflector runs for ever");
        (recorder.lines(), api.asked())
    })
}

#[test]
fn a_second_kind_is_listed_in_pages_and_watched_and_a_watch_that_ends_goes_on_from_its_last_bookmark() {
    let events = [
        event("ADDED", &namespace("c", 11, "")),
        event("MODIFIED", &namespace("a", 12, r#""team": "red""#)),
        event("DELETED", &namespace("b", 13, "")),
        bookmark(40),
    ];
    let answers = [
        page(10, "more", &[namespace("a", 1, r#""team": "blue""#)]),
        page(10, "", &[namespace("b", 2, "")]),
        Answer::whole(200, events.concat()),
        Answer::silent(200, String::new()),
    ];
    let (calls, asked) = play(30, answers);
    let expected =
        ["connected", "all: a team=blue, b", "connected", "set c", "set a team=red", "remove b", "connected"];
    assert_eq!(calls, expected);
    let asked: Vec<_> = asked.iter().map(|(_, asked)| asked.as_str()).collect();
    assert!(asked[0].starts_with("/api/v1/namespaces?") && asked[0].contains("limit=100"), "{asked:?}");
    assert!(asked[1].contains("continue=more"), "{asked:?}");
    assert!(asked[2].contains("watch=true") && asked[2].contains("resourceVersion=10"), "{asked:?}");
    assert!(asked[2].contains("allowWatchBookmarks=true"), "{asked:?}");
    assert!(asked[3].contains("watch=true") && asked[3].contains("resourceVersion=40"), "{asked:?}");
    assert_eq!(asked.len(), 4);
}

#[test]
fn a_connection_that_is_silent_for_90_seconds_is_given_up_and_the_watch_goes_on_without_a_list() {
    let answers = [
        page(10, "", &[]),
        Answer::silent(200, event("ADDED", &namespace("a", 11, ""))),
        Answer::silent(200, String::new()),
    ];
    let (calls, asked) = play(100, answers);
    assert_eq!(calls, ["connected", "all: ", "connected", "set a", "connected"]);
    let (second, last) = &asked[2];
    assert_eq!((asked.len(), *second), (3, 90), "{asked:?}");
    assert!(last.contains("watch=true") && last.contains("resourceVersion=11"), "{last}");
}

#[test]
fn a_resource_version_that_the_api_does_not_remember_is_no_failure_and_leads_to_a_new_list() {
    let answers = [
        page(10, "", &[namespace("a", 1, ""), namespace("b", 2, "")]),
        Answer::whole(200, gone()),
        page(90, "", &[namespace("b", 2, "")]),
        Answer::silent(200, String::new()),
    ];
    let (calls, asked) = play(30, answers);
    assert_eq!(calls, ["connected", "all: a, b", "connected", "connected", "all: b", "connected"]);
    assert!(asked[2].1.contains("limit=100") && asked[3].1.contains("resourceVersion=90"), "{asked:?}");
}

#[test]
fn a_list_that_breaks_off_changes_nothing() {
    let error = r#"{"kind": "Status", "status": "Failure", "message": "etcdserver: no leader", "code": 500}"#;
    let answers = [
        page(10, "", &[namespace("a", 1, ""), namespace("b", 2, "")]),
        Answer::whole(200, gone()),
        page(90, "more", &[namespace("b", 2, "")]),
        Answer::whole(500, error.into()),
    ];
    let (calls, _) = play(5, answers);
    let (kept, failed) = calls.split_at(4);
    assert_eq!(
        kept,
        [
            "connected",
            "all: a, b",
            "connected",
            "failed: list namespaces in the Kubernetes API: 500 \
                       etcdserver: no leader"
        ]
    );
    // The client is made anew, and there is no kubeconfig here to make it from.
    assert!(failed.iter().all(|line| line.starts_with("failed: kubeconfig /no/kubeconfig: ")), "{failed:?}");
}

#[test]
fn an_unanswered_list_fails_after_90_seconds() {
    let (calls, asked) = play(95, [Answer::never()]);
    assert_eq!(calls[0], "failed: list namespaces: the Kubernetes API was silent for 90s");
    assert_eq!(asked.len(), 1);
}

/// What fails first with these answers.
fn failure(answers: impl IntoIterator<Item = Answer>) -> String {
    let (calls, _) = play(1, answers);
    calls.into_iter().find(|line| line.starts_with("failed: ")).unwrap()
}

#[test]
fn what_has_no_end_is_given_up_at_a_limit_that_is_named() {
    const LIST: &str = "failed: list namespaces in the Kubernetes API: ";
    let chunk = || " ".repeat(64 * 1024);
    let is = |found: String, why: &str| assert_eq!(found, format!("{LIST}{why}, the most that is read"));
    is(failure([Answer::endless(200, chunk())]), "a page has more than 33554432 bytes");
    is(failure((0..MOST_PAGES).map(|_| page(10, "more", &[]))), "the list has more than 2000 pages");
    let long = "n".repeat(508);
    is(failure([page(10, "", &[namespace(&long, 1, "")])]), "the name of an object has more than 507 bytes");
    is(failure([page(10, "", &[]), Answer::endless(200, chunk())]), "an event has more than 8388608 bytes");
    let error = failure([Answer::endless(500, "no ".repeat(10_000))]);
    assert!(error.starts_with(&format!("{LIST}500 no no ")) && error.len() < 70_000, "{} bytes", error.len());
}

#[test]
fn a_list_of_more_objects_than_a_cluster_has_is_given_up() {
    let pages = (0..=100).map(|page_number| {
        let items: Vec<_> = (0..1000).map(|number| namespace(&format!("n-{page_number}-{number}"), 1, "")).collect();
        page(10, "more", &items)
    });
    assert!(failure(pages).ends_with("the list has more than 100000 objects, the most that is read"));
}

#[test]
fn random_numbers_differ() {
    assert!((0..8).any(|_| random() != random()));
}
