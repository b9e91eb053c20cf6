//! A filter at the ingress of a device that drops what goes to 127.0.0.0/8, before any routing and any rule. No flush of
//! nftables takes it away.
//!
//! It is classic BPF, which needs neither CAP_BPF nor a program's descriptor, and nothing but `cls_bpf` in the kernel.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, Nla};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::netlink::error::Result;
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
// A filter for IPv4 alone would miss frames with a VLAN tag.
use crate::tc::bpf_hook::{DIRECT, EVERYTHING, FLAGS, Hook};

/// `TCA_BPF_OPS_LEN`, `TCA_BPF_OPS` (uapi/linux/pkt_cls.h).
const LENGTH: u16 = 4;
const INSTRUCTIONS: u16 = 5;
/// Before whatever redirects packets, shaping among it.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };

/// Instructions of classic BPF (uapi/linux/filter.h, uapi/linux/bpf_common.h): the code, how many to skip if the comparison
/// holds and if not, and a number.
type Instruction = (u16, u8, u8, u32);
/// Loads a byte, or two in network byte order; compares; returns.
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// `SKF_AD_OFF` + `SKF_AD_PROTOCOL`: the protocol of what is behind the link-layer header, and behind one VLAN tag.
const PROTOCOL: u32 = (-0x1000_i32).cast_unsigned();
/// `SKF_NET_OFF` + the first byte of the destination (RFC 791, section 3.1).
const DESTINATION: u32 = (-0x10_0000_i32 + 16).cast_unsigned();
/// `TC_ACT_UNSPEC`: other filters go on; `TC_ACT_SHOT`: dropped.
const GO_ON: u32 = u32::MAX;
const DROP: u32 = 2;

/// IPv4 to 127.0.0.0/8 is dropped. So is a frame with a second tag (IEEE 802.1Q, 802.1ad): the kernel takes off priority
/// tags behind this hook.
const PROGRAM: [Instruction; 9] = [
    (LOAD_HALF, 0, 0, PROTOCOL),
    (JUMP_IF_EQUAL, 3, 0, 0x0800),
    (JUMP_IF_EQUAL, 4, 0, 0x86dd),
    (JUMP_IF_EQUAL, 4, 0, 0x8100),
    (JUMP_IF_EQUAL, 3, 2, 0x88a8),
    (LOAD_BYTE, 0, 0, DESTINATION),
    (JUMP_IF_EQUAL, 1, 0, 127),
    (RETURN, 0, 0, GO_ON),
    (RETURN, 0, 0, DROP),
];

/// The program as the kernel takes it and tells it: `struct sock_filter`.
fn bytes() -> Vec<u8> {
    let bytes = |(code, holds, fails, number): Instruction| {
        [&code.to_ne_bytes()[..], &[holds, fails], &number.to_ne_bytes()].concat()
    };
    PROGRAM.into_iter().flat_map(bytes).collect()
}

/// Attaches the filter to a device, which has an ingress hook (`clsact` or `ingress`), in place of our previous one.
pub fn attach(device: u32) -> Request<Message> {
    let mut message = message(device);
    message.header.handle = HANDLE;
    let option = |kind, value: Vec<u8>| TcOption::Other(DefaultNla::new(kind, value));
    let length = u16::try_from(PROGRAM.len()).unwrap_or(u16::MAX);
    message.attributes = vec![
        TcAttribute::Kind("bpf".into()),
        TcAttribute::Options(vec![
            option(LENGTH, length.to_ne_bytes().into()),
            option(INSTRUCTIONS, bytes()),
            option(FLAGS, DIRECT.to_ne_bytes().into()),
        ]),
    ];
    let request = RouteNetlinkMessage::NewTrafficFilter(message).into();
    Request::new(format!("drop what device {device} receives for 127.0.0.0/8"), request, NLM_F_CREATE)
}

/// Whether a device has the filter, with this very program.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn attached(socket: &mut Socket, device: u32) -> Result<bool> {
    let query = Message::from(RouteNetlinkMessage::GetTrafficFilter(message(device)));
    let operation = format!("list the filters of device {device}");
    let found = socket.dump_some(Request::new(operation, query, 0), |reply: Message| {
        let Message::Route(message) = reply else { return None };
        match *message {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        }
    })?;
    let is_ours = |message: &TcMessage| {
        let mut options = message.attributes.iter().filter_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
        let options = options.next();
        let has = |kind: u16, value: &[u8]| options.is_some_and(|options| options.iter().any(|it| is(it, kind, value)));
        message.header.handle == HANDLE && has(INSTRUCTIONS, &bytes()) && has(FLAGS, &DIRECT.to_ne_bytes())
    };
    Ok(found.iter().any(is_ours))
}

/// Whether an option has this kind and value, as it stands in the kernel's message.
fn is(option: &TcOption, kind: u16, value: &[u8]) -> bool {
    let mut found = vec![0; option.value_len()];
    option.emit_value(&mut found);
    option.kind() == kind && found == value
}

/// A message about the filters of our priority, for all protocols, at the ingress hook of a device.
fn message(device: u32) -> TcMessage {
    // The kernel's indexes are positive.
    let mut message = TcMessage::with_index(device.cast_signed());
    message.header.parent = Hook::Ingress.parent();
    // Priority and protocol; the latter in network byte order.
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(EVERYTHING.to_be());
    message
}
