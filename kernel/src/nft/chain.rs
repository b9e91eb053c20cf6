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
    /// Where the kernel calls it; a chain without is called by rules only.
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// The place of a chain that the kernel itself calls, with the policy "accept".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What it may do.
    pub chain_type: ChainType,
    /// Where it is called.
    pub hook: ChainHook,
    /// Its place among the chains of that hook: lower is earlier (`NF_IP_PRI_*`).
    pub priority: i32,
}

/// What a chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Let pass and drop; sees every packet.
    Filter,
    /// Translate addresses; sees the first packet of a connection only.
    Nat,
}

/// The hooks in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainHook {
    /// On the way in, before routing.
    Prerouting,
    /// What is for the host itself, after routing; whole again when it came in fragments.
    Input,
    /// What is for others, after routing.
    Forward,
    /// What the host itself sends, before routing.
    Output,
    /// On the way out, after routing.
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
    pub(super) fn ask(&self, table: &str) -> NfTablesMessage {
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

    /// Whether the kernel's chain is at this hook, with this priority and kind; or at none, where none is wanted.
    pub(super) fn is_at(&self, found: &Reply) -> bool {
        let place = found.get(CHAIN_HOOK);
        match (self.base, place) {
            // Whatever other fields of the hook the kernel adds.
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
