//! Readiness where policies are to be in force: a node is ready once they are, and stays so while what was in force stays. It never is a
//! reason to restart the daemon.

use podwire_tests::lab::policies::{directory, follow, put, remove, write};
use podwire_tests::lab::scene::{Outcome, check, scene};
use podwire_tests::lab::{SOON, daemon, eventually};
use serde_json::json;

use crate::operations::metrics::get;

const WRONG: &str =
    "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: a}, spec: {podSelektor: {}}}";

#[test]
fn a_node_is_ready_once_its_policies_are_in_force_and_alive_before() {
    scene(1, |lab| {
        follow(lab)?;
        // Read once it is corrected: until then it is not known what is to be in force.
        write(lab, "wrong.yaml", WRONG)?;
        let policies = directory();
        daemon::start(&mut lab.nodes[0], &["--metrics", "127.0.0.1:9472", "--policies", &policies])?;
        lab.nodes[0].wait_ready()?;
        let host = lab.nodes[0].host.clone();
        let ready = |wanted: &str, because: &[&str]| {
            eventually(SOON, || {
                let (status, why) = get(&host, "/readyz")?;
                let told = status == format!("HTTP/1.1 {wanted}") && because.iter().all(|word| why.contains(word));
                check(told, || format!("{status}: {why}"))
            })
        };
        let alive = || -> Outcome {
            let alive = get(&host, "/healthz")?;
            check(alive == ("HTTP/1.1 200 OK".into(), "ok\n".into()), || format!("{alive:?}"))
        };
        ready("503 Service Unavailable", &["NetworkPolicies are not in force", "wrong.yaml", "podSelektor"])?;
        alive()?;
        remove(lab, "wrong.yaml")?;
        ready("200 OK", &["ok"])?;
        // What was in force stays, and so does the node.
        put(lab, "nobody", &json!({"podSelector": {}}))?;
        write(lab, "wrong.yaml", WRONG)?;
        eventually(SOON, || {
            let named = podwire_tests::lab::policies::problems(&lab.nodes[0], "policies-not-in-force")?;
            check(!named.is_empty(), || "the mistake is not named".into())
        })?;
        ready("200 OK", &["ok"])?;
        alive()
    });
}
