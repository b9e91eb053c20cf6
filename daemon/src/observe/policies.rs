//! What can be asked about NetworkPolicies: which are in force on this node, and why a packet passes or not. Answered from the
//! compiled form that the kernel has, never from the policies themselves.
//!
//! What may not live here: what policies mean (`policy`), and how the question comes in (`socket`).

pub mod document;
pub mod table;

mod answer;
mod ends;

pub(crate) use self::answer::{Ask, answer, explain, list, owner, state};
