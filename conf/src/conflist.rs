//! The conflist, whose presence makes a node Ready, as text.

use serde_json::json;

use crate::defaults;
use crate::network::Network;

/// What the plugin accepts from a runtime for one pod (CNI conventions, "Dynamic Plugin specific fields").
pub const CAPABILITIES: [&str; 5] = ["bandwidth", "ipRanges", "ips", "mac", "portMappings"];

/// The conflist of a network. Runtimes that know `cniVersions` use the highest version they support; the others
/// (containerd 1.6 accepts no result of 1.1.0) the one that every runtime supports.
///
/// # Errors
/// When the network cannot be written as JSON.
pub fn render(network: &Network) -> serde_json::Result<String> {
    let mut plugin = serde_json::to_value(network)?;
    plugin["type"] = json!("podwire");
    plugin["capabilities"] = CAPABILITIES.iter().map(|name| ((*name).to_owned(), json!(true))).collect();
    let conflist = json!({
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": defaults::NETWORK,
        "plugins": [plugin],
    });
    Ok(format!("{conflist:#}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ipam, Range, Route};

    /// The shipped file is what the daemon writes for the first node of the sample membership.
    #[test]
    fn the_shipped_conflist_is_the_rendered_one() {
        let range = |text: &str| Range { subnet: text.parse().unwrap(), start: None, end: None, gateway: None };
        let route = |text: &str| Route { destination: text.parse().unwrap(), metric: 0 };
        let network = Network {
            mtu: Some(1450),
            ipam: Ipam {
                kind: Some("podwire".into()),
                ranges: vec![vec![range("10.244.1.0/24")], vec![range("fd00:10:244:1::/64")]],
                routes: vec![route("0.0.0.0/0"), route("::/0")],
                resolv_conf: None,
            },
            fast_path: true,
            daemon: true,
            ..Network::default()
        };
        assert_eq!(include_str!("../10-podwire.conflist"), render(&network).unwrap());
    }

    /// The conflist for a machine without a daemon is valid, declares all capabilities, and is the one in the
    /// documentation.
    #[test]
    fn the_conflist_without_a_daemon_is_complete() {
        let text = include_str!("../alone.conflist");
        let conflist: serde_json::Value = serde_json::from_str(text).unwrap();
        let plugin = &conflist["plugins"][0];
        assert!(Network::parse(plugin).unwrap().masquerade);
        let declared: Vec<_> = plugin["capabilities"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut sorted = declared.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, CAPABILITIES);
        assert!(include_str!("../../docs/plugin.md").contains(text.trim_end()));
    }
}
