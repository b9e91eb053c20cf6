//! A list of plugins as libcni calls it: each is told what those before it have answered, at CHECK and DEL what the last
//! has, and DEL goes through the list from its end.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::host::Host;
use super::runtime::{Answer, Call};

/// Where plugins find nft and iptables.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A list of plugins for one container.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The version that all of them are spoken to in.
    pub version: String,
    /// The directory of all plugins but podwire.
    pub others: PathBuf,
    /// Their sections, in the order of the list.
    pub plugins: Vec<Section>,
    /// What the runtime has for capabilities, by their names. A plugin is told what its section declares.
    pub requests: Value,
    /// The container's id.
    pub container: String,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// What each plugin has answered to ADD. The runtime keeps the last one's until DEL, when all have succeeded.
    pub answers: Vec<Value>,
}

/// A plugin of a list.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its section of the conflist.
    pub configuration: Value,
    /// The interface that it is called for. libcni has one for all; what an earlier plugin makes beside that one can come
    /// only from elsewhere.
    pub interface: String,
}

impl From<Value> for Section {
    fn from(configuration: Value) -> Self {
        Self { configuration, interface: "eth0".into() }
    }
}

/// A plugin's section with what those before it have answered.
pub fn with_previous(mut section: Value, previous: &Value) -> Value {
    if !previous.is_null() {
        section["prevResult"] = previous.clone();
    }
    section
}

impl Chain {
    /// ADD of every plugin.
    ///
    /// # Errors
    /// The words of the plugin that refuses. Those before it have done their part: a runtime then calls DEL.
    pub fn add(&mut self, host: &Host) -> Result<(), String> {
        self.answers.clear();
        for plugin in &self.plugins {
            let previous = self.answers.last().unwrap_or(&Value::Null);
            let answer = self.call("ADD", plugin, previous, host)?;
            self.answers.push(answer);
        }
        Ok(())
    }

    /// What the whole list has made: nothing, unless the last plugin has answered.
    pub fn result(&self) -> &Value {
        self.answers.get(self.plugins.len().wrapping_sub(1)).unwrap_or(&Value::Null)
    }

    /// CHECK of every plugin with what the last one has answered to ADD: the words of those that find something. (libcni
    /// asks nobody behind the first of them.)
    pub fn check(&self, host: &Host) -> Vec<String> {
        let plugins = self.plugins.iter();
        plugins.filter_map(|plugin| self.call("CHECK", plugin, self.result(), host).err()).collect()
    }

    /// DEL of every plugin, the last first. Up to version 0.3.1 they are not told what ADD has answered.
    ///
    /// # Errors
    /// The words of the plugin that refuses.
    pub fn del(&self, host: &Host) -> Result<(), String> {
        let previous = if self.version.as_str() < "0.4.0" { &Value::Null } else { self.result() };
        self.plugins.iter().rev().try_for_each(|plugin| self.call("DEL", plugin, previous, host).map(drop))
    }

    fn call(&self, verb: &str, plugin: &Section, previous: &Value, host: &Host) -> Result<Value, String> {
        let mut section = with_previous(plugin.configuration.clone(), previous);
        section["name"] = json!("podwire");
        section["cniVersion"] = json!(self.version);
        for (name, request) in self.requests.as_object().into_iter().flatten() {
            if section["capabilities"][name] == true {
                section["runtimeConfig"][name] = request.clone();
            }
        }
        let kind = section["type"].as_str().unwrap_or_default().to_owned();
        let call = Call::new(verb, &self.container, &self.netns, &section);
        let call = call.interface(&plugin.interface).with("PATH", PATH);
        let call = call.with("CNI_PATH", &self.others.display().to_string());
        let call = if kind == "podwire" { call } else { call.of(&self.others.join(&kind)) };
        let result = call.execute(host).as_ref().map_err(Clone::clone).and_then(Answer::result);
        result.map_err(|why| format!("{verb} of {kind} in {}: {why}", self.version))
    }
}
