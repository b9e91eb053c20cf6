//! The conflist: the file whose presence makes a node Ready, as text.

use serde_json::json;

use crate::{Network, defaults};

/// The conflist of a network, in the highest version whose every verb the plugin has, but for CHECK, which runtimes are
/// told to leave out.
///
/// # Errors
/// When the network cannot be written as JSON.
pub fn render(network: &Network) -> serde_json::Result<String> {
    let mut plugin = serde_json::to_value(network)?;
    plugin["type"] = json!("podwire");
    let conflist = json!({
        "cniVersion": "1.0.0",
        "disableCheck": true,
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
        let route = |text: &str| Route { destination: text.parse().unwrap(), gateway: None };
        let network = Network {
            mtu: Some(1450),
            ipam: Ipam {
                kind: Some("podwire".into()),
                ranges: vec![vec![range("10.244.1.0/24")], vec![range("fd00:10:244:1::/64")]],
                routes: vec![route("0.0.0.0/0"), route("::/0")],
            },
        };
        assert_eq!(include_str!("../10-podwire.conflist"), render(&network).unwrap());
    }
}
