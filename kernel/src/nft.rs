//! One nftables table of the `inet` family: its sets, chains and rules as values, read back and replaced whole.
//!
//! The program `nft` is never executed: a change is one transaction of a netlink socket, so a packet sees either the
//! old rules or the new ones. The elements of sets belong to the program that added them: they are values of their own
//! ([`Element`]), and they survive the replacement of the table.
//!
//! What may not live here: which rules are desired (`podwire_conf::rules` has them).

mod chain;
mod connection;
mod counter;
mod device_name;
mod element;
mod encode;
mod ensure;
mod entries;
mod fib;
mod field;
mod field_type;
mod forward_policy;
mod generation;
mod icmp;
mod listing;
mod log;
mod lookup;
mod message;
mod quoted;
mod recorded;
mod reply;
mod rule;
mod set;
mod statement;
mod table;
mod tally;
mod type_of;

pub use self::chain::{Base, Chain, ChainHook, ChainType};
pub use self::counter::counted;
pub use self::device_name::DeviceName;
pub use self::element::{Data, Element, Field, elements, missing};
pub use self::ensure::{Ensured, ensure, remove_elements};
pub use self::entries::{Branch, Entries, entries};
pub use self::field::PacketField;
pub use self::field_type::Type;
pub use self::forward_policy::{DropChain, drop_chains};
pub use self::generation::current_generation;
pub use self::listing::{Names, names};
pub use self::lookup::{KeyPart, NUMBER};
pub use self::recorded::{Record, recorded};
pub use self::rule::Rule;
pub use self::set::{Bounds, Content, Set};
pub use self::table::{Listed, Table, read, remove_table};
pub use self::tally::{Tally, tallies};

/// What a transaction is made of ([`crate::Socket::transact_upon`]).
pub type Requests = Vec<crate::Request<netlink_packet_netfilter::NetfilterMessage>>;
