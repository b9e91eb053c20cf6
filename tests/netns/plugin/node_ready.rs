//! A conflist outlives a reboot, and what podwired makes does not: no pod is attached before podwired has made it again.

use podwire_tests::lab::SOON;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::cluster;

use super::attachment::fails;

#[test]
fn after_a_reboot_no_pod_is_attached_before_the_node_is_ready() {
    cluster(1, |lab| {
        let node = &mut lab.nodes[0];
        node.add_pod("before")?;
        node.remove_pod("before")?;
        // Stopping takes nothing away, so pods come and go.
        node.daemon.take().ok_or("no daemon")?.stop(SOON)?;
        node.add_pod("stopped")?;
        node.remove_pod("stopped")?;
        let host = node.host.clone();
        let mut configuration = node.configuration()?;
        // The version that has STATUS.
        configuration["cniVersion"] = "1.1.0".into();
        let (_pod, netns) = host.pod("early")?;
        let add = Call::new("ADD", "early", &netns, &configuration);
        for family in ["-4", "-6"] {
            // Either family's part: a reboot takes them both.
            host.run("ip", &[family, "route", "flush", "proto", "112"])?;
            let why = "this node is not ready for pods of ";
            fails(&add.execute(&host)?, 11, why)?;
            fails(&add.clone().verb("STATUS").execute(&host)?, 50, why)?;
            add.clone().verb("DEL").execute(&host)?.silent()?;
        }
        node.start()?;
        node.wait_ready()?;
        add.execute(&host)?.result()?;
        add.verb("DEL").execute(&host)?.silent()
    });
}
