//! Labels of pods that come with their attachment: the network's own for all its pods, and those of one pod. NetworkPolicies
//! select pods by them where no API tells of the pods.

use std::collections::BTreeMap;

use crate::invalid::Invalid;
use crate::json::Field;
use crate::syntax;

/// The most labels of one object.
pub const LABELS: usize = 512;

/// Labels by their keys.
pub type Labels = BTreeMap<String, String>;

/// Reads and validates an object of keys and values.
pub(crate) fn read(field: &Field<'_>) -> Result<Labels, Invalid> {
    let labels = field.entries()?.into_iter().map(|(key, value)| Ok((key.to_owned(), value.text()?.to_owned())));
    let labels = labels.collect::<Result<Labels, Invalid>>()?;
    validate(&labels).or_else(|why| field.refuse(why))?;
    Ok(labels)
}

/// Whether Kubernetes would take these labels.
///
/// # Errors
/// The first that it would not, and what is allowed.
pub fn validate(labels: &Labels) -> Result<(), String> {
    if labels.len() > LABELS {
        return Err(format!("{} labels, and at most {LABELS} are allowed", labels.len()));
    }
    labels.iter().try_for_each(|(key, value)| {
        syntax::label_key(key).map_err(|allowed| format!("the key {key:?} is not valid: {allowed}"))?;
        syntax::label_value(value).map_err(|allowed| format!("{key}: the value {value:?} is not valid: {allowed}"))
    })
}
