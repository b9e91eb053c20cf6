//! Foreign firewalls that drop what pods send: chains at the hook "forward", of nftables and of the legacy iptables, with
//! the policy "drop" or with a rule that drops or rejects every packet that comes to it.
//!
//! A chain that drops does so in vain where a rule of its table matches the pods, by their ranges or their devices. Whether
//! that rule accepts them, the probes of the peers show.

use ipnetwork::IpNetwork;
use podwire_conf::defaults;
use podwire_kernel::family::IpVersion;
use podwire_kernel::iptables::{self, DropPolicy};
use podwire_kernel::nft::{self, DropChain};
use podwire_kernel::{Result, Socket, family};

use crate::report::problem::{Problem, ProblemKind};

/// A chain that drops pods' packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The family of its table, as `nft` calls it.
    pub(crate) family: &'static str,
    /// Its table.
    pub(crate) table: String,
    /// Its name.
    pub(crate) chain: String,
    /// Whether it is one of the legacy iptables, which `nft` does not show.
    pub(crate) legacy: bool,
    /// Whether a rule for all packets drops them, and not the policy.
    pub(crate) by_rule: bool,
    /// The cluster CIDRs whose packets it drops; none where they are not known.
    pub(crate) cidrs: Vec<IpNetwork>,
}

/// The chains of this node, as the kernel has them.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    chains: Vec<DropChain>,
    legacy: Vec<DropPolicy>,
}

impl Policies {
    /// Reads them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn read(socket: &mut Socket) -> Result<Self> {
        Ok(Self { chains: nft::drop_chains(socket)?, legacy: iptables::drop_policies()? })
    }

    /// Those that drop packets of pods with these ranges.
    pub(crate) fn cut(&self, cidrs: &[IpNetwork]) -> Vec<Cut> {
        let ours = |chain: &&DropChain| chain.family == "inet" && chain.table == defaults::TABLE;
        let chains = self.chains.iter().filter(|chain| !ours(chain)).map(|found| {
            let DropChain { family, table, chain, by_rule, rules } = found;
            let (table, chain, by_rule) = (table.clone(), chain.clone(), *by_rule);
            (Cut { family, table, chain, legacy: false, by_rule, cidrs: Vec::new() }, rules)
        });
        let legacy = self.legacy.iter().map(|found| {
            let family = if found.version == IpVersion::V4 { "ip" } else { "ip6" };
            let (table, chain) = ("filter".into(), "FORWARD".into());
            let by_rule = found.by_rule;
            (Cut { family, table, chain, legacy: true, by_rule, cidrs: Vec::new() }, &found.rules)
        });
        chains.chain(legacy).filter_map(|(cut, rules)| judge(cut, rules, cidrs)).collect()
    }
}

fn judge(cut: Cut, rules: &[Vec<u8>], cidrs: &[IpNetwork]) -> Option<Cut> {
    let seen = |cidr: &&IpNetwork| match cut.family {
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
    let dropped: Vec<_> = cidrs.iter().filter(seen).filter(unmatched).copied().collect();
    (cidrs.is_empty() || !dropped.is_empty()).then_some(Cut { cidrs: dropped, ..cut })
}

/// The bytes of a range that a rule compares: nftables leaves out those that the prefix does not reach.
fn meaningful(cidr: IpNetwork) -> Vec<u8> {
    let length = usize::from(cidr.prefix()).div_ceil(8).max(1);
    family::bytes(cidr.network()).into_iter().take(length).collect()
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

impl Cut {
    /// Which chain it is, in a few words.
    pub(crate) fn name(&self) -> String {
        let legacy = if self.legacy { " (legacy iptables)" } else { "" };
        format!("{} {} {}{legacy}", self.family, self.table, self.chain)
    }

    /// What is wrong with it, a sentence.
    pub(crate) fn sentence(&self) -> String {
        let Self { family, table, chain, .. } = self;
        let whose = if self.legacy { " of the legacy iptables, which nft does not show," } else { "" };
        let how = if self.by_rule { "by a rule for all packets" } else { "by its policy" };
        format!(
            "chain {chain} of table {family} {table}{whose} drops what is forwarded, {how}, and no rule there lets pods' \
             packets pass"
        )
    }

    /// The problem that it is.
    pub(crate) fn problem(&self) -> Problem {
        let text = format!("{}: `podwired doctor` has the commands that let them pass", self.sentence());
        Problem::new(ProblemKind::ForwardPolicyDrop, self.name(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs() -> Vec<IpNetwork> {
        ["10.244.0.0/16", "fd00:10:244::/48"].map(|text| text.parse().unwrap()).to_vec()
    }

    fn cut(family: &'static str, table: &str, rules: &[&[u8]]) -> Vec<String> {
        let rules = rules.iter().map(|rule| rule.to_vec()).collect();
        let chains = vec![DropChain { family, table: table.into(), chain: "forward".into(), by_rule: false, rules }];
        let found = Policies { chains, legacy: Vec::new() }.cut(&cidrs());
        found.into_iter().flat_map(|cut| cut.cidrs).map(|cidr| cidr.to_string()).collect()
    }

    #[test]
    fn a_drop_chain_with_a_rule_for_the_pods_cuts_nothing_and_neither_does_our_own_table() {
        let range: &[u8] = &[1, 2, 10, 244, 9];
        assert_eq!(cut("ip", "filter", &[b"docker0"]), ["10.244.0.0/16"]);
        assert!(cut("ip", "filter", &[range]).is_empty());
        assert!(cut("ip", "filter", &[b"xpw\0"]).is_empty());
        assert!(cut("inet", "podwire", &[]).is_empty());
        // The rule is about IPv4, the chain sees both.
        assert_eq!(cut("inet", "filter", &[range]), ["fd00:10:244::/48"]);
    }

    #[test]
    fn a_legacy_table_that_drops_is_named_as_such() {
        let legacy = vec![DropPolicy { version: IpVersion::V6, by_rule: true, rules: vec![b"docker0".to_vec()] }];
        let [found] = Policies { chains: Vec::new(), legacy }.cut(&cidrs()).try_into().unwrap();
        assert_eq!((found.name().as_str(), found.cidrs.len()), ("ip6 filter FORWARD (legacy iptables)", 1));
        assert!(found.sentence().contains("legacy iptables"), "{}", found.sentence());
        assert!(found.sentence().contains("by a rule for all packets"), "{}", found.sentence());
    }
}
