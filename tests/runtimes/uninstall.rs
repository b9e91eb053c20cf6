//! A node that podwire has left, as containerd sees it: what docs/kubernetes.md says of pods that were not waited for.

use podwire_tests::lab::machine::Machine;
use podwire_tests::lab::scene::{check, cluster};
use podwire_tests::lab::{SOON, daemon, eventually};
use serde_json::json;

use crate::stage::{explained, held, write_conflist};

#[test]
fn cri_uninstall_remaining_pods_can_be_stopped_once_another_network_is_installed() {
    cluster(1, |lab| {
        let host = lab.nodes[0].host.clone();
        explained(Machine::new(&host)?, |containerd| {
            let pod = containerd.run_server(&containerd.pod("pod"))?;
            lab.nodes[0].daemon.take().ok_or("no daemon")?.stop(SOON)?;
            let uninstall = |more: &[&str]| {
                daemon::once(&host, &[&["uninstall", "--plugin-directory", "/run/nowhere"], more].concat())
            };
            let Err(why) = uninstall(&[]) else { return Err("it does not mind a pod".into()) };
            check(why.contains(&pod.id) && why.contains("kubectl drain"), || why.clone())?;
            uninstall(&["--pods"])?;
            // No network, no end of a pod: that is containerd's, and why pods are waited for.
            let Err(why) = containerd.stop_pod(&pod.id) else { return Err("containerd does without a network".into()) };
            check(why.contains("cni plugin not initialized"), || why)?;
            let ranges = json!([[{"subnet": "10.99.0.0/24"}]]);
            write_conflist(&host, &json!({"type": "podwire", "ipam": {"ranges": ranges}}))?;
            eventually(SOON, || containerd.stop_pod(&pod.id))?;
            containerd.remove_pod(&pod.id)?;
            check(held(&host).is_empty(), || format!("{:?}", held(&host)))
        })
    });
}
