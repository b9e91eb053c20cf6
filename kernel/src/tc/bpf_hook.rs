//! A BPF program at one of the two hooks that a device has for classifiers (`clsact`): where packets come in, before the
//! host's own network sees them, and where they go out, after it. Its verdict is what happens ("direct action").

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::bpf::Program;
use crate::netlink::error::Result;
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;

/// `TCA_BPF_*` and `TCA_BPF_FLAG_ACT_DIRECT` (uapi/linux/pkt_cls.h).
const DESCRIPTOR: u16 = 6;
const NAME: u16 = 7;
const FLAGS: u16 = 8;
const DIRECT: u32 = 1;
/// `ETH_P_ALL` (uapi/linux/if_ether.h).
const EVERYTHING: u16 = 3;
/// Of the filters of a hook, ours comes late: others see a packet first. The number tells it from those of others.
const PRIORITY: u16 = 11_200;
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };
/// `TC_H_CLSACT`, `TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS` (uapi/linux/pkt_sched.h).
const HOOKS: u16 = 0xffff;
const IN: u16 = 0xfff2;
const OUT: u16 = 0xfff3;

/// One of the two hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// What the device receives.
    In,
    /// What the device sends, before it is queued.
    Out,
}

impl Hook {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::In, Self::Out];

    fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }

    fn parent(self) -> TcHandle {
        let minor = match self {
            Self::In => IN,
            Self::Out => OUT,
        };
        TcHandle { major: HOOKS, minor }
    }
}

/// What a device has beside its name and its addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queues {
    /// The kind of the queueing discipline at its root (`noqueue`, `tbf`, …).
    pub root: String,
    /// Whether it has the two hooks.
    pub hooks: bool,
    /// Whether it has the older hook in their place, of which there can be one of the two only.
    pub ingress: bool,
}

impl Queues {
    /// Whether nothing that the device sends or receives waits or is redirected, but by a program at a hook.
    pub fn is_bare(&self) -> bool {
        !self.ingress && (self.root.is_empty() || self.root == "noqueue")
    }
}

/// The queueing disciplines of all devices, by index.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn queues(socket: &mut Socket) -> Result<BTreeMap<u32, Queues>> {
    let ask = Message::from(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(0)));
    let found = socket.dump_some(Request::new("list the queueing disciplines", ask, 0), |answer: Message| {
        let Message::Route(message) = answer else { return None };
        match *message {
            RouteNetlinkMessage::NewQueueDiscipline(message) => Some(message),
            _ => None,
        }
    })?;
    let mut all: BTreeMap<u32, Queues> = BTreeMap::new();
    for message in found {
        let queues = all.entry(message.header.index.cast_unsigned()).or_default();
        match kind(&message) {
            Some("clsact") => queues.hooks = true,
            Some("ingress") => queues.ingress = true,
            Some(root) if message.header.parent == TcHandle::ROOT => queues.root = root.into(),
            _ => {}
        }
    }
    Ok(all)
}

fn kind(message: &TcMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    })
}

/// Gives a device the two hooks, which it does not have.
pub fn add_hooks(device: u32) -> Request<Message> {
    let request = RouteNetlinkMessage::NewQueueDiscipline(hooks(device)).into();
    Request::new(format!("give device {device} hooks for classifiers"), request, NLM_F_CREATE | NLM_F_EXCL)
}

fn hooks(device: u32) -> TcMessage {
    let mut message = TcMessage::with_index(device.cast_signed());
    message.header.parent = TcHandle { major: HOOKS, minor: 0xfff1 };
    message.header.handle = TcHandle { major: HOOKS, minor: 0 };
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    message
}

/// Attaches a program to a hook of a device, in place of the one of ours that is there.
pub fn attach(device: u32, hook: Hook, name: &str, program: &Program) -> Request<Message> {
    let mut message = message(device, hook);
    message.header.handle = HANDLE;
    let descriptor = program.as_fd().as_raw_fd().to_ne_bytes().to_vec();
    let option = |kind, value: Vec<u8>| TcOption::Other(DefaultNla::new(kind, value));
    message.attributes = vec![
        TcAttribute::Kind("bpf".into()),
        TcAttribute::Options(vec![
            option(DESCRIPTOR, descriptor),
            option(NAME, [name.as_bytes(), &[0]].concat()),
            option(FLAGS, DIRECT.to_ne_bytes().to_vec()),
        ]),
    ];
    let request = RouteNetlinkMessage::NewTrafficFilter(message).into();
    Request::new(format!("attach {name} to what goes {} at device {device}", hook.name()), request, NLM_F_CREATE)
}

/// Detaches what of ours is attached to a hook of a device.
pub fn detach(device: u32, hook: Hook) -> Request<Message> {
    let request = RouteNetlinkMessage::DelTrafficFilter(message(device, hook)).into();
    Request::removal(format!("detach what is ours from what goes {} at device {device}", hook.name()), request)
}

/// Whether something of ours is attached to a hook of a device.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn attached(socket: &mut Socket, device: u32, hook: Hook) -> Result<bool> {
    let mut ask = TcMessage::with_index(device.cast_signed());
    ask.header.parent = hook.parent();
    let ask = Message::from(RouteNetlinkMessage::GetTrafficFilter(ask));
    let operation = format!("list what is attached to what goes {} at device {device}", hook.name());
    let found = socket.dump_some(Request::new(operation, ask, 0), |answer: Message| {
        let Message::Route(message) = answer else { return None };
        match *message {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        }
    })?;
    // Those that are the list of a priority have no handle.
    let is_ours = |message: &TcMessage| {
        let ours = message.header.info >> 16 == u32::from(PRIORITY) && message.header.handle == HANDLE;
        ours && kind(message) == Some("bpf")
    };
    Ok(found.iter().any(is_ours))
}

/// A message about the filters of our priority, for all protocols, at a hook of a device.
fn message(device: u32, hook: Hook) -> TcMessage {
    // The kernel's indices are positive.
    let mut message = TcMessage::with_index(device.cast_signed());
    message.header.parent = hook.parent();
    // Priority and protocol; the latter in the order of the network.
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(EVERYTHING.to_be());
    message
}
