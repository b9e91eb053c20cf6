//! The engine of kube-network-policies, as the command that tests/policy-oracle makes of it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use policy_model::stored::stored;
use serde_json::json;

use crate::oracle::{Case, Said, run};

/// What the engine says.
pub(crate) fn judge(scratch: &Path, cases: &[Case]) -> Vec<Said> {
    let path = scratch.join("clusters.json");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    for case in cases {
        let world = stored(&case.world);
        let packets: Vec<_> = case
            .packets
            .iter()
            .map(|packet| {
                let (protocol, port) = packet.port.unwrap_or(("ICMP", 0));
                json!({"source": packet.source, "destination": packet.destination, "protocol": protocol, "port": port})
            })
            .collect();
        let cluster = json!({
            "namespaces": world.namespaces, "pods": world.pods, "policies": world.policies,
            "clusterPolicies": world.cluster_policies, "packets": packets,
        });
        writeln!(file, "{cluster}").unwrap();
    }
    file.into_inner().unwrap();
    let said = run("policy-oracle", &[], &path);
    let allows = |word: &str| match word {
        "allow" => true,
        "deny" => false,
        other => panic!("policy-oracle says {other:?}"),
    };
    let line = |line: &str| {
        let (egress, ingress) = line.split_once(' ').unwrap();
        Said::Ends { egress: allows(egress), ingress: allows(ingress) }
    };
    said.lines().map(line).collect()
}
