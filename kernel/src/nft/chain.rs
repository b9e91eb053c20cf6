//! A chain: where the kernel calls it, and its rules.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage,
};

use crate::nft::encode::ACCEPT;
use crate::nft::reply::{self, Reply};
use crate::nft::rule::Rule;

/// `NFTA_CHAIN_HOOK` (uapi/linux/netfilter/nf_tables.h).
pub(super) const CHAIN_HOOK: u16 = 4;

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name, 255 bytes at most.
    pub name: String,
    /// Where the kernel calls it; a chain without a base is called by rules only.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The hook of a base chain, whose policy is "accept".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its type.
    pub chain_type: ChainType,
    /// Its hook.
    pub hook: ChainHook,
    /// Its priority among the chains of that hook: lower is earlier (`NF_IP_PRI_*`).
    pub priority: i32,
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Accepts and drops; sees every packet.
    Filter,
    /// Translates addresses; sees only the first packet of a connection.
    Nat,
}

/// The hooks that podwire uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainHook {
    /// Incoming packets, before routing.
    Prerouting,
    /// Packets for the host itself, after routing and reassembly.
    Input,
    /// Packets for other hosts, after routing.
    Forward,
    /// Packets that the host itself sends, before routing.
    Output,
    /// Outgoing packets, after routing.
    Postrouting,
}

impl ChainType {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl From<ChainHook> for InetHookNumber {
    fn from(hook: ChainHook) -> Self {
        match hook {
            ChainHook::Prerouting => Self::PreRouting,
            ChainHook::Input => Self::LocalIn,
            ChainHook::Forward => Self::Forward,
            ChainHook::Output => Self::LocalOut,
            ChainHook::Postrouting => Self::PostRouting,
        }
    }
}

impl Chain {
    pub(super) fn query(&self, table: &str) -> NfTablesMessage {
        NfTablesMessage::GetChain(ChainMessage { attributes: self.named(table) })
    }

    pub(super) fn remove(&self, table: &str) -> NfTablesMessage {
        NfTablesMessage::DeleteChain(ChainMessage { attributes: self.named(table) })
    }

    fn named(&self, table: &str) -> Vec<ChainAttribute> {
        vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(self.name.clone())]
    }

    pub(super) fn message(&self, table: &str) -> ChainMessage {
        let mut attributes = self.named(table);
        if let Some(base) = self.base {
            attributes.extend([
                ChainAttribute::Hook(base.place().to_vec()),
                ChainAttribute::Type(base.chain_type.name().into()),
                ChainAttribute::Policy(ACCEPT),
            ]);
        }
        ChainMessage { attributes }
    }

    /// Whether the kernel's chain has this hook, priority and type; or no hook, where none is desired.
    pub(super) fn is_at(&self, found: &Reply) -> bool {
        let place = found.get(CHAIN_HOOK);
        match (self.base, place) {
            // Other fields of the hook that the kernel adds do not matter.
            (Some(base), Some(place)) => {
                let kind = ChainAttribute::Type(base.chain_type.name().into());
                found.has(&kind) && base.place().iter().all(|field| reply::has(place, field))
            }
            (None, None) => true,
            _ => false,
        }
    }
}

impl Base {
    fn place(self) -> [Hook; 2] {
        let priority = u32::from_ne_bytes(self.priority.to_ne_bytes());
        [Hook::Number(HookNumber::Inet(self.hook.into())), Hook::Priority(priority)]
    }
}
