//! The daemon's program as a user calls it on a node.

use std::process::Command;

use podwire_tests::lab::host::{Host, SHARED};
use podwire_tests::lab::node::Node;
use podwire_tests::lab::program;
use serde_json::Value;

use crate::expect::Outcome;

/// What a command has answered.
pub(crate) struct Answer {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// Its standard output.
    pub(crate) said: String,
    /// Its standard error.
    pub(crate) complaint: String,
}

/// Runs a command of podwired on a host.
pub(crate) fn podwired(host: &Host, arguments: &[&str]) -> Outcome<Answer> {
    let program = program("podwired").map_err(|error| error.to_string())?;
    let output = host.enter(|| Command::new(program).args(arguments).output());
    let output = output.map_err(|error| format!("podwired {}: {error}", arguments.join(" ")))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer { code: output.status.code(), said: text(output.stdout), complaint: text(output.stderr) })
}

/// The JSON that a command of podwired answers.
pub(crate) fn json(host: &Host, arguments: &[&str]) -> Outcome<Value> {
    let Answer { said, complaint, .. } = podwired(host, arguments)?;
    serde_json::from_str(&said).map_err(|error| format!("podwired {}: {error}: {said}{complaint}", arguments.join(" ")))
}

/// Starts a node's daemon with more arguments than usual.
pub(crate) fn start(node: &mut Node, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program("podwired").map_err(|error| error.to_string())?);
    command.args(["run", "--node-name", &node.host.name, "--nodes", &format!("{SHARED}/nodes.toml")]).args(arguments);
    node.daemon = Some(node.host.start(&format!("podwired of {}", node.host.name), &mut command)?);
    Ok(())
}
