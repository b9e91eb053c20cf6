//! Versions of the protocol: which are supported, and the shape of their results.

use serde_json::json;

/// The supported versions of the protocol, ascending.
pub const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A version as numbers, if it is one.
pub(super) fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let mut numbers = [0; 3];
    for (place, number) in numbers.iter_mut().enumerate() {
        match parts.next() {
            Some(part) => *number = part?,
            None if place > 0 => {}
            None => return None,
        }
    }
    parts.next().is_none().then_some(numbers)
}

/// The shape of a version's results.
pub(super) fn shape(version: &str) -> u8 {
    match version {
        "0.1.0" | "0.2.0" => 0,
        "0.3.0" | "0.3.1" | "0.4.0" => 1,
        _ => 2,
    }
}

/// The versions whose results have one address for each family.
pub fn is_single(version: &str) -> bool {
    shape(version) == 0
}

/// The answer to VERSION.
pub fn render_versions(version: &str) -> String {
    format!("{}\n", json!({"cniVersion": version, "supportedVersions": VERSIONS}))
}
