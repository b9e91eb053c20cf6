//! The CNI protocol: environment and stdin become a [`Request`], a [`Success`] or a [`Failure`] becomes the answer.
//!
//! The only file that names `CNI_*` variables and keys of a result. Nothing here touches the kernel or the disk.
//! (CNI specification 1.1.0, sections 2 to 5.)

use std::fmt;
use std::io::Read;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_conf::Network;
use podwire_kernel::{Mac, family};
use serde_json::{Value, json};

/// The versions of the protocol that are spoken, ascending.
pub const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What the runtime asks for.
#[derive(Debug)]
pub enum Request {
    /// No verb: somebody ran the program by hand, or wants to know which one it is.
    About,
    /// Which versions are spoken. Whatever is on stdin is not waited for.
    Version,
    /// Attach a pod.
    Add(Box<Add>),
    /// Detach a pod.
    Del(Box<Del>),
}

/// Which attachment: the key of all state (CNI specification, section 2, "Parameters").
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// The runtime's id of the pod.
    pub container: String,
    /// Name of the interface in the pod.
    pub interface: String,
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
    /// How.
    pub network: Network,
    /// The version of the protocol that the answer is in.
    pub version: String,
    previous: Option<Value>,
    dns: Option<Value>,
}

/// A request to detach a pod. It has no more than the key, so that nothing but the key can be missing.
#[derive(Debug)]
pub struct Del {
    /// What is to be detached.
    pub attachment: Attachment,
    /// The version of the protocol that the answer is in.
    pub version: String,
}

/// What an attachment has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Success {
    /// Name and address of the veth's end on the host.
    pub host: (String, Mac),
    /// Address of the veth's end in the pod.
    pub pod_mac: Mac,
    /// MTU of both, in bytes.
    pub mtu: u32,
    /// The pod's addresses with their gateways, IPv4 first.
    pub addresses: Vec<(IpAddr, IpAddr)>,
    /// The pod's routes.
    pub routes: Vec<IpNetwork>,
}

/// An error as the protocol has it: a code, a sentence, and details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: Code,
    message: String,
    details: String,
    version: Option<String>,
}

/// Error codes: below 100 those of the specification, from 100 on our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// A version that is not spoken.
    IncompatibleVersion = 1,
    /// A key that is understood but cannot be honoured.
    UnsupportedField = 2,
    /// An environment variable is missing or has a value that cannot be used.
    Environment = 4,
    /// A file, stdin or stdout failed.
    Io = 5,
    /// What came on stdin is no JSON object.
    Decode = 6,
    /// The network configuration cannot be used.
    Configuration = 7,
    /// The network namespace cannot be used.
    Namespace = 8,
    /// Try again later.
    TryAgain = 11,
    /// No address is left.
    Exhausted = 100,
    /// The attachment exists already.
    AlreadyAttached = 101,
    /// The kernel refused.
    Kernel = 102,
    /// The ledger holds something that it cannot read.
    Ledger = 103,
}

impl Failure {
    /// A failure: what was wanted or what is wrong, and on what.
    pub fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into(), version: None }
    }

    /// A file or stream that failed.
    pub fn io(wish: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Code::Io, format!("{wish}: {error}"), "")
    }

    /// The error object of the specification, section 5.
    pub fn render(&self) -> String {
        let mut answer = json!({"code": self.code as u32, "msg": self.message});
        answer["cniVersion"] = json!(self.version.as_deref().unwrap_or(VERSIONS[VERSIONS.len() - 1]));
        if !self.details.is_empty() {
            answer["details"] = json!(self.details);
        }
        format!("{answer}\n")
    }

    /// The same failure, to be told in a version of the protocol.
    pub fn in_version(mut self, version: &str) -> Self {
        self.version = VERSIONS.contains(&version).then(|| version.to_owned());
        self
    }
}

impl From<podwire_kernel::Error> for Failure {
    fn from(error: podwire_kernel::Error) -> Self {
        Self::new(Code::Kernel, error.to_string(), "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details) }
    }
}

/// Reads the environment, and stdin where the verb has a configuration on it.
///
/// # Errors
/// What the runtime did not say or said wrongly; nothing has been touched.
pub fn read(environment: &dyn Fn(&str) -> Option<String>, input: &mut dyn Read) -> Result<Request, Failure> {
    // The specification treats an empty variable as a missing one.
    let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
    let Some(verb) = variable("CNI_COMMAND") else { return Ok(Request::About) };
    if verb == "VERSION" {
        return Ok(Request::Version);
    }
    let container = variable("CNI_CONTAINERID");
    let interface = variable("CNI_IFNAME");
    let netns = variable("CNI_NETNS");
    container.as_deref().map_or(Ok(()), check_container)?;
    interface.as_deref().map_or(Ok(()), check_interface)?;

    let document = decode(input)?;
    let version = document.get("cniVersion").map_or(Ok("0.1.0"), |version| {
        version.as_str().ok_or_else(|| Failure::new(Code::Decode, "cniVersion is not a string", version.to_string()))
    })?;
    let request = || -> Result<Request, Failure> {
        let network = check_name(&document)?;
        let needed: &[(&str, bool)] = match verb.as_str() {
            "ADD" => &[
                ("CNI_CONTAINERID", container.is_some()),
                ("CNI_NETNS", netns.is_some()),
                ("CNI_IFNAME", interface.is_some()),
            ],
            "DEL" => &[("CNI_CONTAINERID", container.is_some()), ("CNI_IFNAME", interface.is_some())],
            _ => return Err(Failure::new(Code::Environment, format!("unknown CNI_COMMAND: {verb}"), "")),
        };
        let missing: Vec<_> = needed.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
        let (Some(container), Some(interface), true) = (container, interface, missing.is_empty()) else {
            let message = format!("required env variables [{}] missing", missing.join(","));
            return Err(Failure::new(Code::Environment, message, ""));
        };
        let attachment = Attachment { network, container, interface };
        if !VERSIONS.contains(&version) {
            let details = format!("config is {version:?}, plugin supports {VERSIONS:?}");
            return Err(Failure::new(Code::IncompatibleVersion, "incompatible CNI versions", details));
        }
        let Some(netns) = netns.filter(|_| verb == "ADD") else {
            return Ok(Request::Del(Box::new(Del { attachment, version: version.to_owned() })));
        };
        let pod = pod_name(&variable("CNI_ARGS").unwrap_or_default()).unwrap_or(attachment.container.clone());
        let network = Network::parse(&document)
            .map_err(|wrong| Failure::new(Code::Configuration, format!("network configuration: {wrong}"), ""))?;
        if let Some(kind) = network.ipam.kind.as_deref().filter(|kind| *kind != "podwire") {
            let message = format!("ipam.type {kind:?} is not supported: leave it out or write \"podwire\"");
            return Err(Failure::new(Code::UnsupportedField, message, ""));
        }
        let key = |name: &str| document.get(name).filter(|value| !value.is_null()).cloned();
        let (version, previous, dns) = (version.to_owned(), key("prevResult"), key("dns"));
        if let Some(previous) = previous.as_ref().filter(|previous| !previous.is_object()) {
            return Err(Failure::new(Code::Configuration, "prevResult is not an object", previous.to_string()));
        }
        Ok(Request::Add(Box::new(Add { attachment, netns, pod, network, version, previous, dns })))
    };
    request().map_err(|failure| failure.in_version(version))
}

fn decode(input: &mut dyn Read) -> Result<Value, Failure> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| Failure::io("error reading from stdin", &error))?;
    let document: Value = serde_json::from_slice(&bytes)
        .map_err(|error| Failure::new(Code::Decode, format!("network configuration on stdin: {error}"), ""))?;
    match document {
        Value::Object(_) => Ok(document),
        Value::Null => Ok(json!({})),
        _ => Err(Failure::new(Code::Decode, "network configuration on stdin: not an object", "")),
    }
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
        Some(Value::String(name)) if is_name(name) => Ok(name.clone()),
        Some(Value::String(name)) => {
            Err(Failure::new(Code::Configuration, "invalid characters found in network name", name.as_str()))
        }
        Some(other) => Err(Failure::new(Code::Decode, "name is not a string", other.to_string())),
    }
}

/// `K8S_POD_NAMESPACE` and `K8S_POD_NAME` out of `CNI_ARGS`, as far as they are there.
fn pod_name(arguments: &str) -> Option<String> {
    let value = |wanted: &str| {
        let mut pairs = arguments.split(';').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, value)| *key == wanted && !value.is_empty()).map(|(_, value)| value.to_owned())
    };
    let name = value("K8S_POD_NAME")?;
    Some(value("K8S_POD_NAMESPACE").map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}")))
}

/// The answer to VERSION, in the highest version that is spoken.
pub fn render_versions() -> String {
    format!("{}\n", json!({"cniVersion": VERSIONS[VERSIONS.len() - 1], "supportedVersions": VERSIONS}))
}

impl Success {
    /// The result in the version of the request, behind what earlier plugins of the chain have done.
    pub fn render(&self, request: &Add) -> String {
        let version = request.version.as_str();
        let mut answer = request.previous.clone().unwrap_or_else(|| json!({}));
        answer["cniVersion"] = json!(version);
        let before = answer["interfaces"].as_array().map_or(0, Vec::len);

        let mut host = json!({"name": self.host.0, "mac": self.host.1.to_string()});
        let mut pod = json!({
            "name": request.attachment.interface, "mac": self.pod_mac.to_string(), "sandbox": request.netns,
        });
        if version == "1.1.0" {
            host["mtu"] = json!(self.mtu);
            pod["mtu"] = json!(self.mtu);
        }
        append(&mut answer, "interfaces", [host, pod]);

        let addresses = self.addresses.iter().map(|(address, gateway)| {
            let mut entry = json!({"address": family::host(*address), "gateway": gateway, "interface": before + 1});
            if !version.starts_with("1.") {
                entry["version"] = json!(if address.is_ipv4() { "4" } else { "6" });
            }
            entry
        });
        append(&mut answer, "ips", addresses);

        let gateway = |route: &IpNetwork| {
            let mut gateways = self.addresses.iter().map(|(_, gateway)| *gateway);
            gateways.find(|gateway| gateway.is_ipv4() == route.is_ipv4())
        };
        append(&mut answer, "routes", self.routes.iter().map(|route| json!({"dst": route, "gw": gateway(route)})));
        if let Some(dns) = &request.dns {
            answer["dns"] = dns.clone();
        } else if answer.get("dns").is_none() && !version.starts_with("1.") {
            answer["dns"] = json!({});
        }
        format!("{answer}\n")
    }
}

fn append(answer: &mut Value, key: &str, entries: impl IntoIterator<Item = Value>) {
    let mut list = answer[key].as_array().cloned().unwrap_or_default();
    list.extend(entries);
    if !list.is_empty() {
        answer[key] = Value::Array(list);
    } else if let Some(answer) = answer.as_object_mut() {
        answer.remove(key);
    }
}

#[cfg(test)]
mod tests;
