//! Foreign firewalls that drop what pods send: chains at the hook "forward" with the policy "drop". (Those of the legacy
//! iptables are not seen by nftables, and not here.)

use ipnetwork::IpNetwork;
use podwire_conf::defaults;
use podwire_kernel::nft::{self, DropChain};
use podwire_kernel::{Result, Socket, family};

use super::examined::Examined;
use super::finding::{Finding, FindingKind};

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let cidrs = node.cluster.as_ref().map(|cluster| cluster.cluster_cidrs.as_slice()).unwrap_or_default();
    Ok(nft::drop_chains(socket)?.iter().filter_map(|chain| judge(chain, cidrs)).collect())
}

/// A chain that drops is no finding where a rule of its table matches the pods: their ranges or their devices. Whether that
/// rule accepts them, the probes of the peers show.
fn judge(chain: &DropChain, cidrs: &[IpNetwork]) -> Option<Finding> {
    let DropChain { family, table, chain: name, rules } = chain;
    if *family == "inet" && table == defaults::TABLE {
        return None;
    }
    let seen = |cidr: &&IpNetwork| match *family {
        "ip" => cidr.is_ipv4(),
        "ip6" => cidr.is_ipv6(),
        _ => true,
    };
    let unmatched = |cidr: &&IpNetwork| {
        let range = meaningful(**cidr);
        let devices = [defaults::OVERLAY_DEVICE, defaults::HOST_VETH_PREFIX].map(str::as_bytes);
        let mentions_pods =
            |rule: &Vec<u8>| [&range[..], devices[0], devices[1]].iter().any(|wanted| contains(rule, wanted));
        !rules.iter().any(mentions_pods)
    };
    let dropped: Vec<_> = cidrs.iter().filter(seen).filter(unmatched).collect();
    if dropped.is_empty() && !cidrs.is_empty() {
        return None;
    }
    let accept_rules = |cidr: &&IpNetwork| {
        let version = if cidr.is_ipv4() { "ip" } else { "ip6" };
        // Tables of these names are those that the program iptables writes to, and rewrites.
        match (*family, table.as_str(), name.as_str(), version) {
            ("ip", "filter", "FORWARD", _) => {
                ["-s", "-d"].map(|side| format!("iptables -I FORWARD {side} {cidr} -j ACCEPT"))
            }
            ("ip6", "filter", "FORWARD", _) => {
                ["-s", "-d"].map(|side| format!("ip6tables -I FORWARD {side} {cidr} -j ACCEPT"))
            }
            _ => ["saddr", "daddr"]
                .map(|side| format!("nft insert rule {family} {table} {name} {version} {side} {cidr} accept")),
        }
    };
    let fix: Vec<_> = dropped.iter().flat_map(accept_rules).collect();
    let fix = if fix.is_empty() {
        format!("nft add chain {family} {table} {name} '{{ policy accept; }}'")
    } else {
        fix.join("; ")
    };
    let cause = format!(
        "chain {name} of table {family} {table} drops what is forwarded, and no rule there lets pods' packets pass"
    );
    Some(Finding::new(FindingKind::ForwardPolicyDrop, format!("{family} {table} {name}"), cause, fix))
}

/// The bytes of a range that a rule compares: nftables leaves out those that the prefix does not reach.
fn meaningful(cidr: IpNetwork) -> Vec<u8> {
    let length = usize::from(cidr.prefix()).div_ceil(8).max(1);
    family::bytes(cidr.network()).into_iter().take(length).collect()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs() -> Vec<IpNetwork> {
        ["10.244.0.0/16", "fd00:10:244::/48"].map(|text| text.parse().unwrap()).to_vec()
    }

    fn chain(family: &'static str, table: &str, chain: &str, rules: &[&[u8]]) -> DropChain {
        let rules = rules.iter().map(|rule| rule.to_vec()).collect();
        DropChain { family, table: table.into(), chain: chain.into(), rules }
    }

    #[test]
    fn a_chain_that_drops_and_says_nothing_of_pods_is_found_with_the_rules_that_fix_it() {
        let docker = judge(&chain("ip", "filter", "FORWARD", &[b"docker0"]), &cidrs()).unwrap();
        assert_eq!(
            docker.fix,
            "iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT; iptables -I FORWARD -d 10.244.0.0/16 -j ACCEPT"
        );
        let both = judge(&chain("inet", "firewall", "fwd", &[]), &cidrs()).unwrap();
        assert!(
            both.fix.contains("nft insert rule inet firewall fwd ip6 saddr fd00:10:244::/48 accept"),
            "{}",
            both.fix
        );
        // The ranges are unknown: the policy itself is what can be changed.
        let unknown = judge(&chain("inet", "firewall", "fwd", &[]), &[]).unwrap();
        assert_eq!(unknown.fix, "nft add chain inet firewall fwd '{ policy accept; }'");
    }

    #[test]
    fn a_drop_chain_with_a_rule_for_the_pods_is_no_finding_and_neither_is_our_own_table() {
        let range: &[u8] = &[1, 2, 10, 244, 9];
        assert_eq!(judge(&chain("ip", "filter", "FORWARD", &[range]), &cidrs()), None);
        assert_eq!(judge(&chain("ip", "filter", "FORWARD", &[b"xpw\0"]), &cidrs()), None);
        assert_eq!(judge(&chain("inet", "podwire", "forward", &[]), &cidrs()), None);
        // The rule is about IPv4, the chain sees both.
        let half = judge(&chain("inet", "filter", "forward", &[range]), &cidrs()).unwrap();
        assert!(half.fix.contains("ip6 saddr") && !half.fix.contains("ip saddr"), "{}", half.fix);
    }
}
