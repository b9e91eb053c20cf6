//! The settings of the network: the same on every node, read once at start, validated as a whole. Who the nodes are is in
//! `membership`. What may not live here: how the keys of the file are read (`settings::keys`), and what is said of a mistake
//! (`settings::mistake`).
//!
//! To add a setting: here the field, its value in `Default`, its name in `KEYS`, its line in `parse`, and tests; the code
//! that uses it; `conf/podwired.toml` (the default, commented out); the table in `docs/daemon.md`, "Settings";
//! `conf/kubernetes/chart/values.schema.json`; the list of keys in `docs/kubernetes.md`, "Values of the chart" (no test holds
//! it); the values in `tests/packaging/chart.rs`; a scene of what it changes, in `tests/netns/`; a line in `CHANGELOG.md`. Where the plugin needs it also
//! `conf/src/network.rs` and `docs/plugin.md`; where status shows it `daemon/src/observe/status/`. Not `values.yaml`: the
//! chart takes every key of the schema.

mod keys;
mod mistake;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use ipnetwork::IpNetwork;
use podwire_conf::defaults::{self, SMALLEST_IPV4_MTU};
use podwire_conf::{NetworkPolicy, Unknown};
use thiserror::Error;

use self::keys::Keys;
pub use self::mistake::{Mistake, Wrong};

/// The names of the settings.
pub const KEYS: &[&str] = &[
    "vni",
    "port",
    "overlay",
    "accept_plain",
    "mtu",
    "masquerade",
    "not_masqueraded",
    "refused_destinations",
    "fast_path",
    "network_policy",
    "network_policy_unknown",
    "network_policy_timeout_milliseconds",
    "log_refused",
    "garbage_after_seconds",
    "probes",
    "cluster_cidrs",
    "underlay",
];

/// The settings file (`podwired run --settings FILE`); every key may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// Prefixes that pods do not reach. Of one that has a range of the cluster in it, the cluster is left out.
    pub refused_destinations: Vec<IpNetwork>,
    /// Whether what belongs to established connections between pods takes the fast path, where the kernel has it.
    pub fast_path: bool,
    /// Whether NetworkPolicies are in force, of the API or of a directory.
    pub network_policy: bool,
    /// What becomes of pods whose policies are not known, and how long an ADD waits for them to be in force.
    pub unknown_policies: NetworkPolicy,
    /// Whether packets that policies refuse are logged.
    pub log_refused: bool,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlay {
    /// All.
    #[default]
    Always,
    /// Those of peers that are on another link than this node; the others by a plain route through the peer's address.
    Auto,
    /// None: there are plain routes only.
    Never,
}

impl Overlay {
    /// Its name in the settings.
    const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Auto => "auto",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The family of the nodes' own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
            network_policy: false,
            unknown_policies: NetworkPolicy::default(),
            log_refused: false,
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
    /// Every mistake: in which line, what stands there, and what may.
    pub fn parse(text: &str) -> Result<Self, SettingsError> {
        let (mut keys, default) = (Keys::of(text), Self::default());
        let overlay = [Overlay::Always, Overlay::Auto, Overlay::Never].map(|overlay| (overlay.name(), overlay));
        let underlay = [("ipv4", Underlay::Ipv4), ("ipv6", Underlay::Ipv6)];
        let settings = Self {
            vni: keys
                .number("vni", &(1..=0xff_ffff), "a VXLAN network identifier: 1 to 16777215")
                .unwrap_or(default.vni),
            port: keys.number("port", &(1..=u16::MAX), "a UDP port: 1 to 65535").unwrap_or(default.port),
            overlay: keys.word("overlay", &overlay, "\"always\", \"auto\" or \"never\"").unwrap_or(default.overlay),
            accept_plain: keys.flag("accept_plain").unwrap_or(default.accept_plain),
            mtu: keys.number("mtu", &(SMALLEST_IPV4_MTU..=65_535), "the MTU of pods in bytes: 576 to 65535"),
            masquerade: keys.flag("masquerade").unwrap_or(default.masquerade),
            not_masqueraded: keys.prefixes("not_masqueraded").unwrap_or_default(),
            refused_destinations: keys.prefixes("refused_destinations").unwrap_or_default(),
            fast_path: keys.flag("fast_path").unwrap_or(default.fast_path),
            network_policy: keys.flag("network_policy").unwrap_or(default.network_policy),
            unknown_policies: NetworkPolicy {
                unknown: keys
                    .word("network_policy_unknown", &Unknown::NAMES, "\"deny\" or \"allow\"")
                    .unwrap_or(default.unknown_policies.unknown),
                timeout: keys
                    .number("network_policy_timeout_milliseconds", &(1..=60_000_u64), "milliseconds: 1 to 60000")
                    .map_or(default.unknown_policies.timeout, Duration::from_millis),
            },
            log_refused: keys.flag("log_refused").unwrap_or(default.log_refused),
            garbage_after_seconds: keys
                .number("garbage_after_seconds", &(0..=u32::MAX), "seconds: 0 (never) to 4294967295")
                .unwrap_or(default.garbage_after_seconds),
            probes: keys.flag("probes").unwrap_or(default.probes),
            // Whoever reads the nodes says what is wrong with these, as with those of a membership file.
            cluster_cidrs: keys.ranges("cluster_cidrs").unwrap_or_default(),
            underlay: keys.word("underlay", &underlay, "\"ipv4\" or \"ipv6\""),
        };
        let mistakes = keys.end(KEYS);
        if mistakes.is_empty() { Ok(settings) } else { Err(SettingsError::Mistakes(mistakes)) }
    }

    /// What ADD does about policies, where they are in force.
    pub fn policies_of_new_pods(&self) -> Option<NetworkPolicy> {
        self.network_policy.then_some(self.unknown_policies)
    }

    /// Whether packets are logged that policies refuse: without policies there are none.
    pub fn logs_refused(&self) -> bool {
        self.network_policy && self.log_refused
    }

    /// Whether these settings go with where the nodes come from: Kubernetes, or a file that says these things itself; and with
    /// where policies come from beside a file: `--policies`, if it is given.
    ///
    /// # Errors
    /// Which key is missing, or has no place here.
    pub fn go_with(&self, kubernetes: bool, policies: Option<&Path>) -> Result<(), SettingsError> {
        match (kubernetes, self.cluster_cidrs.is_empty(), self.underlay) {
            (true, true, _) => Err(SettingsError::NoClusterCidrs),
            (false, false, _) => Err(SettingsError::ClusterCidrs),
            (false, _, Some(_)) => Err(SettingsError::Underlay),
            (false, ..) if self.network_policy && policies.is_none() => Err(SettingsError::NetworkPolicy),
            _ => Ok(()),
        }
    }
}

/// What is wrong with settings.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file has mistakes.
    #[error("{}", Listed(.0))]
    Mistakes(Vec<Mistake>),
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
    /// The nodes come from a file, and nothing has policies.
    #[error(
        "network_policy is set in the settings file, and the nodes do not come from Kubernetes, where the policies are: name \
         a directory of policies with --policies, or remove it from the settings"
    )]
    NetworkPolicy,
}

/// Mistakes as a sentence.
struct Listed<'a>(&'a [Mistake]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        mistake::listed(self.0, f)
    }
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
        assert!(!Settings::default().log_refused && Settings::parse("log_refused = true").unwrap().log_refused);
        assert!(!Settings::default().accept_plain && Settings::parse("accept_plain = true").unwrap().accept_plain);
        assert!(Settings::default().fast_path && !Settings::parse("fast_path = false").unwrap().fast_path);
        for (text, said) in [
            ("vni = 0", "vni = 0, but it has to be a VXLAN network identifier: 1 to 16777215"),
            ("vni = 16777216", "vni = 16777216, but it has to be a VXLAN network identifier: 1 to 16777215"),
            ("port = 0x10000", "port = 0x10000, but it has to be a UDP port: 1 to 65535"),
            ("port = \"80\"", "port = \"80\", but it has to be a UDP port: 1 to 65535"),
            ("mtu = 575", "mtu = 575, but it has to be the MTU of pods in bytes: 576 to 65535"),
            ("mtu = 65536", "mtu = 65536, but it has to be the MTU of pods in bytes: 576 to 65535"),
            ("probes = 1", "probes = 1, but it has to be true or false"),
            (
                "overlay = \"some\\u001b\"",
                "overlay = \"some\\u001b\", but it has to be \"always\", \"auto\" or \"never\"",
            ),
        ] {
            assert_eq!(Settings::parse(text).unwrap_err().to_string(), format!("line 1: {said}"));
        }
        let unknown = Settings::parse("prot = 1").unwrap_err().to_string();
        assert!(unknown.starts_with("line 1: there is no setting prot; there are vni, port, overlay, "), "{unknown}");
    }

    #[test]
    fn every_mistake_is_named_with_its_line_on_one_line() {
        let text =
            "# ours\nport = 70000\noverlay = auto\nprot = 1\nnot_masqueraded = [\n  \"10.0.0.1/8\",\n  \"ten\",\n]\n";
        let error = Settings::parse(text).unwrap_err();
        let SettingsError::Mistakes(mistakes) = &error else { panic!("{error}") };
        let lines: Vec<_> = mistakes.iter().filter_map(|mistake| mistake.line).collect();
        assert_eq!(lines, [2, 3, 4, 6, 7], "{error}");
        assert!(matches!(mistakes[1].what, Wrong::Syntax(_)), "{error}");
        let said = error.to_string();
        assert!(said.starts_with("5 mistakes: line 2: port = 70000, but"), "{said}");
        assert!(
            said.contains("; line 6: not_masqueraded[0] = \"10.0.0.1/8\" has host bits set: did you mean 10.0.0.0/8?"),
            "{said}"
        );
        assert!(said.contains("; line 7: not_masqueraded[1] = \"ten\", but it has to be a prefix"), "{said}");
        assert!(!said.contains('\n'), "{said}");
        let many = "probes = 1\n".to_owned() + &(0..100).map(|key| format!("k{key} = 1\n")).collect::<String>();
        let said = Settings::parse(&many).unwrap_err().to_string();
        assert!(said.starts_with("101 mistakes: ") && said.ends_with("; and 81 more"), "{said}");
        for odd in [
            "=",
            "[[",
            "\u{0}",
            "port = ",
            "[port]\na = 1",
            "a.b = 1",
            "port = 1\nport = 2",
            "vni = 99999999999999999999999999999999999999999999",
        ] {
            assert!(Settings::parse(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn every_setting_has_its_name_in_the_list() {
        for key in KEYS {
            let error = Settings::parse(&format!("{key} = {{}}")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("line 1: {key} = {{}}, but it has to be ")), "{error}");
        }
    }

    #[test]
    fn prefixes_that_are_not_masqueraded_have_no_host_bits() {
        let settings = Settings::parse("masquerade = false\nnot_masqueraded = [\"10.0.0.0/8\", \"fd00::/8\"]").unwrap();
        assert_eq!((settings.masquerade, settings.not_masqueraded.len()), (false, 2));
        let refused =
            Settings::parse("refused_destinations = [\"169.254.169.254/32\", \"fd00:ec2::254/128\"]").unwrap();
        assert_eq!(refused.refused_destinations.len(), 2);
        let error = Settings::parse("refused_destinations = [\"169.254.169.254/16\"]").unwrap_err().to_string();
        assert!(error.contains("refused_destinations[0] = ") && error.ends_with("169.254.0.0/16?"), "{error}");
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
        assert!(none.go_with(false, None).is_ok() && ranges.go_with(true, None).is_ok());
        for (settings, kubernetes, said) in [
            (&none, true, "cluster_cidrs is missing"),
            (&ranges, false, "cluster_cidrs"),
            (&underlay, false, "underlay"),
        ] {
            assert!(settings.go_with(kubernetes, None).unwrap_err().to_string().starts_with(said), "{said}");
        }
    }

    #[test]
    fn policies_come_from_the_api_or_from_a_directory_that_is_named() {
        let policies = Settings::parse("network_policy = true").unwrap();
        assert!(policies.go_with(false, Some(Path::new("policies"))).is_ok());
        let error = policies.go_with(false, None).unwrap_err().to_string();
        assert!(error.contains("name a directory of policies with --policies"), "{error}");
    }
}
