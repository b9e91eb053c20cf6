//! What users install, as it is in the repository: the manifests, the chart, the images and the installer hold what the
//! documentation says of them. `scripts/test` builds helm by `scripts/helm`.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod chart;
mod documentation;
mod documented;
mod examples;
mod image;
mod install;
mod manifest;
mod stage;
mod test_command;
