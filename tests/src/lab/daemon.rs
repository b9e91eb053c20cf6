//! podwired as a user calls it on a node: started in other ways than the usual one (with more arguments, by another
//! program, with settings), and asked by its commands.

use std::process::Command;

use serde_json::Value;

use super::host::{Host, SHARED};
use super::node::Node;
use super::process::Process;
use super::program;

/// The command line of podwired on a node, behind that of a program that starts it (none: by itself).
///
/// # Errors
/// When podwired is not built.
pub fn command(node: &Node, by: &[&str], arguments: &[&str]) -> Result<Command, String> {
    let podwired = program("podwired").map_err(|error| error.to_string())?;
    let mut command = match by.split_first() {
        None => Command::new(podwired),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(podwired);
            command
        }
    };
    command.args(["run", "--node-name", &node.host.name, "--nodes", &format!("{SHARED}/nodes.toml")]).args(arguments);
    Ok(command)
}

/// Starts podwired on a node with more arguments.
///
/// # Errors
/// When it cannot be executed.
pub fn start(node: &mut Node, arguments: &[&str]) -> Result<(), String> {
    let mut command = command(node, &[], arguments)?;
    node.daemon = Some(node.host.start(&format!("podwired of {}", node.host.name), &mut command)?);
    Ok(())
}

/// Starts podwired on a node with the text of a settings file, and waits until it is ready.
///
/// # Errors
/// What it has said instead.
pub fn start_with_settings(node: &mut Node, settings: &str, arguments: &[&str]) -> Result<(), String> {
    const PLACE: &str = "/run/settings.toml";
    let written = node.host.enter(|| std::fs::write(PLACE, settings));
    written.map_err(|error| format!("write {PLACE} on {}: {error}", node.host.name))?;
    start(node, &[&["--settings", PLACE], arguments].concat())?;
    node.wait_ready()
}

/// Runs podwired with a command that ends, on a host; its standard output.
///
/// # Errors
/// What it said, when it failed.
pub fn once(host: &Host, arguments: &[&str]) -> Result<String, String> {
    let podwired = program("podwired").map_err(|error| error.to_string())?;
    host.run(&podwired.display().to_string(), arguments)
}

/// What a command has answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub said: String,
    /// Its standard error.
    pub complaint: String,
}

/// Runs podwired with a command that ends, on a host, whatever its exit code.
///
/// # Errors
/// When it cannot be executed.
pub fn podwired(host: &Host, arguments: &[&str]) -> Result<Answer, String> {
    let program = program("podwired").map_err(|error| error.to_string())?;
    let output = host.enter(|| Command::new(program).args(arguments).output());
    let output = output.map_err(|error| format!("podwired {}: {error}", arguments.join(" ")))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer { code: output.status.code(), said: text(output.stdout), complaint: text(output.stderr) })
}

/// The JSON that a command of podwired answers.
///
/// # Errors
/// What it has said instead.
pub fn json(host: &Host, arguments: &[&str]) -> Result<Value, String> {
    let Answer { said, complaint, .. } = podwired(host, arguments)?;
    serde_json::from_str(&said).map_err(|error| format!("podwired {}: {error}: {said}{complaint}", arguments.join(" ")))
}

/// The process of a node.
///
/// # Errors
/// When none runs.
pub fn of(node: &Node) -> Result<&Process, String> {
    node.daemon.as_ref().ok_or_else(|| format!("no podwired runs on {}", node.host.name))
}
