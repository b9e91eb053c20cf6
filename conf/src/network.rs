//! The plugin's section of the network configuration: what a user writes, and what is wrong with it.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_kernel::family;
use serde::Serialize;
use serde_json::Value;

use crate::defaults::{SMALLEST_IPV4_MTU, SMALLEST_MTU};
use crate::json::Field;

/// A network as the plugin is given it on stdin, the keys that the CNI protocol owns left aside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// Size of the largest packet on the pod's interface, in bytes; the default is Ethernet's 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether what pods send out of the network leaves under the node's address.
    #[serde(rename = "ipMasq", skip_serializing_if = "std::ops::Not::not")]
    pub masquerade: bool,
    /// Whether pods' devices are made ready for the node's fast path, which podwired has.
    #[serde(rename = "fastPath", skip_serializing_if = "std::ops::Not::not")]
    pub fast_path: bool,
    /// Whether podwired keeps the network: then no pod is attached while the node is not prepared for its ranges, as after
    /// a reboot, which the conflist outlives.
    #[serde(rename = "podwired", skip_serializing_if = "std::ops::Not::not")]
    pub daemon: bool,
    /// Where addresses come from.
    pub ipam: Ipam,
}

/// Addresses and routes of the pods, in the words of the reference plugin host-local.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ipam {
    /// Who gives addresses: absent or `podwire` for the built-in ledger, else the name of another plugin.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// One address is given out of each set; a set is searched range by range.
    pub ranges: Vec<Vec<Range>>,
    /// Routes of the pod, through the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// A file in the form of resolv.conf, whose name servers are told to the runtime.
    #[serde(rename = "resolvConf", skip_serializing_if = "Option::is_none")]
    pub resolv_conf: Option<String>,
}

/// A range of addresses within a subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// The subnet, host bits clear. Its network address is never given, and in IPv4 neither is its last.
    pub subnet: IpNetwork,
    /// First address given, inclusive; the default is the first usable one of the subnet.
    #[serde(rename = "rangeStart", skip_serializing_if = "Option::is_none")]
    pub start: Option<IpAddr>,
    /// Last address given, inclusive; the default is the last usable one of the subnet.
    #[serde(rename = "rangeEnd", skip_serializing_if = "Option::is_none")]
    pub end: Option<IpAddr>,
    /// An address that is never given, since it is somebody's; the default is the first of the subnet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A route of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The destination; 0.0.0.0/0 and ::/0 are the default routes.
    #[serde(rename = "dst")]
    pub destination: IpNetwork,
    /// Which of several routes to the destination is taken: the lowest. 0 is the family's default.
    #[serde(rename = "priority", skip_serializing_if = "is_zero")]
    pub metric: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde asks for")]
fn is_zero(metric: &u32) -> bool {
    *metric == 0
}

/// What is wrong with a configuration: the field, its value, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Path of the field, as in `ipam.ranges[0][0].subnet`.
    pub field: String,
    /// Why it cannot be used, with the value.
    pub why: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for Invalid {}

pub(crate) fn invalid<T>(field: impl Into<String>, why: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid { field: field.into(), why: why.into() })
}

impl Network {
    /// Reads and checks the plugin's keys of a configuration. Keys of others are ignored, as the CNI specification asks.
    /// The ranges that the runtime adds for one pod (`runtimeConfig.ipRanges`) go before those of the network.
    ///
    /// # Errors
    /// The first field that is missing, of the wrong type, or of no use.
    pub fn parse(document: &Value) -> Result<Self, Invalid> {
        let root = Field::root(document);
        let mtu = match root.get("mtu")? {
            None => None,
            Some(field) => match field.value().as_u64().and_then(|mtu| u32::try_from(mtu).ok()) {
                Some(0) => None,
                Some(mtu) if (SMALLEST_IPV4_MTU..=65_535).contains(&mtu) => Some(mtu),
                _ => return field.wrong(format!("is not a number of bytes from {SMALLEST_IPV4_MTU} to 65535")),
            },
        };
        let masquerade = root.get("ipMasq")?.map_or(Ok(false), |field| field.flag())?;
        let fast_path = root.get("fastPath")?.map_or(Ok(false), |field| field.flag())?;
        let daemon = root.get("podwired")?.map_or(Ok(false), |field| field.flag())?;
        let Some(ipam) = root.get("ipam")? else {
            return invalid("ipam", "is missing: say where pods get addresses from");
        };
        let mut sets = Vec::new();
        if let Some(runtime) = root.get("runtimeConfig")?
            && let Some(ranges) = runtime.get("ipRanges")?
        {
            sets = read_sets(&ranges)?;
        }
        let ipam = Ipam::read(&ipam, sets)?;
        let has_ipv6 = ipam.ranges.iter().flatten().any(|range| range.subnet.is_ipv6());
        if let Some(mtu) = mtu.filter(|mtu| has_ipv6 && *mtu < SMALLEST_MTU) {
            return invalid("mtu", format!("{mtu} is below {SMALLEST_MTU}, which IPv6 needs"));
        }
        Ok(Self { mtu, masquerade, fast_path, daemon, ipam })
    }
}

/// A list of sets; a list of ranges (some runtimes flatten it) is one set.
fn read_sets(field: &Field<'_>) -> Result<Vec<Vec<(String, Range)>>, Invalid> {
    let entries = field.list()?;
    if entries.first().is_some_and(|first| !first.is_list()) {
        return Ok(vec![entries.iter().map(Range::read).collect::<Result<_, _>>()?]);
    }
    entries
        .iter()
        .map(|set| match set.list()? {
            ranges if ranges.is_empty() => set.refuse("is empty: no address could ever be given"),
            ranges => ranges.iter().map(Range::read).collect(),
        })
        .collect()
}

impl Ipam {
    /// Whether addresses come from another plugin.
    pub fn delegate(&self) -> Option<&str> {
        self.kind.as_deref().filter(|kind| *kind != "podwire")
    }

    fn read(field: &Field<'_>, mut sets: Vec<Vec<(String, Range)>>) -> Result<Self, Invalid> {
        let kind = field.get("type")?.map(|kind| kind.text().map(str::to_owned)).transpose()?;
        let kind = kind.filter(|kind| !kind.is_empty());
        if field.get("subnet")?.is_some() {
            sets.push(vec![Range::read(field)?]);
        }
        if let Some(ranges) = field.get("ranges")? {
            sets.extend(read_sets(&ranges)?);
        }
        let resolv_conf = field.get("resolvConf")?.map(|path| path.text().map(str::to_owned)).transpose()?;
        let mut ipam = Self { kind, ranges: Vec::new(), routes: Vec::new(), resolv_conf };
        if ipam.delegate().is_some() {
            // What the other plugin makes of its keys is its own affair.
            return Ok(ipam);
        }
        if sets.is_empty() {
            return invalid(format!("{}.ranges", field.path()), "is missing or empty: no address could ever be given");
        }
        check_sets(&sets)?;
        ipam.ranges = sets.into_iter().map(|set| set.into_iter().map(|(_, range)| range).collect()).collect();
        if let Some(routes) = field.get("routes")? {
            ipam.routes =
                routes.list()?.iter().map(|route| Route::read(route, &ipam.ranges)).collect::<Result<_, _>>()?;
        }
        Ok(ipam)
    }
}

/// One family in a set, and no address in two ranges.
fn check_sets(sets: &[Vec<(String, Range)>]) -> Result<(), Invalid> {
    let mut seen: Vec<&(String, Range)> = Vec::new();
    for set in sets {
        for entry in set {
            let (field, range) = entry;
            if range.subnet.is_ipv4() != set[0].1.subnet.is_ipv4() {
                return invalid(field, "mixes IPv4 and IPv6 in one set: one address is given out of each set");
            }
            let shares = |other: &Range| {
                other.subnet.is_ipv4() == range.subnet.is_ipv4()
                    && other.first() <= range.last()
                    && range.first() <= other.last()
            };
            if let Some((place, other)) = seen.iter().find(|(_, other)| shares(other)) {
                return invalid(field, format!("{range} overlaps {other} of {place}"));
            }
            seen.push(entry);
        }
    }
    Ok(())
}

impl Route {
    fn read(field: &Field<'_>, ranges: &[Vec<Range>]) -> Result<Self, Invalid> {
        let Some(destination) = field.get("dst")? else { return field.wrong("has no \"dst\"") };
        let destination: IpNetwork = destination.parse("a prefix, as in 10.0.0.0/8")?;
        // A gateway other than the node cannot be honoured: a pod has no other neighbour. The gateway of a range is the
        // node, by whatever address.
        if let Some(gateway) = field.get("gw")? {
            let address: IpAddr = gateway.parse("an address")?;
            if !ranges.iter().flatten().any(|range| range.reserved() == address) {
                let why = "cannot be the next hop of a pod, whose only neighbour is its node: leave it out";
                return gateway.wrong(why);
            }
        }
        for key in ["table", "scope", "mtu", "advmss"] {
            if let Some(option) = field.get(key)? {
                return option.wrong("is an option of a route that podwire does not have: leave it out");
            }
        }
        let metric = match field.get("priority")? {
            None => 0,
            Some(field) => match u32::try_from(field.number()?) {
                Ok(metric) => metric,
                Err(_) => return field.wrong("is greater than 4294967295"),
            },
        };
        Ok(Self { destination: family::masked(destination), metric })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.start, self.end) {
            (None, None) => write!(f, "{}", self.subnet),
            _ => write!(f, "{} to {} of {}", self.first(), self.last(), self.subnet),
        }
    }
}

impl Range {
    /// The range with its place in the document.
    fn read(field: &Field<'_>) -> Result<(String, Self), Invalid> {
        let Some(subnet) = field.get("subnet")? else { return field.wrong("has no \"subnet\"") };
        let address = |key: &str| -> Result<Option<IpAddr>, Invalid> {
            let found = field.get(key)?.filter(|field| field.value() != "");
            found.map(|field| field.parse("an address")).transpose()
        };
        let range = Self {
            subnet: subnet.parse("a prefix, as in 10.0.0.0/24")?,
            start: address("rangeStart")?,
            end: address("rangeEnd")?,
            gateway: address("gateway")?,
        };
        range.check(field.path())?;
        Ok((field.path().to_owned(), range))
    }

    fn check(&self, field: &str) -> Result<(), Invalid> {
        let subnet = self.subnet;
        if subnet.network() != subnet.ip() {
            let right = family::masked(subnet);
            return invalid(format!("{field}.subnet"), format!("{subnet} has host bits set: did you mean {right}?"));
        }
        if let Some(reserved) = family::reserved().find(|reserved| family::overlap(*reserved, subnet)) {
            let why = format!("{subnet} overlaps {reserved}, whose addresses are never a pod's");
            return invalid(format!("{field}.subnet"), why);
        }
        let width = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > width - 2 {
            return invalid(format!("{field}.subnet"), format!("{subnet} is too small for pods"));
        }
        for (key, address) in [("rangeStart", self.start), ("rangeEnd", self.end), ("gateway", self.gateway)] {
            if let Some(address) = address.filter(|address| !subnet.contains(*address)) {
                return invalid(format!("{field}.{key}"), format!("{address} is not in {subnet}"));
            }
        }
        if self.first() > self.last() {
            let (first, last) = (self.first(), self.last());
            return invalid(format!("{field}.rangeStart"), format!("{first} is behind the end of the range, {last}"));
        }
        Ok(())
    }

    /// The first address that may be given.
    pub fn first(&self) -> IpAddr {
        self.start.unwrap_or_else(|| offset(self.subnet.network(), 1)).max(offset(self.subnet.network(), 1))
    }

    /// The last address that may be given.
    pub fn last(&self) -> IpAddr {
        let usable = match self.subnet {
            IpNetwork::V4(subnet) => offset(subnet.broadcast().into(), -1),
            IpNetwork::V6(subnet) => IpAddr::V6(subnet.broadcast()),
        };
        self.end.unwrap_or(usable).min(usable)
    }

    /// The address that is never given: the configured gateway, else the first of the subnet, which is the gateway
    /// wherever host-local is used.
    pub fn reserved(&self) -> IpAddr {
        self.gateway.unwrap_or_else(|| offset(self.subnet.network(), 1))
    }
}

/// The address `by` further on, wrapping within its family.
pub(crate) fn offset(address: IpAddr, by: i8) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(address.to_bits().wrapping_add_signed(by.into()).into()),
        IpAddr::V6(address) => IpAddr::V6(address.to_bits().wrapping_add_signed(by.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(range: Value) -> Value {
        json!({"ipam": {"ranges": [[range]]}})
    }

    #[test]
    fn what_the_daemon_writes_is_what_the_plugin_reads() {
        let network = Network {
            mtu: Some(1450),
            ipam: Ipam {
                kind: Some("podwire".into()),
                ranges: vec![vec![Range {
                    subnet: "10.244.1.0/24".parse().unwrap(),
                    start: None,
                    end: None,
                    gateway: None,
                }]],
                routes: vec![Route { destination: "0.0.0.0/0".parse().unwrap(), metric: 7 }],
                resolv_conf: Some("/etc/resolv.conf".into()),
            },
            masquerade: true,
            fast_path: true,
            daemon: true,
        };
        assert_eq!(Network::parse(&serde_json::to_value(&network).unwrap()), Ok(network));
    }

    #[test]
    fn each_wrong_field_is_named_with_its_value() {
        let cases = [
            (json!({"mtu": -1, "ipam": {}}), "mtu: -1 is not a number of bytes from 576 to 65535"),
            (
                json!({"mtu": 1279, "ipam": {"ranges": [[{"subnet": "fd00::/64"}]]}}),
                "mtu: 1279 is below 1280, which IPv6 needs",
            ),
            (json!({}), "ipam: is missing: say where pods get addresses from"),
            (json!({"ipam": {}}), "ipam.ranges: is missing or empty: no address could ever be given"),
            (json!({"ipam": {"ranges": [[]]}}), "ipam.ranges[0]: is empty: no address could ever be given"),
            (
                with(json!({"subnet": "10.0.0.1/24"})),
                "ipam.ranges[0][0].subnet: 10.0.0.1/24 has host bits set: did you mean 10.0.0.0/24?",
            ),
            (
                with(json!({"subnet": "127.0.0.0/24"})),
                "ipam.ranges[0][0].subnet: 127.0.0.0/24 overlaps 127.0.0.0/8, whose addresses are never a pod's",
            ),
            (
                json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.9"}]}}),
                "ipam.routes[0].gw: \"10.0.0.9\" cannot be the next hop of a pod, whose only neighbour is its node: leave it out",
            ),
            (json!({"mtu": 65_536, "ipam": {}}), "mtu: 65536 is not a number of bytes from 576 to 65535"),
            (json!({"mtu": "1500", "ipam": {}}), "mtu: \"1500\" is not a number of bytes from 576 to 65535"),
            (
                with(json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.9"})),
                "ipam.ranges[0][0].rangeStart: 10.0.1.9 is not in 10.0.0.0/24",
            ),
            (
                with(json!({"subnet": "10.0.0.0/24", "gateway": "10.0.1.1"})),
                "ipam.ranges[0][0].gateway: 10.0.1.1 is not in 10.0.0.0/24",
            ),
            (with(json!({"subnet": "10.0.0.0/31"})), "ipam.ranges[0][0].subnet: 10.0.0.0/31 is too small for pods"),
            (
                with(json!({"subnet": "10.0.0.0/24", "rangeEnd": "10.0.1.9"})),
                "ipam.ranges[0][0].rangeEnd: 10.0.1.9 is not in 10.0.0.0/24",
            ),
            (
                with(json!({"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"})),
                "ipam.ranges[0][0].rangeStart: 10.0.0.9 is behind the end of the range, 10.0.0.8",
            ),
            (
                json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}}),
                "ipam.ranges[0][1]: mixes IPv4 and IPv6 in one set: one address is given out of each set",
            ),
            (
                json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/16"}]]}}),
                "ipam.ranges[1][0]: 10.0.0.0/16 overlaps 10.0.0.0/24 of ipam.ranges[0][0]",
            ),
        ];
        for (document, expected) in cases {
            assert_eq!(Network::parse(&document).unwrap_err().to_string(), expected, "{document}");
        }
        let error = Network::parse(&with(json!({"subnet": "10.0.0.0/33"}))).unwrap_err().to_string();
        assert_eq!(error, "ipam.ranges[0][0].subnet: \"10.0.0.0/33\" is not a prefix, as in 10.0.0.0/24");
    }

    #[test]
    fn network_and_broadcast_address_are_outside_of_a_range() {
        let range = |text: &str| Range { subnet: text.parse().unwrap(), start: None, end: None, gateway: None };
        let four = range("10.0.0.0/29");
        assert_eq!((four.first().to_string(), four.last().to_string()), ("10.0.0.1".into(), "10.0.0.6".into()));
        assert_eq!(four.reserved().to_string(), "10.0.0.1");
        let given = Range {
            start: Some("10.0.0.0".parse().unwrap()),
            end: Some("10.0.0.7".parse().unwrap()),
            gateway: Some("10.0.0.3".parse().unwrap()),
            ..four
        };
        assert_eq!((given.first().to_string(), given.last().to_string()), ("10.0.0.1".into(), "10.0.0.6".into()));
        assert_eq!(given.reserved().to_string(), "10.0.0.3");
        let six = range("fd00::/125");
        assert_eq!((six.first().to_string(), six.last().to_string()), ("fd00::1".into(), "fd00::7".into()));
    }
}
