//! Lookups of a key that is itself partly looked up: a map has a number for a field of the packet, and a set is asked for
//! the numbers.
//!
//! The program `nft` cannot write such a rule, and before it can show it, it aborts (1.0.6: what a map has is of no length to
//! it, `netlink_parse_concat_expr`), and with it the list of all rules. So that it does not see the lookup, each
//! register that gets a number has the packet's mark first, and the lookup writes two registers, of which the number is the
//! second: `nft` shows `meta mark` there, and takes it back as that.
//!
//! What may not live here: what the numbers mean.

use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Register};

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

/// The register that gets a number which a map has for such a key, in words: behind the others, with the one before it. Where a further key
/// begins with that number, the rest of it is behind it.
const FOUND: usize = 13;

/// A part of a key that a rule looks up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// A field of the packet.
    Field(PacketField),
    /// The number that this map has for a field of the packet; without one the rule does not match.
    Number(&'a str, PacketField),
    /// The number that this map has for a key of these parts; without one the rule does not match. It is the first part, or none.
    Found(&'a str, &'a [KeyPart<'a>]),
}

impl KeyPart<'_> {
    fn words(self) -> usize {
        match self {
            Self::Field(field) => field.kind().words(),
            Self::Number(..) | Self::Found(..) => Type::Number.words(),
        }
    }
}

impl Rule {
    /// … whose key of these parts is in a set. The parts have seven words at most, three where they begin with a number that is found.
    pub fn in_set_by(mut self, set: &str, parts: &[KeyPart<'_>]) -> Self {
        let key = self.load_parts(parts);
        self.push(lookup(set, register(key), None));
        self
    }

    /// … for whose key of these parts a map has a number, gets the verdict of a verdict map for that number, if there is one. The
    /// parts are as long as for a set.
    pub fn vmap_by(mut self, map: &str, parts: &[KeyPart<'_>], verdicts: &str) -> Self {
        let key = self.load_parts(parts);
        // Where the key is not.
        let number = if key == FOUND { KEY + 1 } else { FOUND };
        self.push(mark_in(number));
        self.push(lookup(map, register(key), Some(register(number - 1))));
        self.push(lookup(verdicts, register(number), Some(Register::Verdict)));
        self
    }

    /// … for whose field a map has a number, whatever it is.
    pub fn has_number(mut self, map: &str, field: PacketField) -> Self {
        self.push(mark_in(FOUND));
        self.extend_by(field.load(register(FIELD)));
        self.push(lookup(map, register(FIELD), Some(register(FOUND - 1))));
        self
    }

    /// Where the key of these parts begins.
    fn load_parts(&mut self, parts: &[KeyPart<'_>]) -> usize {
        let is_found = |part: &KeyPart<'_>| matches!(part, KeyPart::Found(..));
        debug_assert!(!parts.iter().skip(1).any(is_found), "what is found elsewhere would be overwritten");
        let begin = if parts.first().is_some_and(is_found) { FOUND } else { KEY };
        let mut end = begin + parts.iter().map(|part| part.words()).sum::<usize>();
        // The last part first: a number overwrites what stands before it.
        for part in parts.iter().rev() {
            end -= part.words();
            match part {
                KeyPart::Field(field) => self.extend_by(field.load(register(end))),
                KeyPart::Number(map, field) => {
                    self.push(mark_in(end));
                    self.extend_by(field.load(register(FIELD)));
                    self.push(lookup(map, register(FIELD), Some(register(end - 1))));
                }
                KeyPart::Found(map, parts) => {
                    let key = self.load_parts(parts);
                    self.push(mark_in(end));
                    self.push(lookup(map, register(key), Some(register(end - 1))));
                }
            }
        }
        begin
    }

    fn extend_by(&mut self, expressions: Vec<Expressions>) {
        expressions.into_iter().for_each(|expression| self.push(expression));
    }
}

/// Writes the packet's mark where a number will be, so that `nft` has something to show.
fn mark_in(word: usize) -> Expressions {
    Expressions::Meta(vec![Meta::Key(MetaKey::Mark), Meta::DestinationRegister(register(word))])
}
