//! Pods with stale addresses: the node was given other pod CIDRs while they ran, and no peer routes to the old ones. Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use podwire_attachment::ledger::Record;

use crate::report::problem::{Problem, ProblemKind};

/// A pod with addresses from outside of the node's pod CIDRs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StalePod {
    /// The id of its container.
    pub(crate) container: String,
    /// All of its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// Those from outside.
    outside: Vec<IpAddr>,
}

/// The pods of podwire's network that have stale addresses. Addresses that another plugin gives are not the node's to begin
/// with.
pub(crate) fn of(attachments: &[Record], pod_cidrs: &[IpNetwork]) -> Vec<StalePod> {
    let stale = |record: &Record| {
        let own = record.addresses.iter().filter(|held| held.set.is_some()).map(|held| held.address);
        let outside: Vec<_> = own.filter(|address| !pod_cidrs.iter().any(|cidr| cidr.contains(*address))).collect();
        let (container, addresses) = (record.attachment.container.clone(), record.addresses());
        (!outside.is_empty()).then_some(StalePod { container, addresses, outside })
    };
    attachments.iter().filter_map(stale).collect()
}

impl StalePod {
    /// What is wrong with it, a sentence.
    pub(crate) fn sentence(&self) -> String {
        let outside: Vec<_> = self.outside.iter().map(ToString::to_string).collect();
        format!(
            "pod {} (container {}) has an address from pod CIDRs that this node no longer has, so no other node reaches it: \
             restart the pod",
            outside.join(" and "),
            self.container
        )
    }

    /// The same as a problem.
    pub(crate) fn problem(&self) -> Problem {
        Problem::new(ProblemKind::StaleAddress, &self.container, self.sentence())
    }
}

#[cfg(test)]
mod tests {
    use podwire_attachment::ledger::Held;
    use podwire_attachment::names::Attachment;

    use super::*;

    fn record(container: &str, addresses: &[(&str, bool)]) -> Record {
        let held = |(address, own): &(&str, bool)| Held {
            address: address.parse().unwrap(),
            set: own.then(|| "10.244.1.0/24".to_owned()),
        };
        Record {
            attachment: Attachment { network: "podwire".into(), container: container.into(), interface: "eth0".into() },
            addresses: addresses.iter().map(held).collect(),
            ports: Vec::new(),
            masquerade: Vec::new(),
            bandwidth: podwire_conf::Bandwidth::default(),
            mac: None,
            sandbox: false,
            pod: None,
            labels: podwire_conf::labels::Labels::new(),
            second_interface: None,
        }
    }

    #[test]
    fn a_pod_with_an_address_from_outside_of_the_nodes_ranges_is_found() {
        let cidrs: Vec<IpNetwork> = ["10.244.1.0/24", "fd00:1::/64"].map(|cidr| cidr.parse().unwrap()).to_vec();
        let records = [
            record("at-home", &[("10.244.1.5", true), ("fd00:1::5", true)]),
            record("old", &[("10.244.7.5", true), ("fd00:7::5", true)]),
            record("half", &[("10.244.1.6", true), ("fd00:7::6", true)]),
            record("given-by-others", &[("192.0.2.7", false)]),
        ];
        let stale = of(&records, &cidrs);
        let sentences: Vec<_> = stale.iter().map(StalePod::sentence).collect();
        assert_eq!(sentences.len(), 2, "{sentences:#?}");
        assert!(
            sentences[0].starts_with("pod 10.244.7.5 and fd00:7::5 (container old) has an address"),
            "{sentences:#?}"
        );
        assert!(sentences[1].starts_with("pod fd00:7::6 (container half) has an address"), "{sentences:#?}");
        assert_eq!(stale[1].addresses, ["10.244.1.6", "fd00:7::6"].map(|address| address.parse::<IpAddr>().unwrap()));
        assert_eq!(of(&records[..1], &cidrs), []);
    }
}
