//! The kernel's filter before a socket that hears ICMP: what is not about an echo of this socket's identifier does not
//! wake the process. Classic BPF (Documentation/networking/filter.rst). What it lets through is judged again by
//! [`super::waiting`].

use socket2::SockFilter;

/// `BPF_*` (uapi/linux/bpf_common.h): loads of a byte, a half word, and of them behind X; X from an IPv4 header's length.
const LOAD_BYTE: u16 = 0x30;
const LOAD_BYTE_BEHIND: u16 = 0x50;
const LOAD_HALF_BEHIND: u16 = 0x48;
const HEADER_LENGTH: u16 = 0xb1;
const SET_X: u16 = 0x01;
const AND: u16 = 0x54;
const SHIFT_LEFT: u16 = 0x64;
const ADD_X: u16 = 0x0c;
const TO_X: u16 = 0x07;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// To the end, in a comparison: nothing of the packet is taken.
const REFUSE: Option<u8> = None;

/// The filter of a raw ICMP socket of IPv4, whose packets begin with their IP header.
pub(super) fn ipv4(identifier: u16) -> Vec<SockFilter> {
    assemble(&[
        Step::Do(HEADER_LENGTH, 0),
        Step::Do(LOAD_BYTE_BEHIND, 0),
        Step::If(0, Some(8), Some(0)),
        // "Destination unreachable": X moves on to the ICMP header that is quoted.
        Step::If(3, Some(0), REFUSE),
        Step::Do(LOAD_BYTE_BEHIND, 8),
        Step::Do(AND, 0xf),
        Step::Do(SHIFT_LEFT, 2),
        Step::Do(ADD_X, 0),
        Step::Do(TO_X, 0),
        Step::Do(LOAD_BYTE_BEHIND, 8),
        Step::If(8, Some(2), REFUSE),
        Step::Do(LOAD_HALF_BEHIND, 4),
        Step::If(identifier, Some(2), REFUSE),
        Step::Do(LOAD_HALF_BEHIND, 8 + 4),
        Step::If(identifier, Some(0), REFUSE),
    ])
}

/// The filter of a raw ICMPv6 socket, whose packets begin with the ICMPv6 header.
pub(super) fn ipv6(identifier: u16) -> Vec<SockFilter> {
    assemble(&[
        Step::Do(SET_X, 0),
        Step::Do(LOAD_BYTE, 0),
        Step::If(129, Some(4), Some(0)),
        // "Packet too big": X moves on to the ICMPv6 header that is quoted, behind an IPv6 header.
        Step::If(2, Some(0), REFUSE),
        Step::Do(SET_X, 8 + 40),
        Step::Do(LOAD_BYTE_BEHIND, 0),
        Step::If(128, Some(0), REFUSE),
        Step::Do(LOAD_HALF_BEHIND, 4),
        Step::If(identifier, Some(0), REFUSE),
    ])
}

/// An instruction without a jump and its constant, or a comparison with how many instructions each outcome leaves out.
enum Step {
    Do(u16, u32),
    If(u16, Option<u8>, Option<u8>),
}

/// The steps, behind them "take the whole packet" and "take nothing".
fn assemble(steps: &[Step]) -> Vec<SockFilter> {
    let mut filter: Vec<_> = (1..)
        .zip(steps)
        .map(|(next, step): (usize, _)| match *step {
            Step::Do(code, constant) => SockFilter::new(code, 0, 0, constant),
            Step::If(value, yes, no) => {
                let refuse = u8::try_from(steps.len() + 1 - next).unwrap_or(u8::MAX);
                SockFilter::new(EQUAL, yes.unwrap_or(refuse), no.unwrap_or(refuse), value.into())
            }
        })
        .collect();
    filter.extend([u32::MAX, 0].map(|bytes| SockFilter::new(RETURN, 0, 0, bytes)));
    filter
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::os::unix::net::UnixDatagram;

    use socket2::SockRef;

    use super::*;
    use crate::observe::probe::icmp::echo::Echo;
    use crate::observe::probe::icmp::packet;

    /// Whether the kernel lets a packet through to a socket with this filter.
    fn passes(filter: &[SockFilter], packet: &[u8]) -> bool {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        SockRef::from(&receiver).attach_filter(filter).unwrap();
        // A refused datagram is an error to its sender.
        let _ = sender.send(packet);
        receiver.set_nonblocking(true).unwrap();
        receiver.recv(&mut [0; 2048]).is_ok_and(|length| length == packet.len())
    }

    fn request(source: &str, destination: &str) -> Vec<u8> {
        let [source, destination] = [source, destination].map(|it| it.parse::<IpAddr>().unwrap());
        packet::write(&Echo { source, destination, number: 7, size: 64 }, 0x1234, [1; 16])
    }

    #[test]
    fn only_what_is_about_an_echo_of_this_identifier_passes() {
        let asked = request("10.0.0.1", "10.0.0.2");
        let mut answer = asked.clone();
        answer[20] = 0;
        // With options in the router's header and in the quoted one.
        let quoted = [&[0x46], &asked[1..20], &[1, 1, 1, 1], &asked[20..]].concat();
        let complaint = [&[0x47], &answer[1..20], &[1; 8], &[3, 4, 0, 0, 0, 0, 5, 0x78], &quoted].concat();
        let mut other = asked.clone();
        other[20] = 3;
        for (packet, right) in [(&asked, false), (&answer, true), (&complaint, true), (&other, false)] {
            assert_eq!((passes(&ipv4(0x1234), packet), passes(&ipv4(0x1235), packet)), (right, false), "{packet:?}");
        }
        (0..26).for_each(|cut| assert!(!passes(&ipv4(0x1234), &answer[..cut]), "{cut}"));

        let asked = &request("fd00::1", "fd00::2");
        let mut answer = asked[40..].to_vec();
        answer[0] = 129;
        let complaint = [&[2, 0, 0, 0, 0, 0, 5, 0x78], &asked[..]].concat();
        for (packet, right) in [(&asked[40..], false), (&answer, true), (&complaint, true), (&complaint[..50], false)] {
            assert_eq!((passes(&ipv6(0x1234), packet), passes(&ipv6(0x1235), packet)), (right, false), "{packet:?}");
        }
    }
}
