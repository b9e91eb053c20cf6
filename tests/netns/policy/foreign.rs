//! What other programs do to the node's rules while policies are written.

use std::fs;
use std::time::Duration;

use podwire_kernel::{Socket, nft};
use podwire_tests::lab::policies::{policed, put};
use podwire_tests::lab::scene::check;
use podwire_tests::lab::{SOON, eventually};
use serde_json::json;

use super::stage::{add_pod, app, of};

/// Well before the daemon looks at everything without a cause.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The table of the daemon that is not the policies'.
const TABLE: &str = "podwire";

/// Whether anybody in this namespace is told of changes of nftables: NETLINK_NETFILTER is protocol 12, NFNLGRP_NFTABLES group 7.
fn somebody_listens() -> bool {
    let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap_or_default();
    let fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.into_iter().any(|fields| fields.get(1) == Some(&"12") && fields.get(3) == Some(&"00000040"))
}

#[test]
fn what_another_program_removes_while_nobody_listens_is_restored_at_once() {
    policed(1, |lab| {
        add_pod(lab, 0, "server", &app("server"), &json!({}))?;
        let host = lab.nodes[0].host.clone();
        for round in 0..4 {
            let block = |number: u32| {
                let [high, low] = [number / 250, number % 250];
                json!({"ipBlock": {"cidr": format!("198.{}.{low}.{round}/32", 18 + high)}})
            };
            // So many entries that it takes a while to write them; more a rule cannot have.
            let blocks = |from: u32| json!({"from": (from..from + 1000).map(block).collect::<Vec<_>>()});
            let rules = json!({"ingress": [blocks(0), blocks(1000)]});
            // The change of the last round may still be being written.
            eventually(SOON, || check(host.enter(somebody_listens), || "nobody listens".into()))?;
            put(lab, "server", &of("server", &rules))?;
            host.enter(|| {
                let failed = |error: podwire_kernel::Error| error.to_string();
                let mut socket = Socket::netfilter().map_err(failed)?;
                let deadline = std::time::Instant::now() + SOON;
                // It is a few milliseconds.
                while somebody_listens() {
                    check(std::time::Instant::now() < deadline, || "the daemon listens all the time".into())?;
                }
                nft::remove_table(&mut socket, TABLE).map(drop).map_err(failed)
            })?;
            eventually(AT_ONCE, || {
                let found = host.run("nft", &["list", "table", "inet", TABLE]);
                found.map(drop).map_err(|why| format!("round {round}: {why}"))
            })?;
        }
        Ok(())
    });
}
