//! Who is behind the numbers of the compiled form, for whoever has to explain it.

use std::collections::BTreeMap;

use crate::policy::element::{Class, Subject};
use crate::policy::judge::Judge;
use crate::policy::rules::ClassKey;

/// Subjects and classes by their numbers.
#[derive(Debug, Clone, Default)]
pub(super) struct Behind {
    pub(super) judges: BTreeMap<Subject, Judge>,
    pub(super) classes: BTreeMap<Class, ClassKey>,
}
