//! What a runtime requests for one pod, beside the network's configuration: addresses, a link-layer address, host
//! ports, bandwidth (CNI conventions, "Dynamic Plugin specific fields").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use podwire_kernel::Mac;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::invalid::{Invalid, invalid};
use crate::json::Field;
use crate::rules::host_ports::Protocol;

/// What is requested for one pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requested {
    /// Requested addresses; from a set without one the pod gets any free address.
    pub addresses: Vec<IpAddr>,
    /// The link-layer address of the pod's interface.
    pub mac: Option<Mac>,
    /// Host ports.
    pub ports: Vec<Port>,
    /// Bandwidth limits.
    pub bandwidth: Bandwidth,
}

/// A host port: a port of the node that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Port {
    /// Its protocol.
    pub protocol: Protocol,
    /// The node's address: an unspecified one (0.0.0.0, ::) is all of its family, `None` is all.
    pub host_address: Option<IpAddr>,
    /// The node's port, from 1.
    pub host_port: u16,
    /// The pod's port, from 1.
    pub pod_port: u16,
}

/// Limits for both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Towards the pod.
    pub ingress: Option<TokenBucket>,
    /// From the pod.
    pub egress: Option<TokenBucket>,
}

/// A requested token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBucket {
    /// Bits per second.
    pub rate: u64,
    /// Bits that may be sent at once after a pause.
    pub burst: u64,
}

impl Requested {
    /// Reads `runtimeConfig`, `args.cni` and from `CNI_ARGS` the addresses (`IP`) and the link-layer address (`MAC`).
    /// When several are present, the first of these three is used: it is what the runtime sends to this plugin, the
    /// last is what it sends to every plugin.
    ///
    /// # Errors
    /// The first field of the wrong type or out of range.
    pub fn parse(document: &Value, argument_ip: Option<&str>, argument_mac: Option<&str>) -> Result<Self, Invalid> {
        let root = Field::root(document);
        let runtime = root.get("runtimeConfig")?;
        // `args` may contain anything; only an object is read.
        let args = root.get("args")?.filter(Field::is_object);
        let args = args.map(|args| args.get("cni")).transpose()?.flatten().filter(Field::is_object);
        let sources = || [&runtime, &args].into_iter().flatten();

        let mut requested = Self::default();
        for source in sources() {
            if let Some(list) = source.get("ips")?
                && requested.addresses.is_empty()
            {
                requested.addresses = list.list()?.iter().map(address).collect::<Result<_, _>>()?;
            }
            if let Some(mac) = source.get("mac")?
                && requested.mac.is_none()
                && mac.value() != ""
            {
                let parsed = Mac::parse(mac.text()?);
                requested.mac = Some(parsed.map_or_else(|| mac.wrong("is not a unicast address"), Ok)?);
            }
        }
        if let Some(text) = argument_ip.filter(|text| !text.is_empty() && requested.addresses.is_empty()) {
            let wrong =
                |part: &str| Invalid { field: "CNI_ARGS IP".into(), why: format!("{part:?} is not an address") };
            let parse = |part: &str| bare(part).ok_or_else(|| wrong(part));
            requested.addresses = text.split(',').map(str::trim).map(parse).collect::<Result<_, _>>()?;
        }
        if let Some(text) = argument_mac.filter(|text| !text.is_empty() && requested.mac.is_none()) {
            let wrong = || invalid("CNI_ARGS MAC", format!("{text:?} is not a unicast address"));
            requested.mac = Some(Mac::parse(text).map_or_else(wrong, Ok)?);
        }
        if let Some(runtime) = &runtime {
            if let Some(ports) = runtime.get("portMappings")? {
                for port in ports.list()? {
                    let port = Port::read(&port)?;
                    if !requested.ports.contains(&port) {
                        requested.ports.push(port);
                    }
                }
            }
            if let Some(bandwidth) = runtime.get("bandwidth")? {
                requested.bandwidth = Bandwidth {
                    ingress: TokenBucket::read(&bandwidth, "ingressRate", "ingressBurst")?,
                    egress: TokenBucket::read(&bandwidth, "egressRate", "egressBurst")?,
                };
            }
        }
        Ok(requested)
    }
}

/// An address; a prefix length is ignored, the range has it.
fn address(field: &Field<'_>) -> Result<IpAddr, Invalid> {
    bare(field.text()?).map_or_else(|| field.wrong("is not an address"), Ok)
}

fn bare(text: &str) -> Option<IpAddr> {
    match text.split_once('/') {
        Some(_) => text.parse::<ipnetwork::IpNetwork>().ok().map(|network| network.ip()),
        None => text.parse().ok(),
    }
}

impl Port {
    fn read(field: &Field<'_>) -> Result<Self, Invalid> {
        let number = |key: &str| -> Result<u16, Invalid> {
            let Some(field) = field.get(key)? else { return field.wrong(format!("has no {key:?}")) };
            match field.value().as_u64().and_then(|port| u16::try_from(port).ok()) {
                Some(port) if port > 0 => Ok(port),
                _ => field.wrong("is not a port from 1 to 65535"),
            }
        };
        let protocol = match field.get("protocol")? {
            None => Protocol::Tcp,
            Some(name) if name.value() == "" => Protocol::Tcp,
            Some(name) => match name.text()?.parse() {
                Ok(protocol) => protocol,
                Err(_) => return name.wrong("is not one of tcp, udp, sctp"),
            },
        };
        let host_address = field.get("hostIP")?.filter(|address| address.value() != "");
        Ok(Self {
            protocol,
            host_address: host_address.map(|address| address.parse("an address")).transpose()?,
            host_port: number("hostPort")?,
            pod_port: number("containerPort")?,
        })
    }

    /// Whether it is reached at the node's 127.0.0.0/8, in a pod with this address.
    pub fn is_on_loopback(&self, pod: IpAddr) -> bool {
        let host = self.host_address_for(pod).filter(IpAddr::is_ipv4);
        host.is_some_and(|host| host.is_unspecified() || host.is_loopback())
    }

    /// The node's address for a pod's address, unspecified for any; `None` when the port is of the other family only.
    pub fn host_address_for(&self, pod: IpAddr) -> Option<IpAddr> {
        let any: IpAddr = if pod.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        match self.host_address {
            None => Some(any),
            Some(address) => (address.is_ipv4() == pod.is_ipv4()).then_some(address),
        }
    }
}

impl TokenBucket {
    fn read(field: &Field<'_>, rate_key: &str, burst_key: &str) -> Result<Option<Self>, Invalid> {
        let number = |key: &str| field.get(key)?.map_or(Ok(0), |field| field.number());
        let (rate, burst) = (number(rate_key)?, number(burst_key)?);
        let path = |key: &str| format!("{}.{key}", field.path());
        // The reference plugin has a 32-bit burst in bytes; the same limit applies here.
        if burst / 8 >= u64::from(u32::MAX) {
            return invalid(path(burst_key), format!("{burst} bits are more than a bucket can hold, 34359738359"));
        }
        match (rate, burst) {
            // A runtime writes a burst for a direction without a limit.
            (0, 0) => Ok(None),
            (0, _) => invalid(path(rate_key), format!("is 0, and {burst_key} is {burst}: set both or neither")),
            (_, 0) => invalid(path(burst_key), format!("is 0, and {rate_key} is {rate}: set both or neither")),
            _ => Ok(Some(Self { rate, burst })),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requested(runtime: Value) -> Result<Requested, Invalid> {
        Requested::parse(&json!({"runtimeConfig": runtime}), None, None)
    }

    #[test]
    fn c9_requests_are_read_as_every_runtime_writes_them() {
        let go = json!({
            "PortMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""}],
            "Bandwidth": {"IngressRate": 1000, "IngressBurst": 4_294_967_295_u64, "EgressRate": 0, "EgressBurst": 0},
        });
        let port = Port { protocol: Protocol::Tcp, host_address: None, host_port: 8080, pod_port: 80 };
        let ingress = Some(TokenBucket { rate: 1000, burst: 4_294_967_295 });
        let expected =
            Requested { ports: vec![port], bandwidth: Bandwidth { ingress, egress: None }, ..Requested::default() };
        assert_eq!(requested(go), Ok(expected));
        assert_eq!(
            requested(json!({"portMappings": null, "bandwidth": null, "ips": null, "mac": null})),
            Ok(Requested::default())
        );
    }

    #[test]
    fn f2_an_invalid_port_is_an_error() {
        for (port, why) in [
            (json!({"hostPort": 0, "containerPort": 80}), "hostPort: 0 is not a port from 1 to 65535"),
            (json!({"hostPort": 80, "containerPort": 65_536}), "containerPort: 65536 is not a port from 1 to 65535"),
            (json!({"hostPort": -1, "containerPort": 80}), "hostPort: -1 is not a port from 1 to 65535"),
            (
                json!({"hostPort": 1, "containerPort": 80, "protocol": "icmp"}),
                "protocol: \"icmp\" is not one of tcp, udp, sctp",
            ),
            (json!({"hostPort": 1, "containerPort": 80, "hostIP": "here"}), "hostIP: \"here\" is not an address"),
        ] {
            let error = requested(json!({"portMappings": [port]})).unwrap_err().to_string();
            assert_eq!(error, format!("runtimeConfig.portMappings[0].{why}"));
        }
    }

    #[test]
    fn f3_a_port_serves_the_family_of_its_host_address() {
        let port = |address: Option<&str>| Port {
            protocol: Protocol::Udp,
            host_address: address.map(|address| address.parse().unwrap()),
            host_port: 53,
            pod_port: 53,
        };
        let (four, six): (IpAddr, IpAddr) = ("10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap());
        let for_both = |address| {
            let port = port(address);
            [four, six].map(|pod| port.host_address_for(pod).map(|address| address.to_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(for_both(None), [some("0.0.0.0"), some("::")]);
        assert_eq!(for_both(Some("0.0.0.0")), [some("0.0.0.0"), None]);
        assert_eq!(for_both(Some("fd00::9")), [None, some("fd00::9")]);
    }

    #[test]
    fn f7_c13_a_limit_has_a_rate_and_a_burst_that_fits() {
        let error = |bandwidth: Value| requested(json!({"bandwidth": bandwidth})).unwrap_err().to_string();
        let path = "runtimeConfig.bandwidth";
        assert_eq!(
            error(json!({"ingressRate": 1000})),
            format!("{path}.ingressBurst: is 0, and ingressRate is 1000: set both or neither")
        );
        assert_eq!(
            error(json!({"egressBurst": 8})),
            format!("{path}.egressRate: is 0, and egressBurst is 8: set both or neither")
        );
        assert!(requested(json!({"bandwidth": {"egressRate": 8, "egressBurst": 34_359_738_359_u64}})).is_ok());
        assert_eq!(
            error(json!({"egressRate": 8, "egressBurst": 34_359_738_360_u64})),
            format!("{path}.egressBurst: 34359738360 bits are more than a bucket can hold, 34359738359")
        );
    }

    #[test]
    fn i7_i8_i9_the_most_specific_source_is_used() {
        let document = |runtime: Value, args: Value| json!({"runtimeConfig": runtime, "args": {"cni": args}});
        let read = |document: &Value| {
            let requested = Requested::parse(document, Some("10.0.0.7"), Some("02:00:00:00:00:07")).unwrap();
            let addresses: Vec<_> = requested.addresses.iter().map(ToString::to_string).collect();
            (addresses.join(" "), requested.mac.unwrap().0[5])
        };
        let runtime = json!({"ips": ["10.0.0.5", "fd00::5/64"], "mac": "02:00:00:00:00:05"});
        let args = json!({"ips": ["10.0.0.6/24"], "mac": "02:00:00:00:00:06"});
        assert_eq!(read(&document(runtime, args.clone())), ("10.0.0.5 fd00::5".into(), 5));
        assert_eq!(read(&document(json!({}), args)), ("10.0.0.6".into(), 6));
        assert_eq!(read(&json!({})), ("10.0.0.7".into(), 7));
        let error = Requested::parse(&json!({}), Some("10.0.0.x"), None).unwrap_err().to_string();
        assert_eq!(error, "CNI_ARGS IP: \"10.0.0.x\" is not an address");
        let error = Requested::parse(&json!({}), None, Some("01:00:00:00:00:01")).unwrap_err().to_string();
        assert_eq!(error, "CNI_ARGS MAC: \"01:00:00:00:00:01\" is not a unicast address");
    }

    #[test]
    fn c16_foreign_args_are_not_read() {
        for args in [json!("text"), json!([1]), json!({"cni": "text"}), json!({"labels": [{"key": "a"}]})] {
            assert_eq!(Requested::parse(&json!({"args": args}), None, None), Ok(Requested::default()), "{args}");
        }
    }
}
