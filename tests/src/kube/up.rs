//! The beginning of a cluster, as far as it is done from outside of its world, each step with what it waits for.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use podwire_tests::lab::kube::{self, Place, last_words};
use podwire_tests::lab::{eventually, program};

use crate::{control_plane, down, images};

/// The manifest of the cluster's DNS.
const DNS: &str = include_str!("dns.yaml");

/// How long a step may take on two processors that others want too.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long after an attempt the next one is.
const PAUSE: Duration = Duration::from_millis(250);

/// What a cluster is made of.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// How many nodes it has
    #[arg(long, default_value_t = 3)]
    nodes: u16,

    /// Directory with the programs of Kubernetes (scripts/kube-binaries)
    #[arg(long, value_name = "DIRECTORY")]
    binaries: PathBuf,

    /// Archive of an image that the nodes import
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,

    /// Manifest that is applied once the API is there: the network
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// Brings a cluster up, and waits until it is as it should be.
pub(crate) fn up(place: &Place, wanted: &Up) -> Result<(), String> {
    if down::world(place).is_some() {
        return Err(format!("a cluster is up already, in {}: scripts/kube down", place.root.display()));
    }
    let start = Instant::now();
    let say = |text: &str| eprintln!("{:>4} s  {text}", start.elapsed().as_secs());
    if place.root.exists() {
        down::down(place)?;
    }
    fs::create_dir_all(&place.root).map_err(|error| format!("{}: {error}", place.root.display()))?;
    let binaries = fs::canonicalize(&wanted.binaries);
    let binaries = binaries.map_err(|error| format!("{}: {error}", wanted.binaries.display()))?;
    symlink(binaries, place.programs()).map_err(|error| format!("{}: {error}", place.root.display()))?;
    images::make(place, &wanted.images)?;
    start_world(place, wanted.nodes)?;
    let nodes: Vec<_> = (1..=wanted.nodes).map(kube::name).collect();
    let steps = || -> Result<(), String> {
        wait(place, || ask(place, &["get", "--raw=/readyz"], None).map(drop))?;
        say("the API server answers");
        apply(place, "-", Some(DNS))?;
        if let Some(manifest) = &wanted.manifest {
            let manifest = fs::read_to_string(manifest).map_err(|error| format!("{}: {error}", manifest.display()))?;
            apply(place, "-", Some(&manifest))?;
            say("the network's manifest is applied");
        }
        for node in &nodes {
            wait(place, || ask(place, &["get", "node", node], None).map(drop))?;
            say(&format!("{node} has come"));
        }
        if wanted.manifest.is_some() {
            for node in &nodes {
                let node_of = format!("node/{node}");
                wait(place, || {
                    ask(place, &["wait", "--for=condition=Ready", &node_of, "--timeout=5s"], None).map(drop)
                })?;
                say(&format!("{node} is Ready"));
            }
            for (namespace, what) in [("podwire", "daemonset/podwired"), ("kube-system", "deployment/coredns")] {
                let rollout = ["rollout", "status", "--namespace", namespace, what, "--timeout=5s"];
                wait(place, || ask(place, &rollout, None).map(drop))?;
                say(&format!("{what} is ready"));
            }
        }
        Ok(())
    };
    steps().map_err(|why| {
        let owners = [control_plane::OWNER.to_owned()].into_iter().chain(nodes.iter().cloned());
        let logs: String = owners.flat_map(|owner| log_files(place, &owner)).map(|log| last_words(&log, 8)).collect();
        format!("{}{logs}{why}", last_words(&place.root.join("world.log"), 20))
    })?;
    eprintln!("Ask it: scripts/kube kubectl get nodes -o wide");
    Ok(())
}

/// Starts the first process of the world, which stays when this one ends.
fn start_world(place: &Place, nodes: u16) -> Result<(), String> {
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    // A copy: nodes are started by it as long as the world lasts, whatever is built meanwhile.
    let copy = place.root.join("podwire-kube");
    fs::copy(&own, &copy).map_err(|error| format!("copy {} to {}: {error}", own.display(), copy.display()))?;
    let log = place.root.join("world.log");
    let open = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let other = open.try_clone().map_err(|error| error.to_string())?;
    let mut isolate = Command::new(program("podwire-isolate").map_err(|error| error.to_string())?);
    isolate.arg("--outlive-parent").arg(copy).args(["world", "--nodes", &nodes.to_string()]);
    isolate.env("PODWIRE_KUBE_STATE", &place.root).stdin(Stdio::null()).stdout(open).stderr(other);
    let mut child = isolate.spawn().map_err(|error| format!("start podwire-isolate: {error}"))?;
    eventually(PATIENCE, || match child.try_wait() {
        Ok(None) if down::world(place).is_some() => Ok(()),
        Ok(Some(status)) => Err(format!("the world has ended: {status}")),
        _ => Err("the world has not come to be".into()),
    })
    .map_err(|why| format!("{}{why}", last_words(&log, 20)))
}

/// Waits until something holds in a world that goes on. It is tried by kubectl, which is no small program: not all the time.
fn wait(place: &Place, mut attempt: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(why) = attempt() else { return Ok(()) };
        if down::world(place).is_none() {
            return Err(format!("the world has ended: {why}"));
        }
        if Instant::now() >= deadline {
            return Err(format!("not within {PATIENCE:?}: {why}"));
        }
        std::thread::sleep(PAUSE);
    }
}

fn apply(place: &Place, file: &str, text: Option<&str>) -> Result<(), String> {
    // What a manifest needs may come a moment later than the API's readiness: the default accounts, and its own namespace.
    wait(place, || ask(place, &["apply", "--filename", file], text).map(drop))
}

/// What kubectl answers in the world to whoever is outside.
fn ask(place: &Place, arguments: &[&str], input: Option<&str>) -> Result<String, String> {
    let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut command = Command::new(own);
    command.arg("kubectl").args(arguments).env("PODWIRE_KUBE_STATE", &place.root);
    let answer = podwire_tests::lab::runtime::converse(&mut command, input.unwrap_or_default());
    let answer = answer.map_err(|error| format!("start podwire-kube: {error}"))?;
    match answer.code {
        Some(0) => Ok(answer.output),
        _ => Err(format!("kubectl {}: {}{}", arguments.join(" "), answer.output, answer.log)),
    }
}

/// Prints the end of every log of an owner.
pub(crate) fn logs(place: &Place, owner: &str, lines: usize) -> Result<(), String> {
    let files = log_files(place, owner);
    if files.is_empty() {
        return Err(format!("{} has no logs: node-1, node-2, … and {} have", owner, control_plane::OWNER));
    }
    let text: String = files.iter().map(|log| last_words(log, lines)).collect();
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())
}

fn log_files(place: &Place, owner: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.of(owner)).into_iter().flatten().filter_map(Result::ok);
    let is_log = |path: &PathBuf| Path::new(path).extension().is_some_and(|extension| extension == "log");
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_log).collect();
    files.sort();
    files
}
