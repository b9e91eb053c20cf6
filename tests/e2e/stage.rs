//! How a scene of a whole Kubernetes is set: where it is played, what it begins with, and how it explains a failure.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::kube::{Place, last_words, name};
use podwire_tests::lab::scene::Outcome;
use serde_json::{Value, json};

/// How many nodes there are.
pub(crate) const NODES: u16 = 3;

/// How long something may take in which kubelets, controllers and the scheduler have a part, on two processors that others
/// want too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

/// How long after a look by a program the next one is.
const PAUSE: Duration = Duration::from_millis(200);

/// The cluster, and a namespace of it that is the scene's own.
pub(crate) struct Stage {
    /// Where everything is.
    pub(crate) place: Place,
    /// Beside the control plane, outside of the cluster.
    pub(crate) world: Host,
    /// The scene's namespace.
    pub(crate) namespace: String,
}

/// Plays a scene. Its namespace is deleted at the end, and with it its pods: whoever cannot be stopped fails it, too.
#[track_caller]
pub(crate) fn scene(namespace: &str, body: impl FnOnce(&Stage) -> Outcome) {
    let place = Place::named();
    let world = Host::here("the world").unwrap();
    assert!(
        place.world().exists(),
        "no cluster is up, or this is not its world: scripts/kube up, then scripts/kube test"
    );
    let stage = Stage { place, world, namespace: namespace.into() };
    let play = || {
        stage.begins()?;
        // What a scene that failed has left is in the way of this one only.
        stage.kubectl(&["delete", "namespace", namespace, "--ignore-not-found", "--timeout=240s"])?;
        stage.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}))?;
        body(&stage)?;
        stage.kubectl(&["delete", "namespace", namespace, "--timeout=240s"]).map(drop)
    };
    let start = Instant::now();
    let Err(why) = play() else {
        eprintln!("{namespace}: {} s", start.elapsed().as_secs());
        return;
    };
    eprintln!("{}", stage.explanation());
    panic!("{why}");
}

impl Stage {
    /// What every scene begins with, whatever one that failed has left.
    pub(crate) fn begins(&self) -> Outcome {
        let manifest = |name: &str| repository(&format!("conf/kubernetes/{name}")).display().to_string();
        let say = |arguments: &[&str]| self.place.ask(arguments).map(drop);
        say(&["delete", "daemonset", "--namespace=podwire", "podwire-uninstall", "--ignore-not-found"])?;
        say(&["apply", "--filename", &manifest("podwire.yaml")])?;
        say(&["uncordon", "--selector=kubernetes.io/os=linux"])?;
        self.all_ready()?;
        say(&["rollout", "status", "--namespace=podwire", "daemonset/podwired", "--timeout=240s"])?;
        say(&["rollout", "status", "--namespace=kube-system", "deployment/coredns", "--timeout=240s"])
    }

    /// Waits until every node is Ready.
    pub(crate) fn all_ready(&self) -> Outcome {
        self.kubectl(&["wait", "nodes", "--all", "--for=condition=Ready", "--timeout=240s"]).map(drop)
    }

    /// A node as it is now.
    pub(crate) fn node(&self, number: u16) -> Outcome<Host> {
        self.place.node(&name(number))
    }

    /// All nodes as they are now.
    pub(crate) fn nodes(&self) -> Outcome<Vec<Host>> {
        (1..=NODES).map(|number| self.node(number)).collect()
    }

    fn explanation(&self) -> String {
        let looks: [&[&str]; 4] = [
            &["get", "nodes", "--output=wide"],
            &["get", "pods", "--all-namespaces", "--output=wide"],
            &["get", "events", "--namespace", &self.namespace, "--sort-by=.lastTimestamp"],
            &["logs", "--namespace=podwire", "--selector=app.kubernetes.io/name=podwired", "--tail=12", "--prefix"],
        ];
        let look = |arguments: &&[&str]| {
            format!("$ kubectl {}\n{}\n", arguments.join(" "), self.place.ask(arguments).unwrap_or_else(|why| why))
        };
        let kubelets = (1..=NODES).map(|number| last_words(&self.place.log(&name(number), "kubelet"), 8));
        looks.iter().map(look).chain(kubelets).collect()
    }
}

/// Looks again and again, by programs that cost something, until there is an answer.
pub(crate) fn until<T>(what: &str, mut attempt: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(why) if Instant::now() >= deadline => return Err(format!("{what}: not within {PATIENCE:?}: {why}")),
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// A file of the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).join(path)
}

/// The texts in a list of JSON.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
}
