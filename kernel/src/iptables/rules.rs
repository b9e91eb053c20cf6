//! The rules of a legacy table, as the kernel hands them out: one behind the other, each with its match, its extensions and
//! its target.

use crate::decision::Step;
use crate::family::IpVersion;

/// `-NF_ACCEPT - 1`, `-NF_DROP - 1`, `XT_RETURN` as the verdict of a standard target (uapi/linux/netfilter/x_tables.h).
const ACCEPTED: i32 = -2;
const DROPPED: i32 = -1;
const RETURNED: i32 = -5;
/// The head of `struct xt_entry_match` and of `struct xt_entry_target`: a size, a name, a revision.
const HEAD: usize = 32;
const NAME: std::ops::Range<usize> = 2..31;
/// The most rules that are read of one chain.
const MOST: usize = 1 << 16;

/// Where the parts of a rule are: `struct ipt_entry` and `struct ip6t_entry`, whose match of addresses and devices comes
/// first, then the offsets of the target and of the next rule, and the counters last. The flags in the match say, by one bit,
/// that a jump does not come back.
struct Layout {
    matched: usize,
    flags: usize,
    goto: u8,
    target: usize,
    next: usize,
    length: usize,
}

fn layout(version: IpVersion) -> Layout {
    match version {
        IpVersion::V4 => Layout { matched: 84, flags: 82, goto: 2, target: 88, next: 90, length: 112 },
        IpVersion::V6 => Layout { matched: 136, flags: 131, goto: 4, target: 140, next: 142, length: 168 },
    }
}

/// All rules of a table.
pub(super) struct Rules<'a> {
    /// The version of IP that it is for.
    pub(super) version: IpVersion,
    /// As the kernel has them.
    pub(super) bytes: &'a [u8],
}

/// A rule, from its beginning to its end.
pub(super) struct Rule<'a> {
    version: IpVersion,
    bytes: &'a [u8],
    place: usize,
}

impl<'a> Rules<'a> {
    /// The rule that begins at a place.
    pub(super) fn at(&self, place: usize) -> Option<Rule<'a>> {
        let Layout { next, length, .. } = layout(self.version);
        let rest = self.bytes.get(place..)?;
        let end = half(rest, next)?;
        let bytes = rest.get(..end).filter(|rule| rule.len() >= length)?;
        Some(Rule { version: self.version, bytes, place })
    }

    /// What every rule matches; nothing where they could not be read.
    pub(super) fn matched(&self) -> Option<Vec<Vec<u8>>> {
        let Layout { matched, length, .. } = layout(self.version);
        let (mut rules, mut place) = (Vec::new(), 0);
        while place < self.bytes.len() {
            let rule = self.at(place)?;
            rules.push([&rule.bytes[..matched], &rule.bytes[length..]].concat());
            place += rule.bytes.len();
        }
        Some(rules)
    }

    /// What the rules from a place on do, up to one that ends the chain, or to the policy, which is left out.
    pub(super) fn steps(&self, first: usize, policy: usize) -> Vec<Step<usize>> {
        let (mut steps, mut place) = (Vec::new(), first);
        while place != policy
            && steps.len() < MOST
            && let Some(rule) = self.at(place)
        {
            let step = rule.step();
            let ends = matches!(step, Step::Accept | Step::Drop | Step::Return | Step::Goto(_));
            steps.push(step);
            place += rule.bytes.len();
            if ends {
                break;
            }
        }
        steps
    }
}

impl Rule<'_> {
    /// What it does with every packet.
    pub(super) fn step(&self) -> Step<usize> {
        self.read().unwrap_or(Step::Other)
    }

    fn read(&self) -> Option<Step<usize>> {
        let Layout { matched, flags, goto, target, length, .. } = layout(self.version);
        let target = half(self.bytes, target)?;
        let mut condition = self.bytes.get(..matched)?.to_vec();
        let goes = condition[flags] & goto != 0;
        condition[flags] &= !goto;
        let mut extensions = self.bytes.get(length..target)?;
        while !extensions.is_empty() {
            let size = half(extensions, 0).filter(|size| *size >= HEAD)?;
            if name(extensions)? != b"comment" {
                return Some(Step::Other);
            }
            extensions = extensions.get(size..)?;
        }
        if condition.iter().any(|byte| *byte != 0) {
            return Some(Step::Other);
        }
        let target = self.bytes.get(target..)?;
        match name(target)? {
            b"REJECT" => Some(Step::Drop),
            b"" => {
                let verdict = i32::from_ne_bytes(target.get(HEAD..HEAD + 4)?.try_into().ok()?);
                Some(match (verdict, usize::try_from(verdict)) {
                    (ACCEPTED, _) => Step::Accept,
                    (DROPPED, _) => Step::Drop,
                    (RETURNED, _) => Step::Return,
                    // To the next rule: a rule that only counts.
                    (_, Ok(to)) if to == self.place + self.bytes.len() => Step::Other,
                    (_, Ok(to)) if goes => Step::Goto(to),
                    (_, Ok(to)) => Step::Jump(to),
                    // To a program, for example, which decides.
                    (_, Err(_)) => Step::Accept,
                })
            }
            _ => Some(Step::Other),
        }
    }
}

/// The name in the head of an extension or a target.
fn name(bytes: &[u8]) -> Option<&[u8]> {
    let name = bytes.get(NAME)?;
    Some(&name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())])
}

fn half(bytes: &[u8], place: usize) -> Option<usize> {
    Some(usize::from(u16::from_ne_bytes(bytes.get(place..place + 2)?.try_into().ok()?)))
}
