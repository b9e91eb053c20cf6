//! What podwire's policies are compared with: clusters as documents (`world`), random ones (`random`), what the API server
//! makes of them (`stored`), and an evaluator that reads them for one packet at a time (`evaluator`, `tiers`).
//!
//! What may not live here: anything of podwire's, or what the two have in common would be wrong in both.

#![allow(clippy::unwrap_used, reason = "a document that is not as it should be stops the test")]

pub mod evaluator;
pub mod packet;
pub mod random;
mod random_tiers;
pub mod stored;
pub mod tiers;
pub mod world;
