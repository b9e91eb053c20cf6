//! IPv4 and IPv6 on one port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};

use crate::{program::Program, wire::Wire};

#[test]
fn clients_of_both_families_talk_to_each_other() {
    let program = Program::start(&[]);
    let connect = |address: IpAddr| Wire::over(TcpStream::connect((address, program.port)).unwrap());
    let mut four = connect(Ipv4Addr::LOCALHOST.into());
    let mut six = connect(Ipv6Addr::LOCALHOST.into());
    four.register("four");
    six.register("six");
    four.say("PRIVMSG six :hello");
    assert_eq!(six.hear("PRIVMSG"), ":four!four@127.0.0.1 PRIVMSG six :hello");
    six.say("PRIVMSG four :hello");
    assert_eq!(four.hear("PRIVMSG"), ":six!six@0::1 PRIVMSG four :hello");
    four.say("WHOIS six");
    assert_eq!(four.hear(" 311 "), ":irc.podwire.test 311 four six six 0::1 * :six of the test");
}
