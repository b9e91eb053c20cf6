//! podwire's verdicts on NetworkPolicies beside those of two programs that nobody of podwire wrote, on random clusters:
//! cyclonus and the engine of kube-network-policies, which `scripts/policy-oracles` builds. The naive evaluator is judged as
//! well, so that where they differ it shows who stands alone.
//!
//! What may not live here: what only the compiler and the evaluator know (annotations of podwire's, overlay addresses, what a
//! node has not reported yet): `daemon/src/policy/tests`. No namespaces, no rights.

#![allow(clippy::unwrap_used, reason = "an oracle that cannot be asked is a failed test")]

mod comparison;
mod cyclonus;
mod engine;
mod errors;
mod oracle;
/// The compiler's own tests decode documents in the same way.
#[path = "../../daemon/src/policy/tests/world.rs"]
mod world;

// What that file calls the library.
use podwired::policy;
