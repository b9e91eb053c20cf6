//! A policy routing rule: packets from an address are routed by a table.

use std::{fmt, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use crate::family;
use crate::netlink::message::Message;
use crate::netlink::request::Request;

/// Routes packets from an address by a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The source address.
    pub source: IpAddr,
    /// The table.
    pub table: u32,
    /// Its priority: the lowest is evaluated first.
    pub priority: u32,
    /// Its origin (`RTPROT_*`): the mark of ownership.
    pub protocol: u8,
}

impl Rule {
    /// Creates the rule; "File exists" when there is an equal one.
    pub fn add(&self) -> Request<Message> {
        let message = RouteNetlinkMessage::NewRule(self.message());
        Request::new(format!("add rule {self}"), message.into(), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Removes the rule.
    pub fn delete(&self) -> Request<Message> {
        Request::removal(format!("remove rule {self}"), RouteNetlinkMessage::DelRule(self.message()).into())
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        message.header.family = family::of(self.source);
        message.header.src_len = family::host(self.source).prefix();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(self.source),
            RuleAttribute::Table(self.table),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(RouteProtocol::from(self.protocol)),
        ];
        message
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to table {}", self.source, self.table)
    }
}
