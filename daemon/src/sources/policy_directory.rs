//! A directory with the objects that policies follow from, where there is no API: read on a thread of its own, and read again
//! when one of its files has changed. What was read last stays until all files can be used.
//!
//! What may not live here: what is in the files (`policy_files`), and when policies are compiled (`reconcile`).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use crate::sources::policy_files::{self, Content, Files, Unusable};
use crate::sources::policy_objects::{Objects, Origin, PolicyObjects};
use crate::sources::stamp::{INTERVAL, RESTLESS};

/// How soon files that cannot be read are tried again, when none of them has changed.
const AGAIN: Duration = Duration::from_secs(5);

/// How many files are named that cannot be used.
const NAMED: usize = 20;

/// Follows the directory; each change wakes.
///
/// # Errors
/// When there is no such directory, or no thread to be had. A file in it that cannot be used is no error: the node has a network
/// without it.
pub(crate) fn start(directory: &Path, wake: &SyncSender<()>) -> io::Result<PolicyObjects> {
    let missing = |unusable| match unusable {
        Unusable::Directory { .. } => Err(io::Error::other(format!(
            "{unusable}: create it, or correct --policies; podwired does not start without it, and leaves what it has made as it is"
        ))),
        _ => Ok(()),
    };
    policy_files::list(directory).map(drop).or_else(missing)?;
    let objects = PolicyObjects::default();
    objects.change(|objects| objects.origin = Origin::Files);
    let follower = Follower {
        directory: directory.into(),
        objects: objects.clone(),
        wake: wake.clone(),
        seen: None,
        dealt_with: None,
        rested: Instant::now(),
        again: None,
        logged: Vec::new(),
    };
    thread::Builder::new().name("policy-files".into()).spawn(move || follower.run())?;
    Ok(objects)
}

/// A state of the directory: its files, or why it cannot be listed. That it is not there is a state as well, and that it has too
/// many files another one: the error's words tell them apart.
type State = Result<Files, String>;

struct Follower {
    directory: PathBuf,
    objects: PolicyObjects,
    wake: SyncSender<()>,
    /// The state that was seen last.
    seen: Option<State>,
    /// The state that the objects, or what is wrong, come from.
    dealt_with: Option<State>,
    /// When nothing was changing the last time.
    rested: Instant,
    /// When to read once more although nothing has changed.
    again: Option<Instant>,
    /// What was last said to be wrong.
    logged: Vec<String>,
}

impl Follower {
    fn run(mut self) {
        let mut goes_on = true;
        while goes_on {
            goes_on = self.look();
            thread::sleep(INTERVAL);
        }
    }

    /// Looks once. Whether somebody still wants to know.
    fn look(&mut self) -> bool {
        let listed = policy_files::list(&self.directory);
        let state = state_of(&listed);
        // At the start once is enough for files that have been as they are for a while.
        let settled = match &self.seen {
            Some(seen) => *seen == state,
            None => state.as_ref().is_ok_and(are_at_rest),
        };
        self.seen = Some(state.clone());
        if !settled {
            if self.rested.elapsed() < RESTLESS {
                return true;
            }
            // When they rest again that is said, even if they are as they were before.
            self.dealt_with = None;
            return self.fail(&[Unusable::Restless { path: self.directory.clone() }]);
        }
        if self.dealt_with.as_ref() == Some(&state) && self.again.is_none_or(|again| again > Instant::now()) {
            self.rested = Instant::now();
            return true;
        }
        let read =
            listed.map_err(|unusable| vec![unusable]).and_then(|files| policy_files::read(&self.directory, &files));
        if state_of(&policy_files::list(&self.directory)) != state {
            return true;
        }
        self.dealt_with = Some(state);
        self.rested = Instant::now();
        self.again = None;
        match read {
            Ok(content) => self.accept(content),
            Err(unusable) => {
                let is_passing = unusable.iter().any(Unusable::is_passing);
                self.again = is_passing.then(|| Instant::now() + AGAIN);
                self.fail(&unusable)
            }
        }
    }

    fn accept(&mut self, Content { pods, namespaces, policies, cluster_policies }: Content) -> bool {
        self.logged.clear();
        let counts = (pods.len(), namespaces.len(), policies.len() + cluster_policies.len());
        let before = self.objects.newest();
        let mut read = Objects { listed: [true; 4], failures: BTreeMap::new(), ..(*before).clone() };
        read.pods.replace(pods.into_iter());
        read.namespaces.replace(namespaces.into_iter());
        read.policies.replace(policies.into_iter());
        read.cluster_policies.replace(cluster_policies.into_iter());
        let is_new = !before.are_complete() || !read.same_as(&before);
        drop(before);
        if is_new {
            let (pods, namespaces, policies) = counts;
            info!(pods, namespaces, policies, "read the policy directory {}", self.directory.display());
        }
        // Nobody else changes them.
        self.change(|objects| *objects = read)
    }

    /// What is known stays, and so does what is in force.
    fn fail(&mut self, unusable: &[Unusable]) -> bool {
        let texts: Vec<_> = unusable.iter().map(ToString::to_string).collect();
        if texts == self.logged {
            return true;
        }
        for text in texts.iter().take(NAMED) {
            warn!("{text}; going on with the policies that could be read last");
        }
        let named = unusable.iter().zip(&texts).take(NAMED);
        let mut failures: BTreeMap<_, _> =
            named.map(|(unusable, text)| (unusable.path().display().to_string(), text.clone())).collect();
        if texts.len() > NAMED {
            let more =
                format!("{} mistakes in the files of the policy directory, {NAMED} of them are named", texts.len());
            failures.insert(self.directory.display().to_string(), more);
        }
        self.logged = texts;
        self.change(|objects| objects.failures = failures)
    }

    fn change(&self, change: impl FnOnce(&mut Objects)) -> bool {
        self.objects.change(change);
        // One wake-up that has not been taken stands for all.
        !matches!(self.wake.try_send(()), Err(TrySendError::Disconnected(())))
    }
}

fn state_of(listed: &Result<Files, Unusable>) -> State {
    match listed {
        Ok(files) => Ok(files.clone()),
        Err(unusable) => Err(unusable.to_string()),
    }
}

fn are_at_rest(files: &Files) -> bool {
    let now = SystemTime::now();
    files.values().all(|stamp| stamp.is_ok_and(|stamp| stamp.is_at_rest(now)))
}
