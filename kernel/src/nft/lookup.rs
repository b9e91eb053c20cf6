//! Lookups of a key that is itself partly looked up: a map has a number for a field of the packet, and a set is asked for
//! the numbers.
//!
//! The program `nft` cannot write such a rule, and before it can show it, it aborts (1.0.6: what a map has is of no length to
//! it, `netlink_parse_concat_expr`), and with it the list of all rules. So that it does not see the lookup, each
//! register that gets a number has the packet's mark first, and the lookup writes two registers, of which the number is the
//! second: `nft` shows `meta mark` there, and takes it back as that.
//!
//! What may not live here: what the numbers mean.

use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey};

use crate::nft::encode::{lookup, register};
use crate::nft::field::PacketField;
use crate::nft::field_type::Type;
use crate::nft::rule::Rule;

/// What a map of numbers has: the number is the second, and the first is 0.
pub const NUMBER: [Type; 2] = [Type::Number, Type::Number];

/// The register where a key begins, in words. The first one is written with the number that the key begins with.
const KEY: usize = 1;

/// The register that a field is loaded to by which a map is asked, in words: behind the longest key with numbers.
const FIELD: usize = 8;

/// A part of a key that a rule looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// A field of the packet.
    Field(PacketField),
    /// The number that this map has for a field of the packet; without one the rule does not match.
    Number(&'a str, PacketField),
}

impl KeyPart<'_> {
    fn words(self) -> usize {
        match self {
            Self::Field(field) => field.kind().words(),
            Self::Number(..) => Type::Number.words(),
        }
    }
}

impl Rule {
    /// … whose key of these parts is in a set. The parts have seven words at most.
    pub fn in_set_by(mut self, set: &str, parts: &[KeyPart<'_>]) -> Self {
        let mut end = KEY + parts.iter().map(|part| part.words()).sum::<usize>();
        // The last part first: a number overwrites what stands before it.
        for part in parts.iter().rev() {
            end -= part.words();
            match part {
                KeyPart::Field(field) => self.extend_by(field.load(register(end))),
                KeyPart::Number(map, field) => {
                    let mark = vec![Meta::Key(MetaKey::Mark), Meta::DestinationRegister(register(end))];
                    self.push(Expressions::Meta(mark));
                    self.extend_by(field.load(register(FIELD)));
                    self.push(lookup(map, register(FIELD), Some(register(end - 1))));
                }
            }
        }
        self.push(lookup(set, register(KEY), None));
        self
    }

    fn extend_by(&mut self, expressions: Vec<Expressions>) {
        expressions.into_iter().for_each(|expression| self.push(expression));
    }
}
