//! Pods made by hand, without the plugin, as the rules of the plugin see them: behind devices named pw…, with a server, a
//! client, and a node that forwards. What may not live here: scenes (`host_ports`).

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use podwire_conf::rules::host_ports::{Mapping, Protocol};
use podwire_conf::rules::pods;
use podwire_kernel::Socket;
use podwire_kernel::family::IpVersion;
use podwire_kernel::nft::{self, Element};
use podwire_tests::lab::UPLINK;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::membership::{pod_cidrs, underlay_address};
use podwire_tests::lab::scene::{FAMILIES, Outcome, check, scene};

/// The port of the node.
pub(crate) const HOST_PORT: u16 = 8080;
/// The port that pods listen on.
pub(crate) const POD_PORT: u16 = 80;
/// How long an answer may take, and how long none is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
pub(super) const NO_ANSWER: Duration = Duration::from_millis(300);
/// The other address of the node.
pub(super) const SECOND: [&str; 2] = ["192.168.50.77", "fd00:192:168:50::77"];

/// Answers on a port of a host, TCP and UDP, with its name and the address that it was asked from.
pub(crate) struct Server {
    host: Host,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

impl Server {
    pub(crate) fn start(host: &Host, name: &str, address: impl Into<IpAddr>, port: u16) -> Outcome<Self> {
        let address = SocketAddr::new(address.into(), port);
        let open = || io::Result::Ok((TcpListener::bind(address)?, UdpSocket::bind(address)?));
        let opened = host.enter(open).map_err(|error| format!("listen at {address} of {}: {error}", host.name));
        let (stream, datagrams) = opened?;
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, said) = (stopping.clone(), name.to_owned());
        thread::spawn(move || {
            for asked in stream.incoming().map_while(Result::ok) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // Who has asked and is gone does not want to know.
                let _ = answer(asked, &said);
            }
        });
        let (stop, said) = (stopping.clone(), name.to_owned());
        thread::spawn(move || {
            while let Ok((_, from)) = datagrams.recv_from(&mut [0; 16]) {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let _ = datagrams.send_to(format!("{said} {}", from.ip().to_canonical()).as_bytes(), from);
            }
        });
        Ok(Self { host: host.clone(), address, stopping })
    }
}

pub(super) fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    let from = stream.peer_addr()?.ip().to_canonical();
    stream.write_all(format!("{name} {from}").as_bytes())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut own = self.address;
        if own.ip().is_unspecified() {
            own.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        self.host.enter(|| {
            // Threads that do not hear this, where a rule leads elsewhere, end with the world.
            let _ = TcpStream::connect_timeout(&own, NO_ANSWER);
            let any = (IpVersion::of(own.ip()).unspecified(), 0);
            let _ = UdpSocket::bind(any).and_then(|socket| socket.send_to(b"", own));
        });
    }
}

/// What answers a TCP connection.
pub(crate) fn tcp(from: &Host, to: IpAddr, port: u16) -> Outcome<String> {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&(to, port).into(), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    from.enter(ask).map_err(|error| format!("tcp from {} to {to}: {error}", from.name))
}

/// A UDP socket of a host, of the family of `like`.
pub(crate) fn udp_socket(from: &Host, like: IpAddr) -> Outcome<UdpSocket> {
    let open = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind((IpVersion::of(like).unspecified(), 0))?;
        socket.set_read_timeout(Some(NO_ANSWER))?;
        Ok(socket)
    };
    from.enter(open).map_err(|error| format!("udp of {}: {error}", from.name))
}

/// What answers a datagram.
pub(crate) fn udp(socket: &UdpSocket, to: IpAddr) -> Outcome<String> {
    let mut buffer = [0; 128];
    // From an unconnected socket: what an earlier datagram was refused with is no answer to this one.
    let ask = socket.send_to(b"?", (to, HOST_PORT)).and_then(|_| socket.recv_from(&mut buffer));
    let (length, _) = ask.map_err(|error| format!("udp to {to}: {error}"))?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// That TCP and UDP are answered by `who`, who saw `seen`.
pub(super) fn answers(from: &Host, to: IpAddr, who: &str, seen: IpAddr) -> Outcome {
    let wanted = format!("{who} {seen}");
    for found in [tcp(from, to, HOST_PORT)?, udp(&udp_socket(from, to)?, to)?] {
        check(found == wanted, || format!("from {} to {to}: {found}, not {wanted}", from.name))?;
    }
    Ok(())
}

/// A pod behind a device named pw… of a node.
pub(super) struct Pod {
    pub(super) host: Host,
    pub(super) device: String,
    addresses: Vec<IpAddr>,
}

impl Pod {
    /// As the plugin makes them: see "What a pod gets" in docs/attachment.md.
    pub(super) fn new(node: &Host, number: u16) -> Outcome<Self> {
        let (name, device) = (format!("pod-{number}"), format!("pwpod{number}"));
        let (host, path) = node.pod(&name)?;
        let ip = |host: &Host, line: &str| host.run("ip", &line.split(' ').collect::<Vec<_>>()).map(drop);
        ip(node, &format!("link add {device} type veth peer name eth0 netns {}", path.display()))?;
        let mac = |host: &Host, device: &str| {
            let line = host.run("ip", &["-br", "link", "show", device])?;
            line.split_whitespace().nth(2).map(str::to_owned).ok_or(format!("no address in {line}"))
        };
        let (outer, inner) = (mac(node, &device)?, mac(&host, "eth0")?);
        ip(node, &format!("link set {device} up"))?;
        ip(&host, "link set lo up")?;
        ip(&host, "link set eth0 up")?;
        let_loopback_through(node, &device)?;
        let mut addresses = Vec::new();
        for (cidr, gateway) in pod_cidrs(1).into_iter().zip(["169.254.1.1", "fe80::1"]) {
            let address: IpAddr = match cidr.ip() {
                IpAddr::V4(network) => Ipv4Addr::from(u32::from(network) + u32::from(number)).into(),
                IpAddr::V6(network) => Ipv6Addr::from(u128::from(network) + u128::from(number)).into(),
            };
            ip(&host, &format!("address add {address} dev eth0{}", if address.is_ipv6() { " nodad" } else { "" }))?;
            ip(&host, &format!("neigh add {gateway} lladdr {outer} dev eth0"))?;
            ip(&host, &format!("route add {} via {gateway} dev eth0 onlink", default(address)))?;
            ip(node, &format!("neigh add {address} lladdr {inner} dev {device}"))?;
            ip(node, &format!("route add {address} dev {device}"))?;
            addresses.push(address);
        }
        Ok(Self { host, device, addresses })
    }

    pub(super) fn address(&self, like: IpAddr) -> IpAddr {
        self.addresses[usize::from(like.is_ipv6())]
    }

    /// The host port to this pod, for TCP and UDP.
    pub(super) fn mappings(&self, like: IpAddr, host_address: Option<IpAddr>) -> [Mapping; 2] {
        let (pod, host_port, pod_port) = (self.address(like), HOST_PORT, POD_PORT);
        [Protocol::Tcp, Protocol::Udp].map(|protocol| Mapping { protocol, host_address, host_port, pod, pod_port })
    }

    /// What that is in the kernel.
    pub(super) fn host_port(&self, like: IpAddr, host_address: Option<IpAddr>) -> Vec<Element> {
        self.mappings(like, host_address).iter().flat_map(|mapping| mapping.elements(&self.device)).collect()
    }

    /// The same, for every local address of both families.
    pub(super) fn host_ports(&self) -> Vec<Element> {
        FAMILIES.iter().flat_map(|family| self.host_port(*family, None)).collect()
    }

    pub(super) fn serve(&self) -> Outcome<Server> {
        Server::start(&self.host, &self.host.name, Ipv6Addr::UNSPECIFIED, POD_PORT)
    }
}

/// A setting of a host's network, below /proc/sys/net.
pub(super) fn switch_on(host: &Host, setting: &str) -> Outcome {
    let write = || std::fs::write(format!("/proc/sys/net/{setting}"), "1");
    host.enter(write).map_err(|error| format!("switch on {setting} of {}: {error}", host.name))
}

pub(super) fn let_loopback_through(host: &Host, device: &str) -> Outcome {
    switch_on(host, &format!("ipv4/conf/{device}/route_localnet"))
}

pub(super) fn default(like: IpAddr) -> &'static str {
    if like.is_ipv6() { "::/0" } else { "0.0.0.0/0" }
}

pub(super) fn netfilter<T: Send>(
    host: &Host,
    work: impl FnOnce(&mut Socket) -> podwire_kernel::Result<T> + Send,
) -> Outcome<T> {
    host.enter(|| Socket::netfilter().and_then(|mut socket| work(&mut socket)).map_err(|error| error.to_string()))
}

pub(super) fn ensure(host: &Host, elements: &[Element]) -> Outcome<nft::Ensured> {
    netfilter(host, |socket| nft::ensure(socket, &pods::table(Vec::new()), elements))
}

pub(super) fn remove_elements(host: &Host, elements: &[Element]) -> Outcome<usize> {
    netfilter(host, |socket| nft::remove_elements(socket, &pods::table(Vec::new()), elements))
}

/// A node that forwards, with a second address, two pods on it, and the host outside.
pub(super) fn play(body: impl FnOnce(&Host, &Host, &[Pod; 2]) -> Outcome) {
    scene(1, |lab| {
        let node = &lab.nodes[0].host;
        switch_on(node, "ipv4/ip_forward")?;
        switch_on(node, "ipv6/conf/all/forwarding")?;
        for (address, length) in SECOND.iter().zip(["/24", "/64"]) {
            // Not one to speak under: IPv4 takes the first, IPv6 the newest that it prefers.
            let flags: &[&str] = if address.contains(':') { &["nodad", "preferred_lft", "0"] } else { &[] };
            node.run("ip", &[&["address", "add", &format!("{address}{length}"), "dev", UPLINK], flags].concat())?;
        }
        let pods = [Pod::new(node, 5)?, Pod::new(node, 6)?];
        body(node, &lab.outside, &pods)
    });
}

pub(super) fn node_address(like: IpAddr) -> IpAddr {
    underlay_address(1, like)
}

/// Gives the host outside a way to a pod, which it has not by itself.
pub(super) fn way_back(outside: &Host, pod: IpAddr) -> Outcome {
    let gateway = node_address(pod).to_string();
    outside.run("ip", &["route", "replace", &pod.to_string(), "via", &gateway]).map(drop)
}

pub(super) fn second_address(like: IpAddr) -> IpAddr {
    SECOND[usize::from(like.is_ipv6())].parse().unwrap()
}

pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
