//! Foreign firewalls that drop what is forwarded: status and doctor name the chain, in nftables and in the legacy iptables,
//! and only where pods are cut off by it.

use podwire_tests::lab::daemon::{self, json};
use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster, reaches};
use podwire_tests::lab::{Lab, SOON, eventually};
use serde_json::Value;

/// The doctor's findings: subject and fix.
type Findings = Vec<(String, String)>;

/// The subjects of the problems of this kind in the first node's status, and the findings.
fn named(lab: &Lab) -> Outcome<(Vec<String>, Findings)> {
    const KIND: &str = "forward-policy-drop";
    let host = &lab.nodes[0].host;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_kind = |list: &Value| {
        let list = list.as_array().cloned().unwrap_or_default();
        list.into_iter().filter(|entry| entry["kind"] == KIND).collect::<Vec<_>>()
    };
    let status = json(host, &["status", "--json"])?;
    let doctor = json(host, &["doctor", "--json"])?;
    let problems = of_kind(&status["problems"]).iter().map(|problem| text(&problem["subject"])).collect();
    let findings = of_kind(&doctor).into_iter().map(|finding| (text(&finding["subject"]), text(&finding["fix"])));
    Ok((problems, findings.collect()))
}

#[test]
fn a_policy_that_cuts_pods_is_named_by_status_and_doctor_and_the_fix_helps() {
    let nft = |family: &str| {
        let chain = "{ type filter hook forward priority 0; policy drop; }";
        format!("nft 'add table {family} wall; add chain {family} wall across {chain}'")
    };
    let walls = [
        ("iptables-legacy -P FORWARD DROP".to_owned(), "ip filter FORWARD (legacy iptables)", FAMILIES[0]),
        ("ip6tables-legacy -P FORWARD DROP".to_owned(), "ip6 filter FORWARD (legacy iptables)", FAMILIES[1]),
        ("iptables-nft -P FORWARD DROP".to_owned(), "ip filter FORWARD", FAMILIES[0]),
        ("ip6tables-nft -P FORWARD DROP".to_owned(), "ip6 filter FORWARD", FAMILIES[1]),
        (nft("inet"), "inet wall across", FAMILIES[1]),
        // The policy accepts, and a rule for all packets does not let it come to that.
        (
            "iptables-nft -A FORWARD -i lo -j ACCEPT; iptables-nft -A FORWARD -m comment --comment end -j REJECT"
                .to_owned(),
            "ip filter FORWARD",
            FAMILIES[0],
        ),
        ("ip6tables-nft -A FORWARD -j DROP".to_owned(), "ip6 filter FORWARD", FAMILIES[1]),
        (
            "iptables-legacy -N END; iptables-legacy -A END -j REJECT; iptables-legacy -A FORWARD -i lo -j ACCEPT; \
             iptables-legacy -A FORWARD -m comment --comment end -j END"
                .to_owned(),
            "ip filter FORWARD (legacy iptables)",
            FAMILIES[0],
        ),
        ("ip6tables-legacy -A FORWARD -j DROP".to_owned(), "ip6 filter FORWARD (legacy iptables)", FAMILIES[1]),
        (
            "nft 'add table inet wall; add chain inet wall end; \
             add chain inet wall across { type filter hook forward priority 0; policy accept; }; \
             add rule inet wall end limit rate 1/second log; add rule inet wall end counter reject; \
             add rule inet wall across ct state { established, related } accept; \
             add rule inet wall across goto end'"
                .to_owned(),
            "inet wall across",
            FAMILIES[0],
        ),
    ];
    for (wall, subject, like) in walls {
        cluster(2, |lab| {
            let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
            lab.nodes[0].add_pod("near")?;
            let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
            let reach = || reaches(&near.host, near.address(like), far.address(like));
            let host = &lab.nodes[0].host;
            let before = named(lab)?;
            check(before.0.is_empty() && before.1.is_empty(), || format!("{wall}: {before:?} before"))?;
            host.run("sh", &["-ec", &wall])?;
            check(reach().is_err(), || format!("{wall}: the pod is not cut off"))?;
            let (problems, findings) = named(lab)?;
            let found: Vec<_> = findings.iter().map(|(subject, _)| subject.as_str()).collect();
            check(problems == [subject] && found == [subject], || format!("{wall}: {problems:?}, {findings:?}"))?;
            let shown = daemon::once(host, &["status"]);
            check(shown.is_err(), || format!("{wall}: status says that nothing is wrong"))?;
            host.run("sh", &["-ec", &findings[0].1])?;
            eventually(SOON, reach)?;
            let after = named(lab)?;
            check(after.0.is_empty() && after.1.is_empty(), || format!("{wall}: {after:?} after the fix"))
        });
    }
}

#[test]
fn a_policy_beside_a_rule_for_pods_devices_is_named_by_nobody() {
    cluster(2, |lab| {
        let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
        lab.nodes[0].add_pod("near")?;
        for rule in ["-P FORWARD DROP", "-A FORWARD -i pw+ -j ACCEPT", "-A FORWARD -o pw+ -j ACCEPT"] {
            for program in ["iptables-legacy", "ip6tables-legacy"] {
                lab.nodes[0].host.run("sh", &["-ec", &format!("{program} {rule}")])?;
            }
        }
        let found = named(lab)?;
        check(found.0.is_empty() && found.1.is_empty(), || format!("{found:?}"))?;
        let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
        FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))
    });
}

#[test]
fn rules_that_do_not_cut_pods_are_named_by_nobody() {
    let nft = |rules: &str| {
        format!(
            "nft 'add table inet wall; add chain inet wall end; add rule inet wall end drop; \
             add chain inet wall across {{ type filter hook forward priority 0; policy drop; }}; {rules}'"
        )
    };
    for wall in [
        // The policy is never come to; what drops has a condition, or stands behind what accepts.
        nft("add rule inet wall across meta l4proto sctp drop; add rule inet wall across counter accept; add rule inet wall across drop"),
        nft("add rule inet wall across iifname \"lo\" goto end; add rule inet wall across log accept"),
        "for tool in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do $tool -N END; $tool -A END -j RETURN; \
         $tool -A END -j DROP; $tool -A FORWARD -j END; $tool -A FORWARD -i lo -j REJECT; $tool -A FORWARD -p sctp -g END; done"
            .to_owned(),
        "for tool in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do $tool -P FORWARD DROP; \
         $tool -A FORWARD -j ACCEPT; $tool -A FORWARD -j DROP; done"
            .to_owned(),
    ] {
        cluster(2, |lab| {
            let _far = Responder::start(&lab.nodes[1].add_pod("far")?.host)?;
            lab.nodes[0].add_pod("near")?;
            lab.nodes[0].host.run("sh", &["-ec", &wall])?;
            let found = named(lab)?;
            check(found.0.is_empty() && found.1.is_empty(), || format!("{wall}: {found:?}"))?;
            let (near, far) = (lab.nodes[0].pod("near"), lab.nodes[1].pod("far"));
            FAMILIES.into_iter().try_for_each(|like| reaches(&near.host, near.address(like), far.address(like)))
        });
    }
}

#[test]
fn a_look_makes_no_table_of_the_legacy_iptables() {
    cluster(1, |lab| {
        named(lab)?;
        let host = &lab.nodes[0].host;
        let names = "cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names";
        let names = host.run("sh", &["-c", names])?;
        check(names.trim().is_empty(), || format!("there are tables now: {names}"))
    });
}
