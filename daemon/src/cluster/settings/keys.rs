//! The keys of the settings file, taken one after another: what is wrong with one does not hide what is wrong with the next.
//!
//! What may not live here: which settings there are.

use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;
use podwire_kernel::family;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::cluster::settings::mistake::{Mistake, Wrong};

/// What is left of a file, and what was wrong so far.
pub(super) struct Keys<'a> {
    text: &'a str,
    table: DeTable<'a>,
    mistakes: Vec<Mistake>,
}

/// A prefix in a list, and where it stands.
struct Prefix {
    key: String,
    line: usize,
    prefix: IpNetwork,
}

impl<'a> Keys<'a> {
    /// Those of a text.
    pub(super) fn of(text: &'a str) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut keys = Self { text, table: table.into_inner(), mistakes: Vec::new() };
        for error in errors {
            let line = error.span().map(|span| keys.line(span.start));
            // One cause may have several symptoms.
            if line.is_none() || keys.mistakes.iter().all(|mistake| mistake.line != line) {
                keys.mistakes.push(Mistake { line, what: Wrong::Syntax(error.message().replace('\n', ", ")) });
            }
        }
        keys
    }

    /// A flag.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.take(key, "true or false", |value| if let DeValue::Boolean(flag) = value { Some(*flag) } else { None })
    }

    /// A whole number in a range.
    pub(super) fn number<T: TryFrom<i128> + PartialOrd>(
        &mut self,
        key: &str,
        range: &RangeInclusive<T>,
        allowed: &'static str,
    ) -> Option<T> {
        self.take(key, allowed, |value| {
            let DeValue::Integer(number) = value else { return None };
            let number = i128::from_str_radix(number.as_str(), number.radix()).ok()?;
            T::try_from(number).ok().filter(|number| range.contains(number))
        })
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)], allowed: &'static str) -> Option<T> {
        self.take(key, allowed, |value| {
            let DeValue::String(word) = value else { return None };
            words.iter().find(|(known, _)| known == word).map(|(_, meant)| *meant)
        })
    }

    /// A list of prefixes without host bits.
    pub(super) fn prefixes(&mut self, key: &str) -> Option<Vec<IpNetwork>> {
        let listed = self.list(key)?;
        let (right, wrong): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|Prefix { prefix, .. }| prefix.network() == prefix.ip());
        self.mistakes.extend(wrong.into_iter().map(|Prefix { key, line, prefix }| {
            let what = Wrong::HostBits { key, prefix, meant: family::masked(prefix) };
            Mistake { line: Some(line), what }
        }));
        Some(right.into_iter().map(|right| right.prefix).collect())
    }

    /// A list of ranges, as they are written: whether they can be right is judged with the nodes.
    pub(super) fn ranges(&mut self, key: &str) -> Option<Vec<IpNetwork>> {
        Some(self.list(key)?.into_iter().map(|entry| entry.prefix).collect())
    }

    fn list(&mut self, key: &str) -> Option<Vec<Prefix>> {
        let value = self.table.remove(key)?;
        let DeValue::Array(entries) = value.get_ref() else {
            self.wrong(key, &value, "a list of prefixes, as in [\"10.0.0.0/8\", \"fd00::/8\"]");
            return None;
        };
        let mut prefixes = Vec::new();
        for (place, entry) in entries.iter().enumerate() {
            let key = format!("{key}[{place}]");
            let text = if let DeValue::String(text) = entry.get_ref() { Some(text) } else { None };
            match text.and_then(|text| text.parse().ok()) {
                None => self.wrong(&key, entry, "a prefix, as in \"10.0.0.0/8\" or \"fd00::/8\""),
                Some(prefix) => prefixes.push(Prefix { key, line: self.line(entry.span().start), prefix }),
            }
        }
        Some(prefixes)
    }

    /// Ends the reading: what has not been taken is no setting. The mistakes, in order.
    pub(super) fn end(mut self, known: &'static [&'static str]) -> Vec<Mistake> {
        let unknown = self.table.iter().map(|(key, _)| {
            let line = Some(self.line(key.span().start));
            Mistake { line, what: Wrong::Unknown { key: key.get_ref().clone().into_owned(), known } }
        });
        let unknown: Vec<_> = unknown.collect();
        // What stands in a line that is not TOML may not be what was meant.
        let not_toml: Vec<_> =
            self.mistakes.iter().filter(|mistake| matches!(mistake.what, Wrong::Syntax(_))).collect();
        let not_toml: Vec<_> = not_toml.into_iter().map(|mistake| mistake.line).collect();
        self.mistakes.extend(unknown);
        self.mistakes.retain(|Mistake { line, what }| matches!(what, Wrong::Syntax(_)) || !not_toml.contains(line));
        self.mistakes.sort_by_key(|mistake| mistake.line);
        self.mistakes
    }

    fn take<T>(&mut self, key: &str, allowed: &'static str, read: impl FnOnce(&DeValue<'a>) -> Option<T>) -> Option<T> {
        let value = self.table.remove(key)?;
        let read = read(value.get_ref());
        if read.is_none() {
            self.wrong(key, &value, allowed);
        }
        read
    }

    fn wrong(&mut self, key: &str, value: &Spanned<DeValue<'a>>, allowed: &'static str) {
        let found = self.text.get(value.span()).unwrap_or_default().to_owned();
        let line = Some(self.line(value.span().start));
        self.mistakes.push(Mistake { line, what: Wrong::Value { key: key.to_owned(), found, allowed } });
    }

    /// The line that a place in the text is in, from 1.
    fn line(&self, place: usize) -> usize {
        self.text.bytes().take(place).filter(|byte| *byte == b'\n').count() + 1
    }
}
