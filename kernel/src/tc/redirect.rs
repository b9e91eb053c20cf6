//! A filter that redirects every packet that a device receives to another device.

use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption, TcU32Selector, TcU32SelectorFlags,
};

use crate::netlink::error::Result;
use crate::netlink::message::Message;
use crate::netlink::request::Request;
use crate::netlink::socket::Socket;
use crate::tc::qdisc;

/// Every protocol (`ETH_P_ALL`, uapi/linux/if_ether.h).
const EVERYTHING: u16 = 3;

/// Filters run in this order; before ours are only those that drop ([`crate::tc::loopback_filter`]). Earlier versions
/// used 1.
const PRIORITY: u16 = 2;

/// The first filter of the first table of `u32` filters, `800::800` as tc writes it: explicit, so that a second one
/// replaces it instead of being added.
const HANDLE: TcHandle = TcHandle { major: 0x8000, minor: 0x800 };

/// Everything that a device receives goes through another device first: through its queue, and then back (ifb), or out
/// (any other device). While the other device is down or gone, everything is dropped (measured), so it is created
/// before and removed after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// Index of the device that receives; it needs an ingress hook ([`qdisc::ingress`]).
    pub from: u32,
    /// Index of the other device; 0 for one that is gone.
    pub to: u32,
}

impl Redirect {
    /// Creates this filter, or replaces one that redirects to another device.
    pub fn replace(&self) -> Request<Message> {
        let mut generic = TcActionGeneric::default();
        generic.action = TcActionType::Stolen;
        let mut mirror = TcMirror::default();
        mirror.generic = generic;
        mirror.eaction = TcMirrorActionType::EgressRedir;
        mirror.ifindex = self.to;
        let mut action = TcAction::default();
        action.attributes = vec![
            TcActionAttribute::Kind("mirred".into()),
            TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))]),
        ];
        // Without a key, it matches every packet of any length.
        let mut selector = TcU32Selector::default();
        selector.flags = TcU32SelectorFlags::Terminal;
        let mut message = message(self.from);
        message.header.handle = HANDLE;
        message.attributes = vec![
            TcAttribute::Kind("u32".into()),
            TcAttribute::Options(vec![
                TcOption::U32(TcFilterU32Option::Selector(selector)),
                TcOption::U32(TcFilterU32Option::Action(vec![action])),
            ]),
        ];
        let request = RouteNetlinkMessage::NewTrafficFilter(message).into();
        Request::new(format!("redirect {self}"), request, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Reads a filter back; `None` for one with another match or action.
    fn parse(message: &TcMessage) -> Option<Self> {
        if message.header.handle != HANDLE || message.header.info >> 16 > u32::from(PRIORITY) {
            return None;
        }
        let mut options = message.attributes.iter().filter_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
        let (mut everything, mut to) = (false, None);
        for option in options.next()? {
            match option {
                TcOption::U32(TcFilterU32Option::Selector(selector)) => {
                    everything = selector.keys.is_empty() && selector.flags == TcU32SelectorFlags::Terminal;
                }
                TcOption::U32(TcFilterU32Option::Action(actions)) => to = actions.first().and_then(target),
                _ => {}
            }
        }
        let from = message.header.index.cast_unsigned();
        to.filter(|_| everything).map(|to| Self { from, to })
    }
}

/// The device that an action redirects to.
fn target(action: &TcAction) -> Option<u32> {
    let mut options = action.attributes.iter().filter_map(|attribute| match attribute {
        TcActionAttribute::Options(options) => Some(options),
        _ => None,
    });
    options.next()?.iter().find_map(|option| match option {
        TcActionOption::Mirror(TcActionMirrorOption::Parms(mirror))
            if mirror.eaction == TcMirrorActionType::EgressRedir =>
        {
            Some(mirror.ifindex)
        }
        _ => None,
    })
}

/// The redirect of a device by a filter like ours; `None` when there is none.
pub fn find(socket: &mut Socket, device: u32) -> Result<Option<Redirect>> {
    let mut message = message(device);
    // Of any priority.
    message.header.info = 0;
    let query = RouteNetlinkMessage::GetTrafficFilter(message).into();
    let replies = socket.dump(Request::new(format!("list the filters of device {device}"), query, 0))?;
    Ok(replies.into_iter().find_map(|reply| match reply {
        Message::Route(message) => match *message {
            RouteNetlinkMessage::NewTrafficFilter(message) => Redirect::parse(&message),
            _ => None,
        },
        Message::Plain(_) => None,
    }))
}

/// A message about the filters of our priority, for all protocols, at the ingress hook of a device.
fn message(device: u32) -> TcMessage {
    // The kernel's indexes are positive.
    let mut message = TcMessage::with_index(device.cast_signed());
    message.header.parent = qdisc::INGRESS_HANDLE;
    // Priority and protocol; the latter in network byte order.
    message.header.info = u32::from(PRIORITY) << 16 | u32::from(EVERYTHING.to_be());
    message
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what device {} receives through device {}", self.from, self.to)
    }
}
