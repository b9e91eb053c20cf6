//! The CNI protocol: environment and stdin become a [`Request`], a [`Success`] or a [`Failure`] becomes the answer.
//!
//! The only module that names `CNI_*` variables and keys of a result. Nothing here touches the kernel or the disk.
//! (CNI specification 1.1.0, sections 2 to 5.)

mod arguments;
mod failure;
mod result;

use std::collections::HashSet;
use std::io::Read;

use podwire_attachment::names::Attachment;
use podwire_conf::{Dns, Network, Requested};
use serde_json::{Map, Value, json};

use arguments::Arguments;

pub use failure::{Code, Failure};
pub use result::{Previous, Success, is_single};

/// The versions of the protocol that are spoken, ascending.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What the runtime asks for.
#[derive(Debug)]
pub enum Request {
    /// No verb: somebody ran the program by hand, or wants to know which one it is.
    About,
    /// Which versions are spoken.
    Version {
        /// The version that the runtime speaks, where it is one of ours, else our highest.
        version: &'static str,
    },
    /// Attach a pod.
    Add(Box<Add>),
    /// Detach a pod.
    Del(Box<Del>),
    /// Tell whether a pod is attached as ADD attached it.
    Check(Box<Check>),
    /// Detach every pod that the runtime does not know any more.
    Gc(Box<Gc>),
    /// Tell whether an ADD could be served.
    Status(Box<Status>),
}

/// Another plugin that gives addresses, and how it is called (CNI specification, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegate {
    /// Its name, `ipam.type`.
    pub kind: String,
    /// Directories to look for it in, separated by colons (`CNI_PATH`).
    pub path: String,
    /// What it is given on stdin: what this plugin was given.
    pub input: Vec<u8>,
}

/// A request to attach a pod.
#[derive(Debug)]
pub struct Add {
    /// What is to be attached.
    pub attachment: Attachment,
    /// Path of the pod's network namespace.
    pub netns: String,
    /// A name for humans, `namespace/name` on Kubernetes, else the container id.
    pub pod: String,
    /// Whether the container is the sandbox of a pod of Kubernetes: then the runtime's CRI knows it by this id. (Podman tells
    /// the name of a pod as well, but not this.)
    pub sandbox: bool,
    /// How.
    pub network: Network,
    /// What this pod is to have beside what every pod of the network has.
    pub requested: Requested,
    /// Name servers, where the configuration says something.
    pub dns: Option<Dns>,
    /// The version of the protocol that the answer is in.
    pub version: &'static str,
    /// What earlier plugins of the chain have made.
    pub previous: Option<Previous>,
    /// Where addresses come from, when not from here.
    pub delegate: Option<Delegate>,
    /// Whether the pod may have the plugin's own network namespace (`CNI_NETNS_OVERRIDE`, for tests of plugins).
    pub may_be_own_netns: bool,
}

/// A request to detach a pod. It has no more than the key, so that nothing but the key can be missing.
#[derive(Debug)]
pub struct Del {
    /// What is to be detached.
    pub attachment: Attachment,
    /// Path of the pod's network namespace, where the runtime still has one.
    pub netns: Option<String>,
    /// The version of the protocol that the answer is in.
    pub version: &'static str,
    /// Where addresses came from, when not from here.
    pub delegate: Option<Delegate>,
}

/// A question whether a pod is attached as ADD attached it.
#[derive(Debug)]
pub struct Check {
    /// What ADD was asked for: it is asked for again.
    pub add: Add,
    /// What all plugins of the chain have made.
    pub previous: Previous,
}

/// A request to detach every pod that is not valid any more.
#[derive(Debug)]
pub struct Gc {
    /// Name of the network.
    pub network: String,
    /// The attachments that are valid: container and interface.
    pub valid: HashSet<(String, String)>,
    /// The version of the protocol that the answer is in.
    pub version: &'static str,
    /// Where addresses came from, when not from here.
    pub delegate: Option<Delegate>,
}

/// A question whether an ADD could be served.
#[derive(Debug)]
pub struct Status {
    /// Name of the network.
    pub name: String,
    /// The version of the protocol that the answer is in.
    pub version: &'static str,
    /// The plugin's own part of the configuration.
    pub network: Network,
    /// Where addresses come from, when not from here.
    pub delegate: Option<Delegate>,
}

/// The environment of a call.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the environment, and stdin where the verb has a configuration on it.
///
/// # Errors
/// What the runtime did not say or said wrongly; nothing has been touched.
pub fn read(environment: Environment<'_>, input: &mut dyn Read) -> Result<Request, Failure> {
    // The specification treats an empty variable as a missing one.
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    let Some(verb) = variable("CNI_COMMAND") else { return Ok(Request::About) };
    if verb == "VERSION" {
        return Ok(Request::Version { version: asked_version(input) });
    }
    let named = matches!(verb.as_str(), "ADD" | "DEL" | "CHECK");
    if named {
        variable("CNI_CONTAINERID").as_deref().map_or(Ok(()), check_container)?;
        variable("CNI_IFNAME").as_deref().map_or(Ok(()), check_interface)?;
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| Failure::io("error reading from stdin", &error))?;
    let document = decode(&bytes)?;
    let version = match document.get("cniVersion") {
        None | Some(Value::Null) => "0.1.0",
        Some(Value::String(version)) if version.is_empty() => "0.1.0",
        Some(Value::String(version)) => version,
        Some(other) => return Err(Failure::new(Code::Decode, "cniVersion is not a string", other.to_string())),
    };
    let call = Call { verb: &verb, variable: &variable, document: &document, bytes: &bytes };
    call.request(version).map_err(|failure| failure.in_version(version))
}

/// A call whose configuration has been decoded.
struct Call<'a> {
    verb: &'a str,
    variable: &'a dyn Fn(&str) -> Option<String>,
    document: &'a Value,
    bytes: &'a [u8],
}

impl Call<'_> {
    fn request(&self, version: &str) -> Result<Request, Failure> {
        let name = check_name(self.document)?;
        let needed: &[&str] = match self.verb {
            "ADD" | "CHECK" => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            "DEL" => &["CNI_CONTAINERID", "CNI_IFNAME"],
            "GC" | "STATUS" => &[],
            verb => return Err(Failure::new(Code::Environment, format!("unknown CNI_COMMAND: {verb}"), "")),
        };
        let missing: Vec<_> = needed.iter().copied().filter(|name| (self.variable)(name).is_none()).collect();
        if !missing.is_empty() {
            let message = format!("required env variables [{}] missing", missing.join(","));
            return Err(Failure::new(Code::Environment, message, ""));
        }
        let version = self.spoken(version)?;
        let get = |name: &str| (self.variable)(name).unwrap_or_default();
        let attachment =
            Attachment { network: name.clone(), container: get("CNI_CONTAINERID"), interface: get("CNI_IFNAME") };
        Ok(match self.verb {
            "ADD" => Request::Add(Box::new(self.add(attachment, version)?)),
            "CHECK" => {
                let add = self.add(attachment, version)?;
                let previous = add.previous.clone().ok_or_else(|| {
                    Failure::new(Code::Configuration, "Required prevResult missing", "CHECK compares with it")
                })?;
                Request::Check(Box::new(Check { add, previous }))
            }
            "GC" => {
                let (valid, delegate) = (valid_attachments(self.document)?, self.delegate()?);
                Request::Gc(Box::new(Gc { network: name, valid, version, delegate }))
            }
            "STATUS" => {
                let network = Network::parse(self.document)?;
                Request::Status(Box::new(Status { name, version, network, delegate: self.delegate()? }))
            }
            _ => {
                let netns = (self.variable)("CNI_NETNS");
                Request::Del(Box::new(Del { attachment, netns, version, delegate: self.delegate()? }))
            }
        })
    }

    /// The version of the request, when it is spoken and has the verb.
    fn spoken(&self, version: &str) -> Result<&'static str, Failure> {
        let since = match self.verb {
            "CHECK" => Some([0, 4, 0]),
            "GC" | "STATUS" => Some([1, 1, 0]),
            _ => None,
        };
        if let Some(since) = since {
            let Some(numbers) = numbers(version) else {
                return Err(Failure::new(Code::Decode, format!("cniVersion {version:?} is not a version"), ""));
            };
            if numbers < since {
                let message = format!("config version does not allow {}", self.verb);
                return Err(Failure::new(Code::IncompatibleVersion, message, format!("config is {version:?}")));
            }
        }
        VERSIONS.into_iter().find(|spoken| *spoken == version).ok_or_else(|| {
            let details = format!("config is {version:?}, plugin supports {VERSIONS:?}");
            Failure::new(Code::IncompatibleVersion, "incompatible CNI versions", details)
        })
    }

    fn add(&self, attachment: Attachment, version: &'static str) -> Result<Add, Failure> {
        let arguments = Arguments::parse(&(self.variable)("CNI_ARGS").unwrap_or_default())?;
        let previous = self.document.get("prevResult").filter(|value| !value.is_null());
        let add = Add {
            netns: (self.variable)("CNI_NETNS").unwrap_or_default(),
            pod: arguments.pod().unwrap_or_else(|| attachment.container.clone()),
            network: Network::parse(self.document)?,
            sandbox: arguments.get("K8S_POD_INFRA_CONTAINER_ID") == Some(&attachment.container),
            requested: Requested::parse(self.document, arguments.get("IP"), arguments.get("MAC"))?,
            dns: Dns::parse(self.document)?,
            version,
            previous: previous.map(|value| Previous::parse(value, version)).transpose()?,
            delegate: self.delegate()?,
            may_be_own_netns: (self.variable)("CNI_NETNS_OVERRIDE")
                .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true")),
            attachment,
        };
        if is_single(version) {
            check_single(&add)?;
        }
        Ok(add)
    }

    /// The plugin that gives addresses, where `ipam.type` names another one. Read without the rest of the configuration,
    /// of which DEL needs nothing.
    fn delegate(&self) -> Result<Option<Delegate>, Failure> {
        let ipam = self.document.get("ipam").and_then(Value::as_object).cloned().unwrap_or_default();
        let folded = || ipam.iter().find(|(name, _)| name.eq_ignore_ascii_case("type")).map(|(_, value)| value);
        let kind = ipam.get("type").or_else(folded).and_then(Value::as_str);
        let Some(kind) = kind.filter(|kind| !kind.is_empty() && *kind != "podwire") else {
            return Ok(None);
        };
        if kind.contains('/') {
            let message = format!("ipam.type {kind:?} is a path: it has to be the name of a plugin in CNI_PATH");
            return Err(Failure::new(Code::Configuration, message, ""));
        }
        let path = (self.variable)("CNI_PATH");
        // What is podwire's own is taken away first; then it is an error.
        let path = if self.verb == "DEL" { Some(path.unwrap_or_default()) } else { path };
        let Some(path) = path else {
            let message = format!("required env variables [CNI_PATH] missing: ipam.type is {kind:?}");
            return Err(Failure::new(Code::Environment, message, ""));
        };
        Ok(Some(Delegate { kind: kind.to_owned(), path, input: self.bytes.to_vec() }))
    }
}

/// The version on stdin, where it is one of ours, else our highest. A runtime need not send anything.
fn asked_version(input: &mut dyn Read) -> &'static str {
    let mut bytes = Vec::new();
    // What cannot be read is nothing.
    let _ = input.read_to_end(&mut bytes);
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let asked = document.get("cniVersion").and_then(Value::as_str);
    let spoken = asked.and_then(|asked| VERSIONS.into_iter().find(|spoken| *spoken == asked));
    spoken.unwrap_or(VERSIONS[VERSIONS.len() - 1])
}

/// A version as numbers, as far as it is one.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let mut numbers = [0; 3];
    for (place, number) in numbers.iter_mut().enumerate() {
        match parts.next() {
            Some(part) => *number = part?,
            None if place > 0 => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(numbers)
}

fn decode(bytes: &[u8]) -> Result<Value, Failure> {
    let document: Value = serde_json::from_slice(bytes)
        .map_err(|error| Failure::new(Code::Decode, format!("network configuration on stdin: {error}"), ""))?;
    match document {
        Value::Object(entries) => Ok(Value::Object(canonical(entries))),
        Value::Null => Ok(json!({})),
        _ => Err(Failure::new(Code::Decode, "network configuration on stdin: not an object", "")),
    }
}

/// The keys that are read here, under the names that they are read by: Go's decoder, which most plugins use, takes them
/// in any case.
fn canonical(mut entries: Map<String, Value>) -> Map<String, Value> {
    const KEYS: [&str; 4] = ["cniVersion", "name", "ipam", "prevResult"];
    for key in KEYS {
        if !entries.contains_key(key)
            && let Some(found) = entries.keys().find(|found| found.eq_ignore_ascii_case(key)).cloned()
            && let Some(value) = entries.remove(&found)
        {
            entries.insert(key.to_owned(), value);
        }
    }
    entries
}

/// In versions whose results have one address for each family, no more than that may be given.
fn check_single(add: &Add) -> Result<(), Failure> {
    for ipv4 in [true, false] {
        let sets = add.network.ipam.ranges.iter().filter(|set| set[0].subnet.is_ipv4() == ipv4).count();
        let requested = add.requested.addresses.iter().filter(|address| address.is_ipv4() == ipv4).count();
        let before = add.previous.as_ref().is_some_and(|previous| previous.has_single(ipv4));
        if sets.max(requested) + usize::from(before) > 1 {
            let message = format!("CNI version {} does not support more than 1 address per family", add.version);
            return Err(Failure::new(Code::Configuration, message, "a cniVersion from 0.3.0 does"));
        }
    }
    Ok(())
}

/// The valid attachments of a GC. `null` is how Go writes an empty list; no key at all is a runtime that did not say, and
/// what it did not say must not be taken for "none".
fn valid_attachments(document: &Value) -> Result<HashSet<(String, String)>, Failure> {
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let Some((key, list)) = keys.iter().find_map(|key| Some((key, document.get(*key)?))) else {
        let message = format!("{} is missing: without it every attachment would be taken away", keys[0]);
        return Err(Failure::new(Code::Configuration, message, ""));
    };
    let entries = match list {
        Value::Null => &[],
        Value::Array(entries) => entries.as_slice(),
        other => return Err(Failure::new(Code::Configuration, format!("{key} is not a list"), other.to_string())),
    };
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let pair = |entry: &Value| Some((text(entry, "containerID")?, text(entry, "ifname")?));
    Ok(entries.iter().filter_map(pair).collect())
}

/// Section 2: starts with an alphanumeric character, then any of `a-z A-Z 0-9 _ . -`.
fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|other| other.is_ascii_alphanumeric() || matches!(other, '_' | '.' | '-'))
}

fn check_container(id: &str) -> Result<(), Failure> {
    if is_name(id) { Ok(()) } else { Err(Failure::new(Code::Environment, "invalid characters in containerID", id)) }
}

fn check_interface(name: &str) -> Result<(), Failure> {
    let refuse = |message: &str, details: &str| Err(Failure::new(Code::Environment, message, details));
    match name {
        "." | ".." => refuse("interface name is . or ..", ""),
        "all" | "default" => refuse("interface name is that of a kernel setting for every interface", name),
        _ if name.len() > 15 => {
            refuse("interface name is too long", "interface name should be less than 16 characters")
        }
        _ if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) => {
            refuse("interface name contains / or : or whitespace characters", name)
        }
        // The kernel's `isspace` knows Latin-1, whatever the name is written in: "à" has its no-break space.
        _ if name.bytes().any(|byte| byte == 0xa0) => {
            refuse("interface name has a byte that is a space to the kernel", name)
        }
        _ if name.contains('%') => refuse("interface name contains %, which the kernel reads as a template", name),
        _ => Ok(()),
    }
}

fn check_name(document: &Value) -> Result<String, Failure> {
    match document.get("name") {
        None | Some(Value::Null) => Err(Failure::new(Code::Configuration, "missing network name", "")),
        Some(Value::String(name)) if name.is_empty() => {
            Err(Failure::new(Code::Configuration, "missing network name", ""))
        }
        Some(Value::String(name)) if is_name(name) && name.len() <= MAX_NAME => Ok(name.clone()),
        Some(Value::String(name)) if is_name(name) => Err(Failure::new(
            Code::Configuration,
            format!("network name is longer than {MAX_NAME} characters"),
            name.as_str(),
        )),
        Some(Value::String(name)) => {
            Err(Failure::new(Code::Configuration, "invalid characters found in network name", name.as_str()))
        }
        Some(other) => Err(Failure::new(Code::Decode, "name is not a string", other.to_string())),
    }
}

/// `NAME_MAX` (uapi/linux/limits.h): the ledger of a network is a directory of its name.
const MAX_NAME: usize = 255;

/// The answer to VERSION.
pub fn render_versions(version: &str) -> String {
    format!("{}\n", json!({"cniVersion": version, "supportedVersions": VERSIONS}))
}

#[cfg(test)]
mod tests;
