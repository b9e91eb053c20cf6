//! The scenes of a whole Kubernetes, which `scripts/kube up` has brought up. `scripts/kube test` plays them in its world.

#![allow(clippy::unwrap_used, reason = "a scene stops at the first surprise")]
