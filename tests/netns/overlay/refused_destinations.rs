//! `refused_destinations` and the cluster: the longer prefix counts. Those outside of it, `outside` plays.

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::frame::send_packet;
use podwire_tests::lab::membership::underlay_address;
use podwire_tests::lab::outside_address;
use podwire_tests::lab::scene::{FAMILIES, check, reaches, scene};

use super::forged::{CARRIED_PORT, send};
use super::guards::{has_refused, refused, start_with};
use super::local_sources::gateway;
use super::outside::stray_segment;

#[test]
fn a_refused_part_of_the_cluster_is_not_reached_and_the_cluster_in_a_refused_prefix_is() {
    const REFUSED: &str =
        "refused_destinations = [\"10.0.0.0/8\", \"fd00::/8\", \"10.244.2.0/24\", \"fd00:10:244:2::/64\"]\n";
    for settings in ["", "fast_path = false\n", "masquerade = false\n"] {
        scene(3, |lab| {
            lab.nodes.iter_mut().take(1).try_for_each(|node| start_with(node, &format!("{settings}{REFUSED}")))?;
            lab.nodes.iter_mut().skip(1).try_for_each(|node| start_with(node, settings))?;
            for (place, node) in lab.nodes.iter_mut().enumerate() {
                node.add_pod(&format!("pod-{}", place + 1))?;
            }
            lab.nodes[0].add_pod("beside")?;
            let responders = lab.nodes.iter().flat_map(|node| &node.pods).map(|pod| Responder::start(&pod.host));
            let _responders = responders.collect::<Result<Vec<_>, _>>()?;
            let [pod, beside] = ["pod-1", "beside"].map(|name| lab.nodes[0].pod(name));
            let [second, third] = [1, 2].map(|place: usize| &lab.nodes[place].pods[0]);
            let node = &lab.nodes[0].host;
            for like in FAMILIES {
                let own = pod.address(like);
                reaches(&pod.host, own, third.address(like))?;
                reaches(&pod.host, own, beside.address(like))?;
                let before = refused(node, "pod-destinations")?;
                send(&pod.host, None, (second.address(like), CARRIED_PORT).into(), b"refused")?;
                has_refused(node, "pod-destinations", before + 1)?;
                // What has no connection is not let through, either.
                let stray = stray_segment(own, second.address(like));
                send_packet(&pod.host, "eth0", gateway(&pod.host)?, &stray)?;
                has_refused(node, "pod-destinations", before + 2)?;
                let reached = reaches(&pod.host, own, second.address(like));
                check(reached.is_err(), || format!("{} is reached", second.address(like)))?;
                if like.is_ipv6() {
                    // Outside of the cluster, and within fd00::/8.
                    let before = refused(node, "pod-destinations")?;
                    send(&pod.host, None, (outside_address(like), CARRIED_PORT).into(), b"refused")?;
                    has_refused(node, "pod-destinations", before + 1)?;
                }
                send(&pod.host, None, (underlay_address(1, like), CARRIED_PORT).into(), b"to the node itself")?;
            }
            for like in FAMILIES {
                // It may answer, where connections are tracked.
                let asked = reaches(&second.host, second.address(like), pod.address(like));
                check(asked.is_ok() != settings.contains("masquerade"), || format!("asked by pod-2: {asked:?}"))?;
            }
            Ok(())
        });
    }
}
