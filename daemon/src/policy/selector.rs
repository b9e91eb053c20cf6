//! Label selectors: `matchLabels` and `matchExpressions`, and what they match.

use std::collections::BTreeMap;

use podwire_conf::syntax;
use serde::Deserialize;

use crate::policy::labels::Labels;
use crate::policy::rejected::{Complaints, Reason, quoted};
use crate::policy::text::Text;

/// The most requirements of a selector, and the most values of one.
const REQUIREMENTS: usize = 256;
const VALUES: usize = 1024;

/// A label selector. Without a requirement it matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Box<[Requirement]>);

/// One requirement on labels; all of a selector have to be met.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    key: Text,
    test: Test,
}

/// What is required of the value of a key. Values are sorted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Test {
    /// It is one of these; `matchLabels` requires one.
    In(Box<[Text]>),
    /// It is none of these, or there is none.
    NotIn(Box<[Text]>),
    /// There is one.
    Exists,
    /// There is none.
    DoesNotExist,
}

impl Selector {
    /// Whether it matches an object with these labels.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.is_met(labels))
    }

    /// Pairs of a key and a value of which every object has one that this matches; `None` where there are no such.
    pub(super) fn one_of(&self) -> Option<impl Iterator<Item = (&Text, &Text)>> {
        let pairs = |requirement: &'_ Requirement| match &requirement.test {
            Test::In(values) => Some(values.len()),
            _ => None,
        };
        // The one with the fewest values tells most.
        let best = self.0.iter().filter(|requirement| pairs(requirement).is_some()).min_by_key(|one| pairs(one))?;
        let values = match &best.test {
            Test::In(values) => &values[..],
            _ => &[],
        };
        Some(values.iter().map(|value| (&best.key, value)))
    }
}

impl Requirement {
    fn is_met(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.binary_search(value).is_ok()),
            Test::NotIn(values) => value.is_none_or(|value| values.binary_search(value).is_err()),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

/// A selector as the API writes it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wire {
    match_labels: Option<BTreeMap<String, String>>,
    match_expressions: Option<Vec<Expression>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Expression {
    key: String,
    operator: String,
    values: Option<Vec<String>>,
}

impl Wire {
    /// The selector, as far as nothing is wrong with it.
    pub(super) fn read(self, field: &str, complaints: &mut Complaints) -> Selector {
        let (labels, expressions) = (self.match_labels.unwrap_or_default(), self.match_expressions.unwrap_or_default());
        let mut requirements = Vec::new();
        let of_labels = format!("{field}.matchLabels");
        complaints.bound(&of_labels, labels.len(), REQUIREMENTS);
        for (key, value) in labels.iter().take(REQUIREMENTS) {
            complaints.syntax(&of_labels, key, syntax::label_key);
            complaints.syntax(&format!("{of_labels}[{key}]"), value, syntax::label_value);
            let test = Test::In([Text::from(value.as_str())].into());
            requirements.push(Requirement { key: key.as_str().into(), test });
        }
        let of_expressions = format!("{field}.matchExpressions");
        complaints.bound(&of_expressions, expressions.len(), REQUIREMENTS);
        for (place, expression) in expressions.into_iter().take(REQUIREMENTS).enumerate() {
            requirements.extend(expression.read(&format!("{of_expressions}[{place}]"), complaints));
        }
        // Two selectors that are written in another order are one.
        requirements.sort();
        requirements.dedup();
        Selector(requirements.into())
    }
}

impl Expression {
    fn read(self, field: &str, complaints: &mut Complaints) -> Option<Requirement> {
        complaints.syntax(&format!("{field}.key"), &self.key, syntax::label_key);
        let of_values = format!("{field}.values");
        let written = self.values.unwrap_or_default();
        complaints.bound(&of_values, written.len(), VALUES);
        for value in written.iter().take(VALUES) {
            complaints.syntax(&of_values, value, syntax::label_value);
        }
        let mut values: Vec<_> = written.iter().take(VALUES).map(|value| Text::from(value.as_str())).collect();
        values.sort();
        values.dedup();
        let empty = values.is_empty();
        let test = match self.operator.as_str() {
            "In" => Test::In(values.into()),
            "NotIn" => Test::NotIn(values.into()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            other => {
                let reason = Reason::Syntax { value: quoted(other), allowed: "In, NotIn, Exists or DoesNotExist" };
                complaints.add(format!("{field}.operator"), reason);
                return None;
            }
        };
        match &test {
            Test::In(_) | Test::NotIn(_) if empty => {
                complaints.add(of_values, Reason::Missing("In and NotIn need a value at least"));
            }
            Test::Exists | Test::DoesNotExist if !empty => {
                complaints.add(of_values, Reason::Conflict("Exists and DoesNotExist have no values"));
            }
            _ => {}
        }
        Some(Requirement { key: self.key.as_str().into(), test })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let mut complaints = Complaints::default();
        let selector = serde_json::from_str::<Wire>(selector).unwrap().read("selector", &mut complaints);
        let selector = complaints.accept("", String::new(), selector).unwrap();
        let labels = Labels::new(labels.iter().map(|(key, value)| (Text::from(*key), Text::from(*value))));
        selector.matches(&labels)
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(matches("{}", &[]) && matches(r#"{"matchLabels":null,"matchExpressions":[]}"#, &[("a", "1")]));
    }

    #[test]
    fn labels_and_expressions_have_to_match_all() {
        let selector = r#"{"matchLabels":{"a":"1","b":""},"matchExpressions":[{"key":"c","operator":"Exists"}]}"#;
        assert!(matches(selector, &[("a", "1"), ("b", ""), ("c", "x")]));
        assert!(!matches(selector, &[("a", "1"), ("b", "")]));
        assert!(!matches(selector, &[("a", "1"), ("c", "x")]));
        assert!(!matches(selector, &[("a", "2"), ("b", ""), ("c", "x")]));
    }

    #[test]
    fn not_in_and_does_not_exist_match_where_the_key_is_missing_and_the_others_do_not() {
        let of = |operator: &str, values: &str, labels: &[(&str, &str)]| {
            let expression = format!(r#"{{"key":"a","operator":"{operator}","values":{values}}}"#);
            matches(&format!(r#"{{"matchExpressions":[{expression}]}}"#), labels)
        };
        let all = |labels: &[(&str, &str)]| {
            [("In", r#"["2","1"]"#), ("NotIn", r#"["2","1"]"#), ("Exists", "null"), ("DoesNotExist", "[]")]
                .map(|(operator, values)| of(operator, values, labels))
        };
        assert_eq!(all(&[]), [false, true, false, true]);
        assert_eq!(all(&[("a", "1")]), [true, false, true, false]);
        assert_eq!(all(&[("a", "3")]), [false, true, true, false]);
    }
}
