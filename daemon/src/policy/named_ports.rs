//! The named ports of a pod's containers: held once for all pods that have the same.

use std::sync::{Arc, Mutex};

use crate::policy::pool::{Pool, Shared};
use crate::policy::port::Protocol;
use crate::policy::text::Text;

static NAMED_PORTS: Shared<[NamedPort]> = Shared::new(|| Mutex::new(Pool::new()));

/// A port that a container has a name for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// The name.
    pub name: Text,
    /// The protocol: a port of another one is another port.
    pub protocol: Protocol,
    /// The number.
    pub number: u16,
}

/// The named ports of a pod, sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPorts(Arc<[NamedPort]>);

impl NamedPorts {
    /// Of these.
    pub fn new(ports: impl IntoIterator<Item = NamedPort>) -> Self {
        let mut ports: Vec<_> = ports.into_iter().collect();
        ports.sort();
        ports.dedup();
        Self(Pool::hold(&NAMED_PORTS, &ports))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &NamedPort> {
        self.0.iter()
    }

    /// The numbers that a name stands for: several where several containers use it.
    pub fn numbers<'a>(&'a self, name: &'a str, protocol: Protocol) -> impl Iterator<Item = u16> + 'a {
        self.iter().filter(move |port| *port.name == *name && port.protocol == protocol).map(|port| port.number)
    }

    /// Where they are held: two that are equal are at one place.
    pub(super) fn place(&self) -> usize {
        self.0.as_ptr().addr()
    }
}

impl Default for NamedPorts {
    fn default() -> Self {
        Self::new([])
    }
}
