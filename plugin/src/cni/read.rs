//! From environment and stdin to a request.

use std::io::Read;

use podwire_attachment::names::Attachment;
use podwire_conf::{Dns, Network, Requested};
use serde_json::{Map, Value, json};

use super::arguments::Arguments;
use super::failure::{Code, Failure};
use super::request::{Add, Check, Del, Delegate, Gc, Request, Status};
use super::result::Previous;
use super::validate::{check_container, check_interface, check_name, check_single, valid_attachments};
use super::versions::{VERSIONS, is_single, numbers};

/// The bytes that stdin may have: a conflist has some thousands, 65,535 host ports have four million.
const LIMIT: u64 = 8 << 20;

/// The environment of a call.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the environment, and stdin if the verb has a configuration.
///
/// # Errors
/// What is missing or wrong in the request; nothing has been changed.
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
    let bytes = whole(input)?;
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

/// A call with its decoded configuration.
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
        let version = self.supported(version)?;
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

    /// The version of the request, if it is supported and has the verb.
    fn supported(&self, version: &str) -> Result<&'static str, Failure> {
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
        VERSIONS.into_iter().find(|supported| *supported == version).ok_or_else(|| {
            let details = format!("config is {version:?}, plugin supports {VERSIONS:?}");
            Failure::new(Code::IncompatibleVersion, "incompatible CNI versions", details)
        })
    }

    fn add(&self, attachment: Attachment, version: &'static str) -> Result<Add, Failure> {
        let arguments = Arguments::parse(&(self.variable)("CNI_ARGS").unwrap_or_default())?;
        let previous = self.document.get("prevResult").filter(|value| !value.is_null());
        let network = Network::parse(self.document)?;
        let add = Add {
            netns: (self.variable)("CNI_NETNS").unwrap_or_default(),
            pod: arguments.pod().unwrap_or_else(|| attachment.container.clone()),
            pod_name: arguments.pod_name(),
            labels: arguments.labels(&network.labels)?,
            network,
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

    /// The IPAM plugin, if `ipam.type` names another one. Read without the rest of the configuration, which DEL does not need.
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
        // Without it DEL removes what is podwire's own, and then fails.
        let path = if self.verb == "DEL" { Some(path.unwrap_or_default()) } else { path };
        let Some(path) = path else {
            let message = format!("required env variables [CNI_PATH] missing: ipam.type is {kind:?}");
            return Err(Failure::new(Code::Environment, message, ""));
        };
        Ok(Some(Delegate { kind: kind.to_owned(), path, input: self.bytes.to_vec() }))
    }
}

/// The version on stdin if it is supported, else our highest. A runtime may send nothing.
fn asked_version(input: &mut dyn Read) -> &'static str {
    // Unreadable input counts as none.
    let bytes = whole(input).unwrap_or_default();
    let document: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let asked = document.get("cniVersion").and_then(Value::as_str);
    let supported = asked.and_then(|asked| VERSIONS.into_iter().find(|supported| *supported == asked));
    supported.unwrap_or(VERSIONS[VERSIONS.len() - 1])
}

/// All of stdin, up to [`LIMIT`].
fn whole(input: &mut dyn Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = input.take(LIMIT + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::io("error reading from stdin", &error))?;
    if bytes.len() as u64 > LIMIT {
        let message = format!("network configuration on stdin: more than {LIMIT} bytes");
        return Err(Failure::new(
            Code::Decode,
            message,
            "the conflist, the results of earlier plugins or the host ports are too many",
        ));
    }
    Ok(bytes)
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

/// Renames the keys that are read here to their canonical case: Go's decoder, which most plugins use, ignores case.
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
