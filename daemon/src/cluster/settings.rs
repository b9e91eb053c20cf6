//! The settings of the network: the same on every node, read once at start, validated as a whole. Who the nodes are is in
//! `membership`.
//!
//! To add a setting: here the field, its value in `Default`, its check in `parse` with a `SettingsError`, and tests; the code
//! that uses it; `conf/podwired.toml` (the default, commented out); the table in `docs/daemon.md`, "Settings";
//! `conf/kubernetes/chart/values.schema.json`; the list of keys in `docs/kubernetes.md`, "Values of the chart" (no test holds
//! it); the values in `tests/packaging/chart.rs`; a scene of what it changes, in `tests/netns/`; a line in `CHANGELOG.md`. Where the plugin needs it also
//! `conf/src/network.rs` and `docs/plugin.md`; where status shows it `daemon/src/observe/status/`. Not `values.yaml`: the
//! chart takes every key of the schema.

use std::fmt;

use ipnetwork::IpNetwork;
use podwire_conf::defaults::{self, SMALLEST_IPV4_MTU};
use podwire_kernel::family;
use serde::Deserialize;
use thiserror::Error;

/// The settings file (`podwired run --settings FILE`); every key may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The VXLAN network identifier, 1 to 16777215.
    pub vni: u32,
    /// The UDP port of the overlay.
    pub port: u16,
    /// Which peers' pods are reached through the overlay.
    pub overlay: Overlay,
    /// Whether packets of peers' pods that are not encapsulated are accepted from whoever sends them: while nodes change
    /// `overlay` one after another.
    pub accept_plain: bool,
    /// The MTU of pods in bytes, instead of what the underlay leaves for them.
    pub mtu: Option<u32>,
    /// Whether what pods send to the outside of the cluster leaves under their node's address.
    pub masquerade: bool,
    /// Prefixes outside of the cluster to which it does not.
    pub not_masqueraded: Vec<IpNetwork>,
    /// Prefixes outside of the cluster that pods do not reach.
    pub refused_destinations: Vec<IpNetwork>,
    /// Whether what belongs to established connections between pods takes the fast path, where the kernel has it.
    pub fast_path: bool,
    /// How long a pod has to look dead before what it holds is released, in seconds; 0: it is never.
    pub garbage_after_seconds: u32,
    /// Whether peers are probed.
    pub probes: bool,
    /// The ranges that all pods are in, where the nodes come from Kubernetes, whose API does not tell them. A membership
    /// file has its own.
    pub cluster_cidrs: Vec<IpNetwork>,
    /// Which address of a node that has one of each family in Kubernetes is its own on the underlay; unless said, IPv4
    /// where this node has one.
    pub underlay: Option<Underlay>,
}

/// Which peers' pods are reached through the overlay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overlay {
    /// All.
    #[default]
    Always,
    /// Those of peers that are on another link than this node; the others by a plain route through the peer's address.
    Auto,
    /// None: there are plain routes only.
    Never,
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Auto => "auto",
            Self::Never => "never",
        })
    }
}

/// The family of the nodes' own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            vni: defaults::VNI,
            port: defaults::OVERLAY_PORT,
            overlay: Overlay::default(),
            accept_plain: false,
            mtu: None,
            masquerade: true,
            not_masqueraded: Vec::new(),
            refused_destinations: Vec::new(),
            fast_path: true,
            garbage_after_seconds: 60,
            probes: true,
            cluster_cidrs: Vec::new(),
            underlay: None,
        }
    }
}

impl Settings {
    /// Reads the settings file's text.
    ///
    /// # Errors
    /// Which key is wrong, its value, and what was expected.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let settings: Self = toml::from_str(text)?;
        if settings.vni == 0 || settings.vni > 0xff_ffff {
            return Err(SettingsError::Vni(settings.vni));
        }
        if settings.port == 0 {
            return Err(SettingsError::Port);
        }
        if let Some(mtu) = settings.mtu.filter(|mtu| !(SMALLEST_IPV4_MTU..=65_535).contains(mtu)) {
            return Err(SettingsError::Mtu(mtu));
        }
        let lists =
            [("not_masqueraded", &settings.not_masqueraded), ("refused_destinations", &settings.refused_destinations)];
        for (key, list) in lists {
            if let Some(prefix) = list.iter().copied().find(|prefix| prefix.network() != prefix.ip()) {
                return Err(SettingsError::HostBits { key, prefix, meant: family::masked(prefix) });
            }
        }
        Ok(settings)
    }

    /// Whether these settings go with where the nodes come from: Kubernetes, or a file that says these things itself.
    ///
    /// # Errors
    /// Which key is missing, or has no place here.
    pub fn go_with(&self, kubernetes: bool) -> Result<(), SettingsError> {
        match (kubernetes, self.cluster_cidrs.is_empty(), self.underlay) {
            (true, true, _) => Err(SettingsError::NoClusterCidrs),
            (false, false, _) => Err(SettingsError::ClusterCidrs),
            (false, _, Some(_)) => Err(SettingsError::Underlay),
            _ => Ok(()),
        }
    }
}

/// What is wrong with settings.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// It is not TOML, or has a key that is unknown or of another type.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// The VNI is out of range.
    #[error("vni = {0}: a VXLAN network identifier is 1 to 16777215")]
    Vni(u32),
    /// The port is 0.
    #[error("port = 0: a UDP port is 1 to 65535")]
    Port,
    /// The MTU is too small or too large.
    #[error("mtu = {0}: the MTU of pods is {SMALLEST_IPV4_MTU} to 65535 bytes")]
    Mtu(u32),
    /// A prefix has bits set behind its length.
    #[error("{key}: {prefix} has host bits set: did you mean {meant}?")]
    HostBits {
        /// The key of the list.
        key: &'static str,
        /// As it is written.
        prefix: IpNetwork,
        /// Without these bits.
        meant: IpNetwork,
    },
    /// The nodes come from Kubernetes, and the ranges are not set.
    #[error(
        "cluster_cidrs is missing in the settings file: the Kubernetes API does not have the ranges that all pods are in \
         (kube-controller-manager has them as --cluster-cidr)"
    )]
    NoClusterCidrs,
    /// The nodes come from a file, which has the ranges.
    #[error(
        "cluster_cidrs is set in the settings file, and the membership file has its own: remove it from the settings"
    )]
    ClusterCidrs,
    /// The nodes come from a file, which has their addresses.
    #[error(
        "underlay is set in the settings file, and the membership file has one address for each node: remove it from the \
         settings"
    )]
    Underlay,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_defaults_and_a_wrong_one_is_named() {
        assert_eq!(Settings::parse("").unwrap(), Settings::default());
        assert_eq!(Settings::parse("port = 4789\n").unwrap().port, 4789);
        assert_eq!(Settings::parse("overlay = \"auto\"\nmtu = 1400").unwrap().overlay, Overlay::Auto);
        assert_eq!(Settings::parse("garbage_after_seconds = 0").unwrap().garbage_after_seconds, 0);
        assert!(Settings::parse("garbage_after_seconds = -1").unwrap_err().to_string().contains("-1"));
        assert!(Settings::default().probes && !Settings::parse("probes = false").unwrap().probes);
        assert!(Settings::parse("probes = 1").is_err());
        assert!(!Settings::default().accept_plain && Settings::parse("accept_plain = true").unwrap().accept_plain);
        assert!(Settings::default().fast_path && !Settings::parse("fast_path = false").unwrap().fast_path);
        for (text, said) in [
            ("vni = 0", "vni = 0"),
            ("vni = 16777216", "vni = 16777216"),
            ("port = 0", "port = 0"),
            ("mtu = 575", "mtu = 575"),
            ("mtu = 65536", "mtu = 65536"),
        ] {
            let error = Settings::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
        assert!(Settings::parse("prot = 1").unwrap_err().to_string().contains("prot"));
        let mode = Settings::parse("overlay = \"sometimes\"").unwrap_err().to_string();
        assert!(mode.contains("sometimes") && mode.contains("always") && mode.contains("auto"), "{mode}");
    }

    #[test]
    fn prefixes_that_are_not_masqueraded_have_no_host_bits() {
        let settings = Settings::parse("masquerade = false\nnot_masqueraded = [\"10.0.0.0/8\", \"fd00::/8\"]").unwrap();
        assert_eq!((settings.masquerade, settings.not_masqueraded.len()), (false, 2));
        let error = Settings::parse("not_masqueraded = [\"10.0.0.1/8\"]").unwrap_err().to_string();
        assert_eq!(error, "not_masqueraded: 10.0.0.1/8 has host bits set: did you mean 10.0.0.0/8?");
        let refused =
            Settings::parse("refused_destinations = [\"169.254.169.254/32\", \"fd00:ec2::254/128\"]").unwrap();
        assert_eq!(refused.refused_destinations.len(), 2);
        let error = Settings::parse("refused_destinations = [\"169.254.169.254/16\"]").unwrap_err().to_string();
        assert!(error.starts_with("refused_destinations: ") && error.ends_with("169.254.0.0/16?"), "{error}");
        assert!(Settings::parse("not_masqueraded = [\"ten\"]").unwrap_err().to_string().contains("not_masqueraded"));
    }

    #[test]
    fn another_family_than_the_two_is_named() {
        assert!(Settings::parse("underlay = \"ipv5\"").unwrap_err().to_string().contains("ipv5"));
        assert!(Settings::parse("cluster_cidrs = [\"10.244.0.0/33\"]").is_err());
    }

    #[test]
    fn the_clusters_ranges_come_from_one_place() {
        let none = Settings::default();
        let ranges = Settings::parse("cluster_cidrs = [\"10.244.0.0/16\"]\nunderlay = \"ipv6\"").unwrap();
        let underlay = Settings::parse("underlay = \"ipv4\"").unwrap();
        assert!(none.go_with(false).is_ok() && ranges.go_with(true).is_ok());
        for (settings, kubernetes, said) in [
            (&none, true, "cluster_cidrs is missing"),
            (&ranges, false, "cluster_cidrs"),
            (&underlay, false, "underlay"),
        ] {
            assert!(settings.go_with(kubernetes).unwrap_err().to_string().starts_with(said), "{said}");
        }
    }
}
