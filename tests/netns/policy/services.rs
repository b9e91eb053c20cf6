//! Services as kube-proxy makes them on a node, in the layout of its mode nftables or iptables: the address of a Service is
//! translated to that of its endpoint, and a pod that reaches itself so is masqueraded.

use std::net::SocketAddr;

use podwire_tests::lab::host::Host;
use podwire_tests::lab::scene::Outcome;

/// The mode of kube-proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Nftables,
    Iptables,
}

/// A port of a Service, with one endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServicePort {
    pub(super) protocol: &'static str,
    pub(super) address: SocketAddr,
    pub(super) endpoint: SocketAddr,
    /// Whether clients are masqueraded, as those from outside are whose answers could take another way.
    pub(super) masqueraded: bool,
}

impl ServicePort {
    /// One whose clients' addresses stay.
    pub(super) fn new(protocol: &'static str, address: SocketAddr, endpoint: SocketAddr) -> Self {
        Self { protocol, address, endpoint, masqueraded: false }
    }
}

/// Makes them on a node, in place of those that are there.
pub(super) fn translate(node: &Host, mode: Mode, services: &[ServicePort]) -> Outcome {
    for is_ipv4 in [true, false] {
        let own: Vec<_> = services.iter().filter(|service| service.address.is_ipv4() == is_ipv4).copied().collect();
        match mode {
            Mode::Nftables => nftables(node, is_ipv4, &own)?,
            Mode::Iptables => iptables(node, is_ipv4, &own)?,
        }
    }
    Ok(())
}

/// A map from address, protocol and port to a chain for the Service, and from there to one for the endpoint.
fn nftables(node: &Host, is_ipv4: bool, services: &[ServicePort]) -> Outcome {
    let (family, address) = if is_ipv4 { ("ip", "ipv4_addr") } else { ("ip6", "ipv6_addr") };
    let mut text = format!(
        "table {family} kube-proxy {{}}\ndelete table {family} kube-proxy\ntable {family} kube-proxy {{\n\
         map service-ips {{ type {address} . inet_proto . inet_service : verdict; }}\n\
         chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}\n\
         chain services {{ {family} daddr . meta l4proto . th dport vmap @service-ips; }}\n\
         chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}\n\
         chain nat-output {{ type nat hook output priority -100; jump services; }}\n\
         chain nat-postrouting {{ type nat hook postrouting priority srcnat; \
         meta mark and 0x4000 != 0 meta mark set meta mark and 0xffffbfff masquerade fully-random; }}\n"
    );
    let (mut chains, mut elements) = (String::new(), Vec::new());
    for (number, ServicePort { protocol, address, endpoint, masqueraded }) in services.iter().enumerate() {
        let (protocol, own) = (protocol.to_lowercase(), endpoint.ip());
        let mark = if *masqueraded { "jump mark-for-masquerade;" } else { "" };
        chains += &format!(
            "chain endpoint-{number} {{ {family} saddr {own} jump mark-for-masquerade; \
             meta l4proto {protocol} dnat to {endpoint}; }}\n\
             chain service-{number} {{ {mark} numgen random mod 1 vmap {{ 0 : goto endpoint-{number} }}; }}\n"
        );
        elements.push(format!("{} . {protocol} . {} : goto service-{number}", address.ip(), address.port()));
    }
    text += &format!("{chains}}}\n");
    if !elements.is_empty() {
        text += &format!("add element {family} kube-proxy service-ips {{ {} }}\n", elements.join(", "));
    }
    node.run("nft", &[&text]).map(drop)
}

/// The chains KUBE-SERVICES, KUBE-SVC-…, KUBE-SEP-… and the masquerade of what is marked.
fn iptables(node: &Host, is_ipv4: bool, services: &[ServicePort]) -> Outcome {
    let mut text = String::from("*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n");
    let mut rules = String::from(
        "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n-A POSTROUTING -j KUBE-POSTROUTING\n\
         -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
         -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
         -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n-A KUBE-POSTROUTING -j MASQUERADE --random-fully\n",
    );
    for (number, ServicePort { protocol, address, endpoint, masqueraded }) in services.iter().enumerate() {
        let (protocol, own) = (protocol.to_lowercase(), endpoint.ip());
        let mark = if *masqueraded { format!("-A KUBE-SVC-{number} -j KUBE-MARK-MASQ\n") } else { String::new() };
        text += &format!(":KUBE-SVC-{number} - [0:0]\n:KUBE-SEP-{number} - [0:0]\n");
        rules += &format!(
            "-A KUBE-SERVICES -d {} -p {protocol} -m {protocol} --dport {} -j KUBE-SVC-{number}\n\
             {mark}-A KUBE-SVC-{number} -j KUBE-SEP-{number}\n\
             -A KUBE-SEP-{number} -s {own} -j KUBE-MARK-MASQ\n\
             -A KUBE-SEP-{number} -p {protocol} -m {protocol} -j DNAT --to-destination {endpoint}\n",
            address.ip(),
            address.port()
        );
    }
    text += &format!("{rules}COMMIT\n");
    let program = if is_ipv4 { "iptables-restore" } else { "ip6tables-restore" };
    node.run("sh", &["-c", &format!("{program} <<'END'\n{text}END")]).map(drop)
}
