//! What a scene says to the API, by kubectl: in its own namespace unless it names another.

use std::process::{Child, Stdio};

use podwire_tests::lab::runtime::converse;
use podwire_tests::lab::scene::Outcome;
use serde_json::Value;

use crate::stage::Stage;

impl Stage {
    fn within<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        [&["--namespace", &self.namespace], arguments].concat()
    }

    /// What kubectl answers.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Outcome<String> {
        self.place.ask(&self.within(arguments))
    }

    /// What kubectl answers, as JSON.
    pub(crate) fn look(&self, arguments: &[&str]) -> Outcome<Value> {
        self.place.look(&self.within(arguments))
    }

    /// Applies an object, or a List of them.
    pub(crate) fn apply(&self, object: &Value) -> Outcome {
        self.apply_text(&object.to_string())
    }

    /// Applies a manifest.
    pub(crate) fn apply_text(&self, manifest: &str) -> Outcome {
        let mut kubectl = self.place.kubectl();
        kubectl.args(self.within(&["apply", "--filename", "-"]));
        let answer = converse(&mut kubectl, manifest).map_err(|error| format!("kubectl apply: {error}"))?;
        match answer.code {
            Some(0) => Ok(()),
            _ => Err(format!("kubectl apply: {}{}", answer.output, answer.log)),
        }
    }

    /// Runs a command line in a pod; what it prints.
    pub(crate) fn exec(&self, pod: &str, command: &[&str]) -> Outcome<String> {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }

    /// Runs a shell's line in a pod; what it prints.
    pub(crate) fn shell(&self, pod: &str, line: &str) -> Outcome<String> {
        self.exec(pod, &["sh", "-c", line])
    }

    /// A kubectl that goes on until it is dropped.
    pub(crate) fn start(&self, arguments: &[&str]) -> Outcome<Going> {
        let mut kubectl = self.place.kubectl();
        let child = kubectl.args(self.within(arguments)).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        child.map(Going).map_err(|error| format!("kubectl {}: {error}", arguments.join(" ")))
    }
}

/// A kubectl that goes on.
pub(crate) struct Going(pub(crate) Child);

impl Drop for Going {
    fn drop(&mut self) {
        // It may have ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
