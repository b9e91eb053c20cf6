//! A kind that the API may not know: it is looked for in each version of its group, and from time to time again.

use super::*;

/// A Namespace, as if somebody had installed the kind.
#[derive(Debug, Clone)]
struct Installed;

impl Kind for Installed {
    const PATH: &'static str = "/apis/group/v1/kinds";
    const ELSEWHERE: Option<&'static [&'static str]> = Some(&["/apis/group/v2/kinds"]);
    const PLURAL: &'static str = "kinds";
    type Wire = KubeNamespace;

    fn trim(KubeNamespace { metadata }: KubeNamespace) -> Object<Self> {
        Object { key: metadata.name, version: metadata.resource_version, kept: Self }
    }
}

/// Records what the reflector calls, and knows how many objects there are.
#[derive(Debug, Clone, Default)]
struct Counting(Recorder, Arc<Mutex<usize>>);

impl Store for Counting {
    type Kind = Installed;

    fn count(&self) -> usize {
        *self.1.lock().unwrap()
    }

    fn replace(&mut self, objects: BTreeMap<String, Installed>) {
        *self.1.lock().unwrap() = objects.len();
        self.0.record(format!("all: {}", objects.into_keys().collect::<Vec<_>>().join(", ")));
    }

    fn set(&mut self, key: String, _object: Installed) {
        self.0.record(format!("set {key}"));
    }

    fn remove(&mut self, key: &str) {
        self.0.record(format!("remove {key}"));
    }

    fn connected(&mut self) {
        self.0.record("connected".into());
    }

    fn failed(&mut self, failure: &Failure) {
        self.0.record(format!("failed: {failure}"));
    }
}

/// What an API server says of a path that it does not know.
fn not_found() -> Answer {
    Answer::whole(404, "404 page not found\n".into())
}

fn play_absent(seconds: u64, answers: impl IntoIterator<Item = Answer>) -> (Vec<String>, Vec<(u64, String)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (store, api) = (Counting::default(), Api::new(answers));
        let mut reflector = Reflector::new(Some("/no/kubeconfig".into()), store.clone());
        reflector.client = Some(Client::new(api.clone(), "default"));
        let ended = timeout(Duration::from_secs(seconds), reflector.run()).await;
        assert!(ended.is_err(), "a reflector runs for ever");
        let asked =
            api.asked().into_iter().map(|(second, asked)| (second, asked.split('?').next().unwrap().to_owned()));
        (store.0.lines(), asked.collect())
    })
}

/// Where was asked, without the seconds.
fn paths(asked: &[(u64, String)]) -> Vec<&str> {
    asked.iter().map(|(_, path)| path.as_str()).collect()
}

const ONE: &str = "/apis/group/v1/kinds";
const OTHER: &str = "/apis/group/v2/kinds";

#[test]
fn a_kind_that_the_api_does_not_know_has_no_objects_and_is_looked_for_again() {
    let (lines, asked) = play_absent(ABSENT.as_secs() + 1, (0..8).map(|_| not_found()));
    assert_eq!(lines[..4], ["connected", "all: ", "connected", "all: "]);
    assert_eq!(paths(&asked)[..4], [ONE, OTHER, ONE, OTHER]);
    let waited = asked[2].0 - asked[1].0;
    assert!((ABSENT.as_secs() / 2..=ABSENT.as_secs()).contains(&waited), "{asked:?}");
}

#[test]
fn it_is_found_in_another_version_and_watched_there() {
    let answers = [not_found(), page(5, "", &[namespace("a", 1, "")]), Answer::silent(200, String::new())];
    let (lines, asked) = play_absent(10, answers);
    assert_eq!(lines, ["connected", "all: a", "connected"]);
    assert_eq!(paths(&asked), [ONE, OTHER, OTHER]);
}

#[test]
fn objects_that_are_known_stay_until_the_api_has_said_several_times_that_it_does_not_know_their_kind() {
    let known = [page(5, "", &[namespace("a", 1, "")]), Answer::whole(200, String::new())];
    let once = known.into_iter().chain([not_found(), not_found(), page(6, "", &[namespace("a", 1, "")])]);
    let (lines, asked) = play_absent(8, once.chain([Answer::silent(200, String::new())]));
    assert_eq!(lines, ["connected", "all: a", "connected", "connected", "all: a", "connected"], "{asked:?}");
    let known = [page(5, "", &[namespace("a", 1, "")]), Answer::whole(200, String::new())];
    let (lines, asked) = play_absent(20, known.into_iter().chain((0..6).map(|_| not_found())));
    assert_eq!(lines, ["connected", "all: a", "connected", "connected", "all: "], "{asked:?}");
}
