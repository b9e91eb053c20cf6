//! Who is behind the numbers of the compiled form, for whoever has to explain it.

use std::collections::BTreeMap;

use crate::policy::element::{Class, Subject};
use crate::policy::rules::{ClassKey, Rules};

/// Subjects and classes by their numbers.
#[derive(Debug, Default)]
pub(super) struct Behind {
    pub(super) rules: BTreeMap<Subject, Rules>,
    pub(super) classes: BTreeMap<Class, ClassKey>,
}
