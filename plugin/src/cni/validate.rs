//! Checks of a request: what the specification and the kernel allow in its names and lists.

use std::collections::HashSet;

use podwire_conf::shown;
use serde_json::Value;

use super::failure::{Code, Failure};
use super::request::Add;

/// In versions whose results have one address for each family, no more can be requested.
pub(super) fn check_single(add: &Add) -> Result<(), Failure> {
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

/// The valid attachments of a GC. `null` is how Go encodes an empty list. A missing key is an error: it must not be taken for
/// an empty list.
pub(super) fn valid_attachments(document: &Value) -> Result<HashSet<(String, String)>, Failure> {
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let Some((key, list)) = keys.iter().find_map(|key| Some((key, document.get(*key)?))) else {
        let message = format!("{} is missing: without it every attachment would be removed", keys[0]);
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

/// CNI specification, section 2: starts with an alphanumeric character, then any of `a-z A-Z 0-9 _ . -`.
fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && characters.all(|other| other.is_ascii_alphanumeric() || matches!(other, '_' | '.' | '-'))
}

pub(super) fn check_container(id: &str) -> Result<(), Failure> {
    if is_name(id) { Ok(()) } else { Err(Failure::new(Code::Environment, "invalid characters in containerID", id)) }
}

pub(super) fn check_interface(name: &str) -> Result<(), Failure> {
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
        // The kernel takes them: every list of devices would then act on a terminal.
        _ if !name.chars().all(shown::is_shown) => {
            refuse("interface name contains characters that are not seen as what they are", name)
        }
        // The kernel's `isspace` works on Latin-1, whatever the encoding of the name: a byte of "à" is its no-break space.
        _ if name.bytes().any(|byte| byte == 0xa0) => {
            refuse("interface name has a byte that is a space to the kernel", name)
        }
        _ if name.contains('%') => refuse("interface name contains %, which the kernel reads as a template", name),
        _ => Ok(()),
    }
}

pub(super) fn check_name(document: &Value) -> Result<String, Failure> {
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
