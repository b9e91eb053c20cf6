//! What whoever runs the cluster has decided about the network: the same on every node, read once at start, validated as a
//! whole. Who the nodes are is `membership`'s.

use std::io;
use std::path::Path;

use podwire_conf::defaults;
use serde::Deserialize;

/// The settings file (`podwired run --settings FILE`); every key may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The VXLAN network identifier, 1 to 16777215.
    pub vni: u32,
    /// The UDP port of the overlay.
    pub port: u16,
    /// Whether peers are probed.
    pub probes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { vni: defaults::VNI, port: defaults::OVERLAY_PORT, probes: true }
    }
}

impl Settings {
    /// Reads the settings file's text.
    ///
    /// # Errors
    /// A sentence that names the key, the value and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if settings.vni == 0 || settings.vni > 0xff_ffff {
            return Err(format!("vni = {}: a VXLAN network identifier is 1 to 16777215", settings.vni));
        }
        if settings.port == 0 {
            return Err("port = 0: a UDP port is 1 to 65535".into());
        }
        Ok(settings)
    }

    /// Reads the settings file, where there is one.
    ///
    /// # Errors
    /// A sentence that names the file and what is wrong with it.
    pub fn read(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |why: String| io::Error::other(format!("settings file {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults_and_a_wrong_one_is_named() {
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        assert_eq!(Settings::parse("port = 4789\n").unwrap().port, 4789);
        assert!(Settings::default().probes && !Settings::parse("probes = false").unwrap().probes);
        assert!(Settings::parse("probes = 1").is_err());
        for (text, said) in [("vni = 0", "vni = 0"), ("vni = 16777216", "vni = 16777216"), ("port = 0", "port = 0")] {
            let error = Settings::parse(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        assert!(Settings::parse("prot = 1").unwrap_err().contains("prot"));
    }
}
