//! Random ClusterNetworkPolicies out of the same few names, labels, addresses and ports.

use serde_json::{Value, json};

use crate::random::{ADDRESSES, Random, address};

impl Random {
    /// A policy, with few priorities, so that some have one.
    pub(crate) fn cluster_policy(&mut self, number: u64) -> Value {
        let audit = if self.once_in(8) { "true" } else { "false" };
        let mut spec = json!({
            "tier": self.of(&["Admin", "Baseline"]),
            "priority": self.of(&[0, 1, 1000]),
            "subject": self.pods(),
        });
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            if !self.once_in(4) {
                spec[direction] = json!(self.list(3, |random| random.cluster_rule(peers)));
            }
        }
        let name = format!("cluster-{number}");
        json!({"metadata": {"name": name, "annotations": {"podwire.dev/audit": audit}}, "spec": spec})
    }

    /// One of the policies is another one afterwards, comes or goes.
    pub(crate) fn change_tiers(&mut self, policies: &mut Vec<Value>) {
        let place = usize::try_from(self.below(policies.len() as u64)).unwrap();
        match self.below(6) {
            0 => {
                let number = policies.len() as u64;
                policies.push(self.cluster_policy(number));
            }
            // The last one stays, so that there is something to change.
            1 if policies.len() > 1 => drop(policies.pop()),
            2 => {
                let audit = &mut policies[place]["metadata"]["annotations"]["podwire.dev/audit"];
                *audit = json!(if *audit == "true" { "false" } else { "true" });
            }
            3 => policies[place]["spec"]["priority"] = json!(self.of(&[0, 1, 2, 1000])),
            4 => policies[place]["spec"]["tier"] = json!(self.of(&["Admin", "Baseline"])),
            _ => policies[place] = self.cluster_policy(place as u64),
        }
    }

    fn cluster_rule(&mut self, of_peers: &str) -> Value {
        let mut rule = json!({"action": self.of(&["Accept", "Deny", "Pass"])});
        if self.once_in(3) {
            rule["name"] = json!(self.of(&["monitoring", "a rule"]));
        }
        let mut peers = vec![self.cluster_peer(of_peers)];
        peers.extend(self.list(1, |random| random.cluster_peer(of_peers)));
        rule[of_peers] = json!(peers);
        if self.once_in(2) {
            let mut protocols = vec![self.protocol()];
            protocols.extend(self.list(2, Self::protocol));
            rule["protocols"] = json!(protocols);
        }
        rule
    }

    fn cluster_peer(&mut self, of_peers: &str) -> Value {
        // What is not supported, or not known.
        if self.once_in(24) {
            let (nodes, domains) = (json!({"nodes": {}}), json!({"domainNames": ["example.com"]}));
            let place = if of_peers == "to" { self.below(3) } else { 0 };
            return [json!({}), nodes, domains][usize::try_from(place).unwrap()].clone();
        }
        if of_peers == "to" && self.once_in(2) {
            let mut networks = vec![self.network()];
            networks.extend(self.list(2, Self::network));
            return json!({"networks": networks});
        }
        self.pods()
    }

    /// A subject or a peer.
    fn pods(&mut self) -> Value {
        if self.once_in(2) {
            return json!({"namespaces": self.selector()});
        }
        json!({"pods": {"namespaceSelector": self.selector(), "podSelector": self.selector()}})
    }

    fn network(&mut self) -> Value {
        let is_ipv4 = self.once_in(2);
        if self.once_in(6) {
            return json!(if is_ipv4 { "0.0.0.0/0" } else { "::/0" });
        }
        let (bits, host_bits) = (if is_ipv4 { 32 } else { 128 }, self.below(5));
        let begin = self.below(ADDRESSES) >> host_bits << host_bits;
        json!(format!("{}/{}", address(is_ipv4, begin), bits - host_bits))
    }

    fn protocol(&mut self) -> Value {
        let name = self.of(&["tcp", "tcp", "udp", "sctp"]);
        match self.below(6) {
            0 => json!({"destinationNamedPort": self.of(&["http", "dns"])}),
            1 => {
                let (one, other) = (self.port(), self.port());
                let (first, last) = (one.min(other), one.max(other));
                match first == last {
                    true => json!({name: {"destinationPort": {"range": {"start": 1, "end": 65535}}}}),
                    false => json!({name: {"destinationPort": {"range": {"start": first, "end": last}}}}),
                }
            }
            2 if self.once_in(12) => json!({}),
            _ => json!({name: {"destinationPort": {"number": self.port()}}}),
        }
    }
}
