//! An address that another pod has at once after its release: what the fast path remembers of it leads nowhere, and holds
//! nothing up.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::node::Pod;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, cluster};
use podwire_tests::lab::{SOON, eventually, wire};

use super::fast_path::three_pods;

const PORT: u16 = 7400;

fn socket(host: &Host, address: IpAddr, port: u16) -> Outcome<UdpSocket> {
    let open = || {
        let socket = UdpSocket::bind((address, port))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(socket)
    };
    let opened: std::io::Result<_> = host.enter(open);
    opened.map_err(|error| format!("open {address} on {}: {error}", host.name))
}

/// A datagram to the pod's socket, and one back.
fn exchange(from: &UdpSocket, to: &UdpSocket) -> Outcome {
    let exchange = || -> std::io::Result<()> {
        let (mut buffer, address) = ([0; 16], to.local_addr()?);
        from.send_to(b"question", address)?;
        let (_, asked): (usize, SocketAddr) = to.recv_from(&mut buffer)?;
        to.send_to(b"answer", asked)?;
        from.recv_from(&mut buffer).map(drop)
    };
    exchange().map_err(|error| format!("an exchange of datagrams: {error}"))
}

#[test]
fn a_new_pod_with_a_released_address_receives_the_first_packet() {
    cluster(2, |lab| {
        three_pods(lab)?;
        for (node, name, port) in [(1, "far", PORT), (0, "beside", PORT + 1)] {
            for like in FAMILIES {
                let port = port + 10 * u16::from(like.is_ipv6());
                let other = lab.nodes[node].pod(name);
                let other = socket(&other.host, other.address(like), port)?;
                let (address, both) =
                    (lab.nodes[0].pod("near").address(like), lab.nodes[0].pod("near").addresses.clone());
                let own = socket(&lab.nodes[0].pod("near").host, address, port)?;
                // The kernel assures itself of datagrams for two seconds (net/netfilter/nf_conntrack_proto_udp.c).
                eventually(SOON, || {
                    exchange(&other, &own)?;
                    let table = lab.nodes[0].host.run("cat", &["/proc/net/nf_conntrack"])?;
                    let port = format!(" dport={} ", own.local_addr().map_or(0, |own| own.port()));
                    let flow =
                        table.lines().rfind(|line| line.contains(&port) && line.contains("udp")).unwrap_or_default();
                    check(flow.contains("[ASSURED]"), || table.clone())
                })?;
                (0..50).try_for_each(|_| exchange(&other, &own))?;
                drop(own);
                lab.nodes[0].remove_pod("near")?;
                let mut configuration = lab.nodes[0].configuration()?;
                configuration["runtimeConfig"] = serde_json::json!({ "ips": both });
                let (host, netns) = lab.nodes[0].host.pod("near")?;
                wire::set_up(&host, "lo")?;
                let added = Call::new("ADD", "near", &netns, &configuration).execute(&lab.nodes[0].host)?.result()?;
                check(added.to_string().contains(&address.to_string()), || added.to_string())?;
                let own = socket(&host, address, port)?;
                // The first packet: there is no second one.
                exchange(&other, &own).map_err(|why| format!("{name} to the new pod with {address}: {why}"))?;
                let pod = Pod { host, netns, addresses: both, programs: Vec::new() };
                lab.nodes[0].pods.push(pod);
            }
        }
        Ok(())
    });
}
