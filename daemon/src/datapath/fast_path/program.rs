//! The programs of the fast path, and the layout of their map. Pure: programs are values here.
//!
//! `remember` runs at egress of pods' devices and of the overlay. For a packet that the host's rules have accepted, and
//! that belongs to a connection which is established and not translated (the rules mark it in the priority), it stores
//! for a second how the packet left: the device, the link-layer addresses, the peer. `forward` runs at ingress of these
//! devices. A packet of a remembered flow is redirected in the same way at once; every other packet takes the normal
//! forwarding path, and so do packets that start or end a connection, fragments, and packets with IP options.
//!
//! So the host's routes and rules have accepted every forwarded flow within the last second.

use std::net::IpAddr;
use std::sync::Arc;

use podwire_conf::rules::node::PASSED;
use podwire_kernel::bpf::{Code, Condition, Label, Map, Number, Register, Width};
use podwire_kernel::family::IpVersion;

use Condition::{Above, Bit, Different, Equal};
use Register::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use Width::{Byte, Double, Half, Word};

/// How long a flow is remembered, in nanoseconds.
pub(super) const LIFE: i32 = 1_000_000_000;

/// The key: the incoming device, the IP version, the protocol, both addresses (16 bytes each; the first four for IPv4),
/// both ports, and four bytes of padding. Below the end of the stack.
pub(super) const KEY: u32 = 48;
const DEVICE: i16 = -48;
const VERSION: i16 = -44;
const PROTOCOL: i16 = -43;
const ADDRESSES: i16 = -40;
const PORTS: i16 = -8;

/// The value: when it expires, the outgoing device, the MTU of the path to the peer in bytes where that device is the
/// overlay's (otherwise 0), the two link-layer addresses, and the tunnel (`struct bpf_tunnel_key`, uapi/linux/bpf.h).
/// Below the key.
pub(super) const VALUE: u32 = 72;
const VALUE_ON_STACK: i16 = -120;
const UNTIL: i16 = 0;
const LEAVES_BY: i16 = 8;
const PATH_MTU: i16 = 12;
const LINK_ADDRESSES: i16 = 16;
const TUNNEL: i16 = 28;
/// The length of a tunnel's key, and the offsets of the remote and the local address in it, 16 bytes each.
const TUNNEL_LENGTH: i32 = 44;
const REMOTE: i16 = 4;
const LOCAL: i16 = 28;

/// Fields of a packet's context (`struct __sk_buff`, uapi/linux/bpf.h).
const LENGTH: i16 = 0;
const TYPE: i16 = 4;
const ETHERTYPE: i16 = 16;
const VLAN: i16 = 20;
const PRIORITY: i16 = 32;
const CAME_BY: i16 = 36;
const IS_AT: i16 = 40;
const DATA: i16 = 76;
const DATA_END: i16 = 80;
const SEGMENT: i16 = 176;

/// Helpers (`enum bpf_func_id`, uapi/linux/bpf.h).
const LOOK_UP: i32 = 1;
const UPDATE: i32 = 2;
const WRITE: i32 = 9;
const READ_TUNNEL: i32 = 20;
const SET_TUNNEL: i32 = 21;
const REDIRECT: i32 = 23;
const REDIRECT_TO_POD: i32 = 155;
const NOW: i32 = 160;
/// `BPF_F_TUNINFO_IPV6`, `BPF_F_ZERO_CSUM_TX` (uapi/linux/bpf.h).
const TUNNEL_IPV6: i32 = 1;
const NO_CHECKSUM: i32 = 2;

/// The map of narrow paths: the peer's address as a tunnel's key has it, and the MTU of pods' packets to it in bytes.
pub(super) const PATH_KEY: u32 = 16;
pub(super) const PATH_VALUE: u32 = 4;

/// `TC_ACT_UNSPEC` (uapi/linux/pkt_cls.h): continue as if this program did not exist.
const GO_ON: i32 = -1;

/// Lengths of headers in bytes: Ethernet (IEEE 802.3), IPv4 without options (RFC 791), IPv6 (RFC 8200), and as much of
/// the transport header as is read, up to the flags of TCP (RFC 9293).
const ETHERNET: i16 = 14;
const IPV4: i16 = 20;
const IPV6: i16 = 40;
const TRANSPORT: i16 = 14;
const UDP_HEADER: i32 = 8;
/// IP protocols.
const TCP: i32 = 6;
const UDP: i32 = 17;
/// FIN, SYN and RST among TCP's flags (RFC 9293, section 3.1).
const BEGINS_OR_ENDS: i32 = 0x07;

/// What the programs depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TunnelAttributes {
    /// The IP version of the underlay.
    pub(super) version: IpVersion,
    /// The MTU of pods, in bytes: larger packets are left to the kernel, which replies to them.
    pub(super) mtu: u32,
}

impl TunnelAttributes {
    fn mtu(self) -> i32 {
        self.mtu.try_into().unwrap_or(i32::MAX)
    }

    /// Flags of reading a tunnel's key.
    fn read_flags(self) -> i32 {
        match self.version {
            IpVersion::V4 => 0,
            IpVersion::V6 => TUNNEL_IPV6,
        }
    }

    /// Flags of setting one. Over IPv6 a UDP packet has a checksum: some routers and firewalls drop one without
    /// (RFC 8200, section 8.1). Over IPv4 none is needed (RFC 768).
    fn set_flags(self) -> i32 {
        match self.version {
            IpVersion::V4 => NO_CHECKSUM,
            IpVersion::V6 => TUNNEL_IPV6,
        }
    }
}

/// The maps of the programs.
#[derive(Debug)]
pub(super) struct Maps {
    /// The remembered flows.
    pub(super) flows: Map,
    /// Flows that expire at this time or earlier, on the kernel's clock, are invalid.
    pub(super) expired: Arc<Number>,
    /// The devices that a packet may leave by. One that is gone is not in it, whether a daemon runs or not.
    pub(super) devices: Map,
    /// Peers behind a path that takes less than the overlay's MTU.
    pub(super) paths: Map,
}

/// A peer's address, as the map of narrow paths has it: `struct bpf_tunnel_key` has IPv4 in the host's byte order.
pub(super) fn path_key(peer: IpAddr) -> [u8; PATH_KEY as usize] {
    match peer {
        IpAddr::V4(address) => {
            let mut key = [0; PATH_KEY as usize];
            key[..4].copy_from_slice(&address.to_bits().to_ne_bytes());
            key
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// The egress program; `tunnel` is set for the overlay's device.
pub(super) fn remember(maps: &Maps, tunnel: Option<TunnelAttributes>) -> Code {
    let mut code = Code::new();
    let end = code.label();
    code.copy(R6, R1);
    code.load(Word, R2, R6, PRIORITY);
    let passed = code.label();
    code.jump_if(Bit, R2, PASSED, passed);
    code.jump(end);
    code.place(passed);
    // Clear the mark: queueing disciplines classify by the priority.
    code.and(R2, !PASSED);
    code.store(Word, R6, PRIORITY, R2);
    // Packets that this node sends itself have no incoming device.
    code.load(Word, R9, R6, CAME_BY);
    code.jump_if(Equal, R9, 0, end);
    key(&mut code, end);
    code.load(Word, R9, R6, CAME_BY);
    code.store(Word, R10, DEVICE, R9);
    for place in (VALUE_ON_STACK..DEVICE).step_by(8) {
        code.store_number(Double, R10, place, 0);
    }
    let at = |field: i16| VALUE_ON_STACK + field;
    packet(&mut code, ETHERNET, end);
    // Both addresses are 12 bytes.
    code.load(Word, R2, R7, 0);
    code.store(Word, R10, at(LINK_ADDRESSES), R2);
    code.load(Word, R2, R7, 4);
    code.store(Word, R10, at(LINK_ADDRESSES + 4), R2);
    code.load(Word, R2, R7, 8);
    code.store(Word, R10, at(LINK_ADDRESSES + 8), R2);
    code.load(Word, R2, R6, IS_AT);
    code.store(Word, R10, at(LEAVES_BY), R2);
    if let Some(underlay) = tunnel {
        code.store_number(Word, R10, at(PATH_MTU), underlay.mtu());
        code.copy(R1, R6);
        code.copy(R2, R10);
        code.add(R2, at(TUNNEL).into());
        code.set(R3, TUNNEL_LENGTH);
        code.set(R4, underlay.read_flags());
        code.call(READ_TUNNEL);
        code.jump_if(Different, R0, 0, end);
        // The key is from the receiver's view: the source is the remote address.
        for word in [0, 4, 8, 12] {
            code.load(Word, R2, R10, at(TUNNEL + REMOTE + word));
            code.load(Word, R3, R10, at(TUNNEL + LOCAL + word));
            code.store(Word, R10, at(TUNNEL + REMOTE + word), R3);
            code.store(Word, R10, at(TUNNEL + LOCAL + word), R2);
        }
        let wide = code.label();
        code.map(R1, &maps.paths);
        code.copy(R2, R10);
        code.add(R2, at(TUNNEL + REMOTE).into());
        code.call(LOOK_UP);
        code.jump_if(Equal, R0, 0, wide);
        code.load(Word, R1, R0, 0);
        code.store(Word, R10, at(PATH_MTU), R1);
        code.place(wide);
    }
    code.call(NOW);
    code.add(R0, LIFE);
    code.store(Double, R10, at(UNTIL), R0);
    code.map(R1, &maps.flows);
    code.copy(R2, R10);
    code.add(R2, DEVICE.into());
    code.copy(R3, R10);
    code.add(R3, VALUE_ON_STACK.into());
    code.set(R4, 0);
    code.call(UPDATE);
    go_on(&mut code, end);
    code
}

/// The ingress program.
pub(super) fn forward(maps: &Maps, underlay: TunnelAttributes) -> Code {
    let mut code = Code::new();
    let end = code.label();
    code.copy(R6, R1);
    // PACKET_HOST (0): the link-layer destination is this host.
    code.load(Word, R2, R6, TYPE);
    code.jump_if(Different, R2, 0, end);
    key(&mut code, end);
    size(&mut code);
    code.jump_if(Above, R7, underlay.mtu(), end);
    code.load(Word, R2, R6, IS_AT);
    code.store(Word, R10, DEVICE, R2);
    code.map(R1, &maps.flows);
    code.copy(R2, R10);
    code.add(R2, DEVICE.into());
    code.call(LOOK_UP);
    code.jump_if(Equal, R0, 0, end);
    code.copy(R8, R0);
    code.call(NOW);
    code.load(Double, R1, R8, UNTIL);
    code.jump_if_registers(Above, R0, R1, end);
    code.number(R2, &maps.expired);
    code.jump_if_registers(Above, R2, R1, end);
    // A pod's address may be another pod's by now, behind another device.
    code.map(R1, &maps.devices);
    code.copy(R2, R8);
    code.add(R2, LEAVES_BY.into());
    code.call(LOOK_UP);
    code.jump_if(Equal, R0, 0, end);
    code.load(Word, R9, R8, PATH_MTU);
    let addressed = code.label();
    code.jump_if(Equal, R9, 0, addressed);
    code.jump_if_registers(Above, R7, R9, end);
    code.copy(R1, R6);
    code.copy(R2, R8);
    code.add(R2, TUNNEL.into());
    code.set(R3, TUNNEL_LENGTH);
    code.set(R4, underlay.set_flags());
    code.call(SET_TUNNEL);
    code.jump_if(Different, R0, 0, end);
    code.place(addressed);
    code.copy(R1, R6);
    code.set(R2, 0);
    code.copy(R3, R8);
    code.add(R3, LINK_ADDRESSES.into());
    code.set(R4, 12);
    code.set(R5, 0);
    code.call(WRITE);
    code.jump_if(Different, R0, 0, end);
    code.load(Word, R1, R8, LEAVES_BY);
    code.set(R2, 0);
    let to_pod = code.label();
    code.jump_if(Equal, R9, 0, to_pod);
    code.call(REDIRECT);
    code.exit();
    code.place(to_pod);
    code.call(REDIRECT_TO_POD);
    code.exit();
    go_on(&mut code, end);
    code
}

fn go_on(code: &mut Code, end: Label) {
    code.place(end);
    code.set(R0, GO_ON);
    code.exit();
}

/// R7 = the packet, of which `length` bytes are readable; R8 = its end.
fn packet(code: &mut Code, length: i16, end: Label) {
    code.load(Word, R7, R6, DATA);
    code.load(Word, R8, R6, DATA_END);
    code.copy(R2, R7);
    code.add(R2, length.into());
    code.jump_if_registers(Above, R2, R8, end);
}

/// Writes the key, without the device. R4 is then the length of the headers above Ethernet in bytes.
fn key(code: &mut Code, end: Label) {
    let ethertype = |number: u16| i32::from(number.to_be());
    let (ipv6, transport, ports) = (code.label(), code.label(), code.label());
    code.load(Word, R2, R6, VLAN);
    code.jump_if(Different, R2, 0, end);
    for place in (DEVICE..0).step_by(8) {
        code.store_number(Double, R10, place, 0);
    }
    code.load(Word, R9, R6, ETHERTYPE);
    code.jump_if(Equal, R9, ethertype(0x86dd), ipv6);
    code.jump_if(Different, R9, ethertype(0x0800), end);

    packet(code, ETHERNET + IPV4 + TRANSPORT, end);
    // Version 4, five words of header: no options.
    code.load(Byte, R2, R7, ETHERNET);
    code.jump_if(Different, R2, 0x45, end);
    // A fragment, the first one included: more fragments, or an offset.
    code.load(Half, R2, R7, ETHERNET + 6);
    code.and(R2, i32::from(0x3fff_u16.to_be()));
    code.jump_if(Different, R2, 0, end);
    code.store_number(Byte, R10, VERSION, 4);
    code.load(Byte, R9, R7, ETHERNET + 9);
    for (from, to) in [(12, 0), (16, 4)] {
        code.load(Word, R2, R7, ETHERNET + from);
        code.store(Word, R10, ADDRESSES + to, R2);
    }
    code.set(R4, IPV4.into());
    code.add(R7, i32::from(ETHERNET + IPV4));
    code.jump(transport);

    code.place(ipv6);
    packet(code, ETHERNET + IPV6 + TRANSPORT, end);
    code.store_number(Byte, R10, VERSION, 6);
    // The next header: an extension header is none of the two that follow.
    code.load(Byte, R9, R7, ETHERNET + 6);
    for word in (0..32).step_by(4) {
        code.load(Word, R2, R7, ETHERNET + 8 + word);
        code.store(Word, R10, ADDRESSES + word, R2);
    }
    code.set(R4, IPV6.into());
    code.add(R7, i32::from(ETHERNET + IPV6));

    code.place(transport);
    let udp = code.label();
    code.store(Byte, R10, PROTOCOL, R9);
    code.jump_if(Equal, R9, UDP, udp);
    code.jump_if(Different, R9, TCP, end);
    code.load(Byte, R2, R7, 13);
    code.and(R2, BEGINS_OR_ENDS);
    code.jump_if(Different, R2, 0, end);
    // Its length in words is in the upper half of the byte.
    code.load(Byte, R3, R7, 12);
    code.shift_right(R3, 4);
    code.shift_left(R3, 2);
    code.add_register(R4, R3);
    code.jump(ports);
    code.place(udp);
    code.add(R4, UDP_HEADER);
    code.place(ports);
    code.load(Word, R2, R7, 0);
    code.store(Word, R10, PORTS, R2);
}

/// R7 = the size of the packet, or of each segment that it is to be cut into, as an IP packet in bytes. R4 is as [`key`]
/// leaves it.
fn size(code: &mut Code) {
    let (whole, judged) = (code.label(), code.label());
    code.load(Word, R7, R6, SEGMENT);
    code.jump_if(Equal, R7, 0, whole);
    code.add_register(R7, R4);
    code.jump(judged);
    code.place(whole);
    code.load(Word, R7, R6, LENGTH);
    code.add(R7, -i32::from(ETHERNET));
    code.place(judged);
}
