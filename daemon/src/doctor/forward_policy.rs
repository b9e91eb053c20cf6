//! Foreign firewalls that drop what pods send, and the commands that let it pass. Which they are, `node::forward_policies`
//! finds.

use podwire_kernel::{Result, Socket};

use super::examined::Examined;
use super::finding::{Finding, FindingKind};
use super::fix::{Fix, command};
use crate::node::forward_policies::{Cut, Policies};

pub(super) fn look(node: &Examined, socket: &mut Socket) -> Result<Vec<Finding>> {
    let cidrs = node.cluster.as_ref().map(|cluster| cluster.cluster_cidrs.as_slice()).unwrap_or_default();
    Ok(Policies::read(socket)?.cut(cidrs).iter().map(judge).collect())
}

fn judge(cut: &Cut) -> Finding {
    let Cut { family, table, chain, legacy, by_rule, cidrs } = cut;
    // Tables of these names are those that the program iptables writes to, and rewrites.
    let iptables = (*family == "ip" || *family == "ip6") && table == "filter" && chain == "FORWARD";
    let program = match (*family, legacy) {
        ("ip", true) => "iptables-legacy",
        (_, true) => "ip6tables-legacy",
        ("ip", false) => "iptables",
        (_, false) => "ip6tables",
    };
    let accept_rules = cidrs.iter().flat_map(|cidr| {
        let version = if cidr.is_ipv4() { "ip" } else { "ip6" };
        if iptables {
            ["-s", "-d"].map(|side| command!("{} -I FORWARD {} {} -j ACCEPT", program, side, cidr))
        } else {
            ["saddr", "daddr"].map(|side| {
                command!("nft insert rule {} {} {} {} {} {} accept", family, table, chain, version, side, cidr)
            })
        }
    });
    let fix: Vec<_> = accept_rules.collect();
    let fix = match fix.is_empty() {
        // nft joins its arguments and reads them as its own language, whatever a shell has quoted.
        _ if !is_identifier(table) || !is_identifier(chain) => {
            "nft --handle list ruleset   # nft cannot name this chain: have the program that made it let pods pass"
                .into()
        }
        false => Fix::each(fix),
        true if *by_rule && iptables => command!("{} -L FORWARD --line-numbers   # and -D FORWARD NUMBER", program),
        true if *by_rule => {
            command!("nft --handle list chain {} {} {}   # and nft delete rule", family, table, chain)
        }
        true if *legacy => command!("{} -P FORWARD ACCEPT", program),
        true => command!("nft add chain {} {} {} '{{ policy accept; }}'", family, table, chain),
    };
    Finding::new(FindingKind::ForwardPolicyDrop, cut.name(), cut.sentence(), fix)
}

/// Whether nft can name a table or a chain so.
fn is_identifier(name: &str) -> bool {
    let follows = |character: char| character.is_ascii_alphanumeric() || "_./\\-".contains(character);
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && name.chars().all(follows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix(family: &'static str, table: &str, chain: &str, legacy: bool, cidrs: &[&str]) -> String {
        let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
        judge(&Cut { family, table: table.into(), chain: chain.into(), legacy, by_rule: false, cidrs }).fix
    }

    #[test]
    fn the_fix_is_a_command_of_the_program_that_owns_the_chain() {
        let range = ["10.244.0.0/16"];
        let rules = "iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT; iptables -I FORWARD -d 10.244.0.0/16 -j ACCEPT";
        assert_eq!(fix("ip", "filter", "FORWARD", false, &range), rules);
        assert_eq!(fix("ip", "filter", "FORWARD", true, &range), rules.replace("iptables", "iptables-legacy"));
        let both = fix("inet", "firewall", "fwd", false, &["10.244.0.0/16", "fd00:10:244::/48"]);
        assert!(both.contains("nft insert rule inet firewall fwd ip6 saddr fd00:10:244::/48 accept"), "{both}");
        for name in ["a; flush ruleset", "a b", "1", "", "a\n"] {
            let unnamed = fix("inet", name, "fwd", false, &range);
            assert!(unnamed.starts_with("nft --handle list ruleset "), "{unnamed}");
            assert_eq!(fix("inet", "firewall", name, false, &[]), unnamed);
        }
        // The ranges are unknown: the policy itself is what can be changed.
        assert_eq!(fix("inet", "firewall", "fwd", false, &[]), "nft add chain inet firewall fwd '{ policy accept; }'");
        assert_eq!(fix("ip6", "filter", "FORWARD", true, &[]), "ip6tables-legacy -P FORWARD ACCEPT");
    }
}
