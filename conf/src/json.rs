//! Reading a JSON document as users and runtimes write it: keys in any case, null for absent values, and errors with
//! the path and the value of the field. What may not live here: podwire's own keys.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;

use crate::invalid::Invalid;

/// A value with its path in the document.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Field<'a> {
    /// The document itself.
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { path: String::new(), value }
    }

    /// Its path, as in `ipam.ranges[0][0].subnet`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The value.
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// The value of a key; `None` when it is absent or null. Keys match in any case (as in Go's decoder, which every
    /// runtime uses); an exact match comes first.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Field<'a>>, Invalid> {
        let Value::Object(entries) = self.value else {
            return self.wrong("is not an object");
        };
        let folded = || entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value);
        let found = entries.get(key).or_else(folded).filter(|value| !value.is_null());
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Ok(found.map(|value| Field { path, value }))
    }

    /// The elements of a list.
    pub(crate) fn list(&self) -> Result<Vec<Field<'a>>, Invalid> {
        let Value::Array(entries) = self.value else {
            return self.wrong("is not a list");
        };
        let place = |(number, value)| Field { path: format!("{}[{number}]", self.path), value };
        Ok(entries.iter().enumerate().map(place).collect())
    }

    /// The entries of an object, by their keys as they are written.
    pub(crate) fn entries(&self) -> Result<Vec<(&'a str, Field<'a>)>, Invalid> {
        let Value::Object(entries) = self.value else {
            return self.wrong("is not an object");
        };
        let entry = |(key, value): (&'a String, &'a Value)| {
            (key.as_str(), Field { path: format!("{}[{key:?}]", self.path), value })
        };
        Ok(entries.iter().map(entry).collect())
    }

    /// Whether it is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    /// Whether it is an object.
    pub(crate) fn is_object(&self) -> bool {
        self.value.is_object()
    }

    /// A string.
    pub(crate) fn text(&self) -> Result<&'a str, Invalid> {
        self.value.as_str().map_or_else(|| self.wrong("is not a string"), Ok)
    }

    /// A boolean.
    pub(crate) fn flag(&self) -> Result<bool, Invalid> {
        self.value.as_bool().map_or_else(|| self.wrong("is neither true nor false"), Ok)
    }

    /// A non-negative integer.
    pub(crate) fn number(&self) -> Result<u64, Invalid> {
        self.value.as_u64().map_or_else(|| self.wrong("is not a whole number from 0"), Ok)
    }

    /// A string with a value in it: an address, a prefix.
    pub(crate) fn parse<T: FromStr>(&self, what: impl Display) -> Result<T, Invalid> {
        self.text()?.parse().or_else(|_| self.wrong(format!("is not {what}")))
    }

    /// An error about this field: its value, and why.
    pub(crate) fn wrong<T>(&self, why: impl Display) -> Result<T, Invalid> {
        let mut value = self.value.to_string();
        if value.len() > 80 {
            let end = (0..=77).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
            value.truncate(end);
            value.push('…');
        }
        self.refuse(format!("{value} {why}"))
    }

    /// An error about this field, with a text of its own.
    pub(crate) fn refuse<T>(&self, why: impl Into<String>) -> Result<T, Invalid> {
        Err(Invalid {
            field: if self.path.is_empty() { "network configuration".into() } else { self.path.clone() },
            why: why.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn c10_keys_match_in_any_case_and_an_exact_match_first() {
        let document = json!({"HostPort": 1, "hostPort": 2, "Other": null});
        let root = Field::root(&document);
        assert_eq!(root.get("hostPort").unwrap().unwrap().number().unwrap(), 2);
        assert_eq!(root.get("HOSTPORT").unwrap().unwrap().number().unwrap(), 1);
        assert!(root.get("other").unwrap().is_none());
    }

    #[test]
    fn c14_an_error_has_the_path_and_the_value_and_is_never_longer_than_a_line() {
        let document = json!({"a": {"b": ["x", {"c": "é".repeat(200)}]}});
        let list = Field::root(&document).get("a").unwrap().unwrap().get("b").unwrap().unwrap().list().unwrap();
        let error = list[1].get("c").unwrap().unwrap().number().unwrap_err();
        assert_eq!(error.field, "a.b[1].c");
        assert!(
            error.why.starts_with("\"éé") && error.why.ends_with("… is not a whole number from 0"),
            "{}",
            error.why
        );
        assert_eq!(list[0].get("c").unwrap_err().to_string(), "a.b[0]: \"x\" is not an object");
    }
}
