//! A route in words, as the program `ip` writes it: in operations, in the log, in errors.

use std::fmt;

use crate::route::{Route, Target};

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let destination = self.destination;
        if self.metric != 0 {
            write!(f, "metric {} ", self.metric)?;
        }
        match self.target {
            Target::Nexthop(id) => write!(f, "{destination} nhid {id}"),
            Target::NexthopWithin { id, mtu } => write!(f, "{destination} nhid {id} mtu {mtu}"),
            Target::Device(device) => write!(f, "{destination} dev {device}"),
            Target::Gateway { gateway, device } => write!(f, "{destination} via {gateway} dev {device}"),
            Target::Unreachable => write!(f, "unreachable {destination}"),
            Target::Blackhole => write!(f, "blackhole {destination}"),
            Target::Foreign => write!(f, "{destination}"),
        }
    }
}
