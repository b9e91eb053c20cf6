//! Delegation to another IPAM plugin, which is executed with the same environment and input (CNI specification, section 4).
//! The only place that executes a program; how it is executed is in `process`, below.
//!
//! What may not live here: the protocol with the runtime (`cni`), and which verb passes what on.

mod process;

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use podwire_attachment::log;
use podwire_conf::{Dns, Route};
use podwire_kernel::family;
use serde_json::Value;

use crate::cni::{Code, Delegate, Failure};
use crate::delegate::process::{Ended, Finished};

/// What the IPAM plugin has given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Given {
    /// The addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Their prefixes.
    pub(crate) prefixes: Vec<IpNetwork>,
    /// Routes of the pod. Their gateways are ignored: the only neighbour of a pod is its node.
    pub(crate) routes: Vec<Route>,
    /// Name servers.
    pub(crate) dns: Dns,
}

/// Gets addresses from the IPAM plugin. After an error, it is asked to release what it may have given.
pub(crate) fn add(delegate: &Delegate) -> Result<Given, Failure> {
    let given = execute(delegate, "ADD").and_then(|answer| Given::parse(delegate, &answer));
    given.inspect_err(|_| {
        if let Err(failure) = execute(delegate, "DEL") {
            log::note(format_args!("undo: {failure}"));
        }
    })
}

/// Passes on a verb that has no result.
pub(crate) fn pass_on(delegate: &Delegate, verb: &str) -> Result<(), Failure> {
    execute(delegate, verb).map(|_| ())
}

fn execute(delegate: &Delegate, verb: &str) -> Result<Value, Failure> {
    let program = find(delegate)?;
    let executed = process::execute(&program, verb, &delegate.input).map_err(|ended| {
        let kind = &delegate.kind;
        let by_hand = format!("execute {} by hand, with CNI_COMMAND={verb}", program.display());
        match ended {
            Ended::Failed(error) => Failure::io(format!("execute {} for {verb}", program.display()), &error),
            Ended::TooLong => {
                let limit = process::TIME.as_secs();
                let message = format!("ipam plugin {kind}: {verb} took longer than {limit} s, and was ended");
                Failure::new(Code::Io, message, by_hand)
            }
            Ended::TooMuch(stream) => {
                let limit = process::OUTPUT;
                let message =
                    format!("ipam plugin {kind}: {verb} wrote more than {limit} bytes to {stream}, and was ended");
                Failure::new(Code::Io, message, by_hand)
            }
        }
    });
    let Finished { status, output, log: said } = executed?;
    // What it has said is for the reader of ours, line by line.
    log::pass_on(&delegate.kind, &said);
    let answer: Value = match serde_json::from_slice(&output) {
        Ok(answer) => answer,
        Err(_) if output.is_empty() && (status.success() && verb != "ADD") => Value::Null,
        Err(error) => {
            let message = format!("ipam plugin {}: its answer to {verb} is not JSON ({error})", delegate.kind);
            let said = String::from_utf8_lossy(&output).chars().take(200).collect::<String>();
            return Err(Failure::new(Code::Decode, message, format!("{status}; it said {said:?}")));
        }
    };
    if status.success() {
        return Ok(answer);
    }
    let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default();
    let code = answer.get("code").and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok());
    let message = format!("ipam plugin {}: {}", delegate.kind, text("msg"));
    Err(Failure::foreign(code.unwrap_or(Code::Io as u32), message, text("details")))
}

/// The first file of this name in the directories, as libcni finds it.
fn find(delegate: &Delegate) -> Result<PathBuf, Failure> {
    let places = delegate.path.split(':').filter(|place| !place.is_empty());
    let found = places.map(|place| PathBuf::from(place).join(&delegate.kind)).find(|path| match path.metadata() {
        Ok(metadata) => metadata.is_file(),
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                log::note(format_args!("look at {}: {error}", path.display()));
            }
            false
        }
    });
    found.ok_or_else(|| {
        let Delegate { kind, path, .. } = delegate;
        let message = format!("ipam.type {kind:?} is not supported: there is no such plugin in CNI_PATH ({path})");
        Failure::new(Code::UnsupportedField, message, "leave it out, or write \"podwire\", for podwire's own addresses")
    })
}

impl Given {
    /// Reads a result of any version: `ips` and `routes`, or `ip4` and `ip6` with routes in them.
    fn parse(delegate: &Delegate, answer: &Value) -> Result<Self, Failure> {
        let wrong = |what: &str, value: &Value| {
            let message = format!("ipam plugin {}: {what} of its result cannot be read", delegate.kind);
            Failure::new(Code::Decode, message, value.to_string())
        };
        let list = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut addresses: Vec<Value> = list(answer, "ips").iter().map(|ip| ip["address"].clone()).collect();
        let mut routes = list(answer, "routes");
        for single in ["ip4", "ip6"].iter().filter_map(|key| answer.get(*key)).filter(|single| single.is_object()) {
            addresses.push(single["ip"].clone());
            routes.extend(list(single, "routes"));
        }
        if addresses.is_empty() {
            return Err(wrong("no address is in it: that", answer));
        }
        let network = |value: &Value, what: &str| -> Result<IpNetwork, Failure> {
            value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(what, value))
        };
        let dns = Dns::parse(answer).map_err(|invalid| wrong(&invalid.to_string(), answer))?.unwrap_or_default();
        let addresses: Vec<_> =
            addresses.iter().map(|value| network(value, "an address")).collect::<Result<_, Failure>>()?;
        Ok(Self {
            addresses: addresses.iter().map(IpNetwork::ip).collect(),
            prefixes: addresses.iter().map(|address| family::masked(*address)).collect(),
            routes: routes
                .iter()
                .map(|route| {
                    let destination = family::masked(network(&route["dst"], "a route")?);
                    let metric = route["priority"].as_u64().and_then(|metric| u32::try_from(metric).ok()).unwrap_or(0);
                    Ok(Route { destination, metric })
                })
                .collect::<Result<_, Failure>>()?,
            dns,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_of_any_version_is_read() {
        let delegate = Delegate { kind: "other".into(), path: String::new(), input: Vec::new() };
        let new = json!({
            "ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}, {"address": "fd00::2/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
            "dns": {"nameservers": ["10.1.0.53"]},
        });
        let given = Given::parse(&delegate, &new).unwrap();
        assert_eq!(given.addresses, ["10.1.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        assert_eq!(given.routes, [Route { destination: "0.0.0.0/0".parse().unwrap(), metric: 0 }]);
        assert_eq!(given.dns.nameservers, ["10.1.0.53"]);
        let old = json!({"ip4": {"ip": "10.1.0.2/24", "routes": [{"dst": "0.0.0.0/0"}]}, "ip6": null});
        let given = Given::parse(&delegate, &old).unwrap();
        assert_eq!((given.addresses.len(), given.routes.len()), (1, 1));
        for wrong in [json!({}), json!({"ips": [{"address": "x"}]}), json!({"ips": [{}]})] {
            assert_eq!(Given::parse(&delegate, &wrong).unwrap_err().code(), 6, "{wrong}");
        }
    }
}
