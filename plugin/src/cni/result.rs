//! A result: what ADD has created, appended to the result of earlier plugins of the chain, in the shape of the request's
//! version (CNI specification, section 5, and its predecessors).

use std::net::IpAddr;

use podwire_conf::{Dns, Route};
use podwire_kernel::{Mac, family};
use serde_json::{Map, Value, json};

use super::failure::{Code, Failure};
use super::versions::{VERSIONS, is_single, shape};

/// `RT_SCOPE_LINK` (uapi/linux/rtnetlink.h).
const SCOPE_LINK: u8 = 253;

/// The result of a successful ADD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Success {
    /// Name and link-layer address of the veth end on the host.
    pub host: (String, Mac),
    /// Name and link-layer address of the veth end in the pod.
    pub pod: (String, Mac),
    /// Path of the pod's network namespace, as given by the runtime.
    pub sandbox: String,
    /// Name and link-layer address of the ifb device that shapes what the pod sends.
    pub shaper: Option<(String, Mac)>,
    /// MTU of both ends, in bytes.
    pub mtu: u32,
    /// The pod's addresses with their gateways, IPv4 first.
    pub addresses: Vec<(IpAddr, IpAddr)>,
    /// The pod's routes, through these gateways.
    pub routes: Vec<Route>,
    /// The gateways that have a route of their own in the pod.
    pub gateways_on_link: Vec<IpAddr>,
    /// Name servers.
    pub dns: Dns,
}

/// The result of earlier plugins of the chain, in the shape of its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Previous(Map<String, Value>);

impl Previous {
    /// Reads `prevResult`, which is in the shape of the configuration's version.
    ///
    /// # Errors
    /// When it is not an object, when its version has another shape, or when one of its lists is not a list.
    pub fn parse(value: &Value, version: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| Failure::new(Code::Configuration, format!("prevResult {why}"), short(value));
        let Value::Object(fields) = value else { return Err(wrong("is not an object")) };
        let said = match fields.get("cniVersion") {
            None | Some(Value::Null) => version,
            Some(Value::String(said)) if said.is_empty() => version,
            Some(Value::String(said)) => said,
            Some(_) => return Err(wrong("has a cniVersion that is not a string")),
        };
        if !VERSIONS.contains(&said) || shape(said) != shape(version) {
            return Err(wrong(&format!("is of version {said}, which has another shape than {version}")));
        }
        for key in ["interfaces", "ips", "routes"] {
            match fields.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::Array(entries)) if entries.iter().all(Value::is_object) => {}
                Some(_) => return Err(wrong(&format!("has {key:?} that is not a list of objects"))),
            }
        }
        Ok(Self(fields.clone()))
    }

    fn list(&self, key: &str) -> &[Value] {
        self.0.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The interfaces, each with its index.
    pub fn interfaces(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.list("interfaces").iter().enumerate()
    }

    /// The addresses.
    pub fn ips(&self) -> &[Value] {
        self.list("ips")
    }

    /// The routes.
    pub fn routes(&self) -> &[Value] {
        self.list("routes")
    }

    /// The index of an interface of a sandbox.
    pub fn place(&self, interface: &str, sandbox: &str) -> Option<usize> {
        let is = |found: &Value| found["name"] == interface && found["sandbox"] == sandbox;
        self.interfaces().find(|(_, found)| is(found)).map(|(place, _)| place)
    }

    /// Whether it has an address in the old shape, which allows one for each family.
    pub fn has_single(&self, ipv4: bool) -> bool {
        self.0.get(if ipv4 { "ip4" } else { "ip6" }).is_some_and(Value::is_object)
    }
}

/// A value for a message.
fn short(value: &Value) -> String {
    value.to_string().chars().take(200).collect()
}

impl Success {
    /// The result in a version's shape, appended to that of earlier plugins.
    pub fn render(&self, version: &str, previous: Option<&Previous>) -> String {
        let mut answer = previous.map_or_else(Map::new, |previous| previous.0.clone());
        answer.retain(|_, value| !value.is_null());
        answer.insert("cniVersion".into(), json!(version));
        if is_single(version) {
            self.single(&mut answer);
        } else {
            self.lists(&mut answer, version);
        }
        if !self.dns.is_empty() {
            answer.insert("dns".into(), json!(self.dns));
        } else if shape(version) < 2 {
            answer.entry("dns").or_insert_with(|| json!({}));
        }
        format!("{}\n", Value::Object(answer))
    }

    /// The shape of 0.1.0 and 0.2.0: the first address of each family with its routes.
    fn single(&self, answer: &mut Map<String, Value>) {
        for ipv4 in [true, false] {
            let mut addresses = self.addresses.iter().filter(|(address, _)| address.is_ipv4() == ipv4);
            let Some((address, gateway)) = addresses.next() else { continue };
            let mut entry = json!({"ip": family::host(*address), "gateway": gateway});
            let routes = self.routes.iter().filter(|route| route.destination.is_ipv4() == ipv4);
            let routes = routes.map(|route| json!({"dst": route.destination, "gw": gateway}));
            let on_link = self.gateways_on_link.iter().filter(|gateway| gateway.is_ipv4() == ipv4);
            let on_link = on_link.map(|gateway| json!({"dst": family::host(*gateway)}));
            let routes: Vec<_> = routes.chain(on_link).collect();
            if !routes.is_empty() {
                entry["routes"] = routes.into();
            }
            answer.insert(if ipv4 { "ip4" } else { "ip6" }.into(), entry);
        }
    }

    fn lists(&self, answer: &mut Map<String, Value>, version: &str) {
        let before = answer.get("interfaces").and_then(Value::as_array).map_or(0, Vec::len);
        let mut host = json!({"name": self.host.0, "mac": self.host.1.to_string()});
        let mut pod = json!({"name": self.pod.0, "mac": self.pod.1.to_string(), "sandbox": self.sandbox});
        host["mtu"] = json!(self.mtu);
        pod["mtu"] = json!(self.mtu);
        let shaper = self.shaper.iter().map(|(name, mac)| json!({"name": name, "mac": mac.to_string()}));
        append(answer, "interfaces", [host, pod].into_iter().chain(shaper));

        let addresses = self.addresses.iter().map(|(address, gateway)| {
            let mut entry = json!({"address": family::host(*address), "gateway": gateway, "interface": before + 1});
            if shape(version) == 1 {
                entry["version"] = json!(if address.is_ipv4() { "4" } else { "6" });
            }
            entry
        });
        append(answer, "ips", addresses);

        let gateway = |ipv4: bool| {
            let mut gateways = self.addresses.iter().map(|(_, gateway)| *gateway);
            gateways.find(|gateway| gateway.is_ipv4() == ipv4)
        };
        let routes = self.routes.iter().map(|route| {
            let mut entry = json!({"dst": route.destination, "gw": gateway(route.destination.is_ipv4())});
            if route.metric != 0 {
                entry["priority"] = json!(route.metric);
            }
            entry
        });
        let on_link = self.gateways_on_link.iter();
        let on_link = on_link.map(|gateway| json!({"dst": family::host(*gateway), "scope": SCOPE_LINK}));
        append(answer, "routes", routes.chain(on_link));
        if version != "1.1.0" {
            // Keys that are new in 1.1.0, whichever plugin wrote them.
            strip(answer, "interfaces", &["mtu", "socketPath", "pciID"]);
            strip(answer, "routes", &["mtu", "advmss", "priority", "table", "scope"]);
        }
    }
}

fn append(answer: &mut Map<String, Value>, key: &str, entries: impl IntoIterator<Item = Value>) {
    let mut list = answer.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    list.extend(entries);
    if list.is_empty() {
        answer.remove(key);
    } else {
        answer.insert(key.into(), Value::Array(list));
    }
}

fn strip(answer: &mut Map<String, Value>, list: &str, keys: &[&str]) {
    for entry in answer.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(entry) = entry.as_object_mut() {
            entry.retain(|key, _| !keys.contains(&key.as_str()));
        }
    }
}
