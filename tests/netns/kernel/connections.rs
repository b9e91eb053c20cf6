//! Tracked connections: none that lasts is missing from what is listed, whatever comes and goes beside it, and a
//! selection is what it says.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use podwire_kernel::Socket;
use podwire_kernel::conntrack::{self, Selection};
use podwire_kernel::family::IpVersion;
use podwire_tests::lab::host::Host;

use super::objects::host;

/// Sends a datagram to an address from so many ports, whose connections end after so many seconds without another; the ports.
fn connections(host: &Host, to: &str, count: usize, seconds: u32) -> BTreeSet<SocketAddr> {
    host.run("sh", &["-ec", &format!("echo {seconds} > /proc/sys/net/netfilter/nf_conntrack_udp_timeout")]).unwrap();
    let sent = || -> std::io::Result<_> {
        // Where nobody listens the kernel says so, and comes across the connection then.
        let _listening = UdpSocket::bind(to)?;
        let sockets = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
        sockets.iter().try_for_each(|socket| socket.send_to(b"x", to).map(drop))?;
        sockets.iter().map(UdpSocket::local_addr).collect()
    };
    host.enter(sent).unwrap()
}

/// A host that tracks what it sends to itself.
fn tracking_host() -> Host {
    let host = host();
    host.run("ip", &["link", "set", "lo", "up"]).unwrap();
    let table = "add table inet t; add chain inet t c { type nat hook output priority -100; };
        add rule inet t c ct state new ip daddr 127.0.0.5 dnat to 127.0.0.2";
    host.run("nft", &[table]).unwrap();
    host
}

#[test]
fn no_connection_is_missing_beside_those_that_end_meanwhile() {
    let host = tracking_host();
    for round in 0..20 {
        let lasting = connections(&host, "127.0.0.1:9", 100, 600);
        // The kernel forgets these when it comes across them: while it shows the others.
        connections(&host, "127.0.0.2:9", 100, 0);
        let listed = host.enter(|| {
            let mut socket = Socket::netfilter().unwrap();
            let listed = conntrack::few(&mut socket).unwrap().expect("they are few");
            conntrack::forget_each(&mut socket, &listed).unwrap();
            listed
        });
        let listed: BTreeSet<_> = listed.into_iter().map(|connection| connection.source).collect();
        let missing: Vec<_> = lasting.difference(&listed).collect();
        assert!(missing.is_empty(), "round {round}: of {} are missing {missing:?}", listed.len());
    }
}

#[test]
fn a_selection_shows_what_it_says_and_nothing_else() {
    const BIT: u32 = 0x40;
    let host = tracking_host();
    let pairs = [
        ("127.0.0.1:7", "127.0.0.2:9"),
        ("127.0.0.1:8", "127.0.0.4:9"),
        ("127.0.0.2:7", "127.0.0.1:9"),
        ("127.0.0.3:7", "127.0.0.2:9"),
        // Which 127.0.0.2 answers.
        ("127.0.0.3:8", "127.0.0.5:9"),
        ("[::1]:7", "[::1]:9"),
    ];
    host.enter(|| {
        let mut sockets = Vec::new();
        for (from, to) in pairs {
            let (listening, sending) = (UdpSocket::bind(to), UdpSocket::bind(from).unwrap());
            sending.send_to(b"x", to).unwrap();
            sockets.extend(listening.into_iter().chain([sending]));
        }
        let mut socket = Socket::netfilter().unwrap();
        let mut shown = |selection: Selection| {
            let mut found = BTreeSet::new();
            conntrack::each(&mut socket, selection, |connection| {
                found.insert(connection.source.to_string());
                Ok(())
            })
            .unwrap();
            found.into_iter().collect::<Vec<_>>()
        };
        let address = |last: u8| Ipv4Addr::new(127, 0, 0, last);
        assert_eq!(shown(Selection::From(address(1))), ["127.0.0.1:7", "127.0.0.1:8"]);
        assert_eq!(shown(Selection::From(address(5))), [""; 0]);
        assert_eq!(shown(Selection::AnsweredBy(address(1))), ["127.0.0.2:7"]);
        assert_eq!(shown(Selection::AnsweredBy(address(2))), ["127.0.0.1:7", "127.0.0.3:7", "127.0.0.3:8"]);
        assert_eq!(shown(Selection::AnsweredBy(address(5))), [""; 0]);
        assert_eq!(shown(Selection::Of(IpVersion::V6)), ["[::1]:7"]);
        let four = ["127.0.0.1:7", "127.0.0.1:8", "127.0.0.2:7", "127.0.0.3:7", "127.0.0.3:8"];
        assert_eq!(shown(Selection::Of(IpVersion::V4)), four);
        assert_eq!(shown(Selection::All).len(), pairs.len());
        assert_eq!(shown(Selection::Marked(BIT)), [""; 0]);
        let mut own = Socket::netfilter().unwrap();
        let all = conntrack::few(&mut own).unwrap().expect("they are few");
        let some: Vec<_> = all.into_iter().filter(|connection| connection.source.port() == 7).collect();
        conntrack::mark_each(&mut own, &some[..2], BIT | 1, BIT | 1).unwrap();
        conntrack::mark_each(&mut own, &some[2..], 1, BIT | 1).unwrap();
        let mut marked: Vec<_> = some[..2].iter().map(|connection| connection.source.to_string()).collect();
        marked.sort();
        assert_eq!(shown(Selection::Marked(BIT)), marked);
    });
}
