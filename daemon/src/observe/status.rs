//! What a node says of itself when it is asked: one document, the same for `podwired status --json`, for the human table
//! and for the metrics.
//!
//! What may not live here: what is looked up on the node (`snapshot`), and how the question comes in (`socket`, `http`).

pub mod build;
pub mod client;
pub mod document;
pub mod table;
