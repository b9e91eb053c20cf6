//! Rules that log, and the group of the packet log that they log to: what is read back, what is heard of it and what is lost.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use podwire_kernel::nflog::{Heard, PacketLog};
use podwire_kernel::nft::{self, Base, Chain, ChainHook, ChainType, Rule, Table};
use podwire_kernel::{Result, Socket};
use podwire_tests::lab::SOON;
use podwire_tests::lab::host::Host;

use super::objects::host;

const GROUP: u16 = 4711;
const PORT: u16 = 7;

/// A table whose rules log what the host sends to a port, and drop it.
fn table(logs: Vec<Rule>) -> Table {
    let base = Base { chain_type: ChainType::Filter, hook: ChainHook::Output, priority: 0 };
    let rules = vec![Rule::new().to_port(17, PORT).goto("logs")];
    let output = Chain { name: "output".into(), base: Some(base), rules };
    let logs = Chain { name: "logs".into(), base: None, rules: logs };
    Table { name: "ours".into(), counters: vec!["above".into()], sets: Vec::new(), chains: vec![output, logs] }
}

fn logging_host(table: &Table) -> Host {
    let host = host();
    host.run("ip", &["link", "set", "lo", "up"]).unwrap();
    host.enter(|| {
        let mut socket = Socket::netfilter().unwrap();
        let found = nft::read(&mut socket, table).unwrap();
        socket.transact(table.replace(&found)).unwrap();
        assert!(nft::read(&mut socket, table).unwrap().is(table), "what is written is what is listed");
    });
    host
}

/// Sends so many packets to the host itself.
fn send(to: &str, count: usize) -> SocketAddr {
    let to: IpAddr = to.parse().unwrap();
    let socket = UdpSocket::bind((to, 0)).unwrap();
    for _ in 0..count {
        // A rule that drops what is sent is an error of the one who sends.
        let _ = socket.send_to(b"?", (to, PORT));
    }
    socket.local_addr().unwrap()
}

/// All that is heard until nothing comes any more.
fn drain(log: &mut PacketLog) -> Heard {
    let mut all = Heard::default();
    loop {
        let heard = log.wait(Duration::from_millis(100)).unwrap();
        if heard == Heard::default() {
            return all;
        }
        all.packets.extend(heard.packets);
        all.lost += heard.lost;
    }
}

#[test]
fn a_packet_that_a_rule_logs_is_heard_of_with_the_rules_word_in_both_families() {
    let host = logging_host(&table(vec![Rule::new().log(GROUP, "our word", 128)]));
    host.enter(|| {
        let mut log = PacketLog::open(GROUP, 128).unwrap();
        for address in ["127.0.0.1", "::1"] {
            let from = send(address, 1);
            let heard = log.wait(SOON).unwrap();
            let [packet] = &heard.packets[..] else { panic!("{heard:?}") };
            assert_eq!((packet.word.as_str(), packet.source, packet.destination), ("our word", from.ip(), from.ip()));
            assert_eq!((packet.protocol, packet.ports), (17, Some((from.port(), PORT))));
        }
        assert_eq!(log.wait(Duration::from_millis(10)).unwrap(), Heard::default());
        // One reads a group, until it ends; nobody else's group is in the way.
        let second: Result<_> = PacketLog::open(GROUP, 128).map(drop);
        let error = second.unwrap_err();
        assert!(
            error.is_forbidden() && error.to_string().starts_with("read group 4711 of the packet log: "),
            "{error}"
        );
        PacketLog::open(GROUP + 1, 128).unwrap();
        drop(log);
        send("127.0.0.1", 1);
        let mut log = PacketLog::open(GROUP, 128).unwrap();
        assert_eq!(drain(&mut log), Heard::default(), "what nobody was there for");
    });
}

#[test]
fn what_is_above_the_rate_is_told_apart_and_not_logged() {
    let above = Rule::new().above(1, 5).count("above").return_();
    let host = logging_host(&table(vec![above, Rule::new().log(GROUP, "", 64)]));
    host.enter(|| {
        let mut log = PacketLog::open(GROUP, 64).unwrap();
        send("127.0.0.1", 50);
        let heard = drain(&mut log);
        let above = nft::counted(&mut Socket::netfilter().unwrap(), "ours", &["above"]).unwrap()[0].unwrap();
        let logged = heard.packets.len() as u64;
        // One more for each second that this has taken.
        assert!((5..10).contains(&logged) && heard.lost == 0, "{logged} logged, {} lost", heard.lost);
        assert_eq!(logged + above, 50);
    });
}

#[test]
fn what_has_no_room_in_the_socket_is_counted_and_the_next_packet_is_heard_of() {
    let host = logging_host(&table(vec![Rule::new().log(GROUP, "", 64)]));
    host.enter(|| {
        let mut log = PacketLog::open(GROUP, 64).unwrap();
        send("127.0.0.1", 5000);
        let first = drain(&mut log);
        assert!(!first.packets.is_empty() && first.packets.len() < 5000, "{}", first.packets.len());
        send("127.0.0.1", 1);
        let rest = drain(&mut log);
        assert_eq!(rest.packets.len(), 1);
        assert_eq!(first.packets.len() as u64 + first.lost + rest.lost, 5000);
    });
}
