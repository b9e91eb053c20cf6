//! What users install, as it is in the repository: manifests, chart, images and installer hold what the documentation says of
//! them; and the command that plays all tests.
//!
//! They need no rights and no namespaces; the chart needs helm, which `scripts/helm` builds. What may not live here: what
//! happens on a node or a cluster where it is installed (`tests/netns/operations`, `tests/e2e`).

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod chart;
mod documentation;
mod documented;
mod examples;
mod github;
mod image;
mod install;
mod manifest;
mod policy_answers;
mod release;
mod stage;
mod test_command;
