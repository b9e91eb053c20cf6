//! A BPF program at one of the two hooks of a device (`clsact`): ingress, before the host's network stack, and egress,
//! after it. The program returns the verdict ("direct action").

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
pub(super) const FLAGS: u16 = 8;
pub(super) const DIRECT: u32 = 1;
/// `ETH_P_ALL` (uapi/linux/if_ether.h).
pub(super) const EVERYTHING: u16 = 3;
/// Among the filters of a hook, ours comes late: others see a packet first. The number identifies it as ours.
const PRIORITY: u16 = 11_200;
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };
/// `TC_H_CLSACT`, `TC_H_MIN_INGRESS`, `TC_H_MIN_EGRESS` (uapi/linux/pkt_sched.h).
const HOOKS: u16 = 0xffff;
const IN: u16 = 0xfff2;
const OUT: u16 = 0xfff3;

/// A hook of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// Ingress: packets that the device receives.
    Ingress,
    /// Egress: packets that the device sends, before they are queued.
    Egress,
}

impl Hook {
    /// Both hooks.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];

    fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    pub(super) fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Ingress => IN,
            Self::Egress => OUT,
        };
        TcHandle { major: HOOKS, minor }
    }
}

/// The queueing disciplines of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queues {
    /// The kind of the queueing discipline at its root (`noqueue`, `tbf`, …).
    pub root: String,
    /// Whether it has the two hooks (`clsact`).
    pub hooks: bool,
    /// Whether it has the older `ingress` hook, which excludes `clsact`.
    pub ingress: bool,
}

impl Queues {
    /// Whether packets of the device are neither queued nor redirected, except by a program at a hook.
    pub fn is_bare(&self) -> bool {
        !self.ingress && (self.root.is_empty() || self.root == "noqueue")
    }
}

/// The queueing disciplines of all devices, by index.
///
/// # Errors
/// When the kernel refuses.
pub fn queues(socket: &mut Socket) -> Result<BTreeMap<u32, Queues>> {
    let query = Message::from(RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(0)));
    let found = socket.dump_some(Request::new("list the queueing disciplines", query, 0), |reply: Message| {
        let Message::Route(message) = reply else { return None };
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

/// Adds the two hooks to a device that does not have them.
pub fn add_hooks(device: u32) -> Request<Message> {
    let request = RouteNetlinkMessage::NewQueueDiscipline(hooks(device)).into();
    Request::new(format!("add clsact to device {device}"), request, NLM_F_CREATE | NLM_F_EXCL)
}

fn hooks(device: u32) -> TcMessage {
    let mut message = TcMessage::with_index(device.cast_signed());
    message.header.parent = TcHandle { major: HOOKS, minor: 0xfff1 };
    message.header.handle = TcHandle { major: HOOKS, minor: 0 };
    message.attributes = vec![TcAttribute::Kind("clsact".into())];
    message
}

/// Attaches a program to a hook of a device, in place of our previous one.
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
    Request::new(format!("attach {name} to the {} hook of device {device}", hook.name()), request, NLM_F_CREATE)
}

/// Detaches our program from a hook of a device.
pub fn detach(device: u32, hook: Hook) -> Request<Message> {
    let request = RouteNetlinkMessage::DelTrafficFilter(message(device, hook)).into();
    Request::removal(format!("detach our program from the {} hook of device {device}", hook.name()), request)
}

/// Whether our program is attached to a hook of a device.
///
/// # Errors
/// When the kernel refuses to tell.
pub fn attached(socket: &mut Socket, device: u32, hook: Hook) -> Result<bool> {
    let mut query = TcMessage::with_index(device.cast_signed());
    query.header.parent = hook.parent();
    let query = Message::from(RouteNetlinkMessage::GetTrafficFilter(query));
    let operation = format!("list the filters of the {} hook of device {device}", hook.name());
    let found = socket.dump_some(Request::new(operation, query, 0), |reply: Message| {
        let Message::Route(message) = reply else { return None };
        match *message {
            RouteNetlinkMessage::NewTrafficFilter(message) => Some(message),
            _ => None,
        }
    })?;
    // The head of a priority's list has no handle.
    let is_ours = |message: &TcMessage| {
        let ours = message.header.info >> 16 == u32::from(PRIORITY) && message.header.handle == HANDLE;
        ours && kind(message) == Some("bpf")
    };
    Ok(found.iter().any(is_ours))
}

/// A message about the filters of our priority, for all protocols, at a hook of a device.
fn message(device: u32, hook: Hook) -> TcMessage {
    // The kernel's indexes are positive.
    let mut message = TcMessage::with_index(device.cast_signed());
    message.header.parent = hook.parent();
    // Priority and protocol; the latter in network byte order.
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(EVERYTHING.to_be());
    message
}
