//! Names and numbers that are podwire's mark on a node: what carries one is ours, what does not is a stranger's.

/// The network's name, its conflist and the directory of its state are called after it.
pub const NETWORK: &str = "podwire";

/// The VXLAN device.
pub const OVERLAY_DEVICE: &str = "podwire.1";

/// The VXLAN network identifier.
pub const VNI: u32 = 1;

/// The UDP port of the overlay: the one that Linux itself and flannel use.
pub const OVERLAY_PORT: u16 = 8472;

/// The protocol number (`RTPROT_*`) of routes and nexthops that the daemon owns.
pub const OVERLAY_PROTOCOL: u8 = 112;

/// The protocol number of routes to pods, which belong to the plugin's ledger.
pub const POD_PROTOCOL: u8 = 113;

/// Ids of the nexthop objects that the daemon makes: the protocol number, then five digits.
pub const NEXTHOP_IDS: std::ops::RangeInclusive<u32> = 11_200_001..=11_299_999;

/// First letters of the name of a pod's veth on the host.
pub const HOST_VETH_PREFIX: &str = "pw";

/// First letters of the name of the device on the host that what a pod sends is shaped by.
pub const SHAPER_PREFIX: &str = "ps";

/// The nftables table, family `inet`.
pub const TABLE: &str = "podwire";

/// The MTU where nothing says better: Ethernet's.
pub const MTU: u32 = 1500;

/// The smallest MTU that IPv6 allows (RFC 8200, section 5).
pub const SMALLEST_MTU: u32 = 1280;

/// The smallest MTU of pods without IPv6: what an IPv4 host must be able to take in (RFC 791, section 3.1).
pub const SMALLEST_IPV4_MTU: u32 = 576;

/// File name of the conflist. Runtimes take the first file by name.
pub const CONFLIST: &str = "10-podwire.conflist";

/// File name of the plugin: the `type` that the conflist names.
pub const PLUGIN: &str = "podwire";

/// What the plugin says of itself before its version. An executable file that has this in it, whole, is a podwire of whatever
/// version: so it is known without being executed. Backwards here, so that a program that looks for it has it not.
pub const PLUGIN_MARK_BACKWARDS: &str = "v eriwdop nigulp INC";

/// Where runtimes look for plugins.
pub const PLUGIN_DIRECTORY: &str = "/opt/cni/bin";

/// Where runtimes look for network configurations.
pub const CONFLIST_DIRECTORY: &str = "/etc/cni/net.d";

/// What ends with the node's uptime: the ledgers, the daemon's lock. On a tmpfs.
pub const RUN_DIRECTORY: &str = "/run/podwire";

/// What outlives it: the daemon's last membership.
pub const STATE_DIRECTORY: &str = "/var/lib/podwire";
