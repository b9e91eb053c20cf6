//! The plugin's section of the network configuration, as a user writes it, and its validation.

use serde::Serialize;
use serde_json::Value;

use crate::defaults::{SMALLEST_IPV4_MTU, SMALLEST_MTU};
use crate::invalid::{Invalid, invalid};
use crate::ipam::{Ipam, read_sets};
use crate::json::Field;
use crate::labels::{self, Labels};
use crate::network_policy::NetworkPolicy;

/// A network configuration as on the plugin's stdin, without the keys of the CNI protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Network {
    /// MTU of the pod's interface, in bytes; the default is 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether packets of pods that leave the network are masqueraded.
    #[serde(rename = "ipMasq", skip_serializing_if = "std::ops::Not::not")]
    pub masquerade: bool,
    /// Whether pods' devices are prepared for podwired's fast path.
    #[serde(rename = "fastPath", skip_serializing_if = "std::ops::Not::not")]
    pub fast_path: bool,
    /// Whether podwired runs the network: then no pod is attached while the node is not ready for its ranges, as after
    /// a reboot, which the conflist survives.
    #[serde(rename = "podwired", skip_serializing_if = "std::ops::Not::not")]
    pub daemon: bool,
    /// What ADD does about NetworkPolicy; absent where no policies are in force.
    #[serde(rename = "networkPolicy", skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicy>,
    /// Labels of all pods of the network, by which NetworkPolicies without an API select them.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Where addresses come from.
    pub ipam: Ipam,
}

impl Network {
    /// Reads and validates the plugin's keys of a configuration. Other keys are ignored, as the CNI specification
    /// requires. Ranges from the runtime for one pod (`runtimeConfig.ipRanges`) come before those of the network.
    ///
    /// # Errors
    /// The first field that is missing, of the wrong type, or invalid.
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
        let network_policy = root.get("networkPolicy")?.map(|field| NetworkPolicy::read(&field)).transpose()?;
        let labels = root.get("labels")?.map_or_else(|| Ok(Labels::new()), |field| labels::read(&field))?;
        let Some(ipam) = root.get("ipam")? else {
            return invalid("ipam", "is missing: pods would get no addresses");
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
        Ok(Self { mtu, masquerade, fast_path, daemon, network_policy, labels, ipam })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::range::Range;
    use crate::route::Route;

    fn with(range: Value) -> Value {
        json!({"ipam": {"ranges": [[range]]}})
    }

    #[test]
    fn the_plugin_reads_what_the_daemon_writes() {
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
            network_policy: Some(NetworkPolicy::default()),
            labels: Labels::from([("example.com/zone".into(), "a".into())]),
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
            (json!({}), "ipam: is missing: pods would get no addresses"),
            (json!({"ipam": {}}), "ipam.ranges: is missing or empty: there would be no address for pods"),
            (json!({"ipam": {"ranges": [[]]}}), "ipam.ranges[0]: is empty: there would be no address for pods"),
            (
                with(json!({"subnet": "10.0.0.1/24"})),
                "ipam.ranges[0][0].subnet: 10.0.0.1/24 has host bits set: did you mean 10.0.0.0/24?",
            ),
            (
                with(json!({"subnet": "127.0.0.0/24"})),
                "ipam.ranges[0][0].subnet: 127.0.0.0/24 overlaps 127.0.0.0/8, which no pod can have addresses in",
            ),
            (
                json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.9"}]}}),
                "ipam.routes[0].gw: \"10.0.0.9\" cannot be the next hop of a pod, whose only neighbour is its node: remove it",
            ),
            (json!({"labels": ["app"]}), "labels: [\"app\"] is not an object"),
            (json!({"labels": {"app": 1}}), "labels[\"app\"]: 1 is not a string"),
            (
                json!({"labels": {"app": "a b"}}),
                "labels: app: the value \"a b\" is not valid: nothing, or up to 63 letters, digits, '-', '_' and '.' that \
                 begin and end with a letter or digit",
            ),
            (
                json!({"labels": {"": "a"}}),
                "labels: the key \"\" is not valid: NAME or DOMAIN/NAME; NAME has 1 to 63 letters, digits, '-', '_' and \
                 '.', and begins and ends with a letter or digit",
            ),
            (
                json!({"labels": (0..513).map(|n| (format!("l{n}"), String::new())).collect::<Labels>()}),
                "labels: 513 labels, and at most 512 are allowed",
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
                "ipam.ranges[0][0].rangeStart: 10.0.0.9 is after the end of the range, 10.0.0.8",
            ),
            (
                json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]]}}),
                "ipam.ranges[0][1]: mixes IPv4 and IPv6 in one set: a pod gets one address from each set",
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
}
