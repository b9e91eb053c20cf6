//! Names and numbers that mark podwire's objects on a node: an object without one of them is foreign.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The network's name; its conflist and the directory of its state are named after it.
pub const NETWORK: &str = "podwire";

/// The VXLAN device.
pub const OVERLAY_DEVICE: &str = "podwire.1";

/// The VXLAN network identifier.
pub const VNI: u32 = 1;

/// The UDP port of the overlay: Linux's own default, and flannel's.
pub const OVERLAY_PORT: u16 = 8472;

/// The protocol number (`RTPROT_*`) of routes and nexthops that the daemon owns.
pub const OVERLAY_PROTOCOL: u8 = 112;

/// The protocol number of routes to pods, which belong to the plugin's ledger.
pub const POD_PROTOCOL: u8 = 113;

/// Ids of the nexthop objects that the daemon makes: the protocol number, then five digits.
pub const NEXTHOP_IDS: std::ops::RangeInclusive<u32> = 11_200_001..=11_299_999;

/// The IPv4 gateway of every pod of every node: a link-local address (RFC 3927) that no host has.
pub const GATEWAY4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// The IPv6 gateway of every pod (RFC 4291, section 2.5.6).
pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The metric of the daemon's route to [`GATEWAY4`]: a route of others, whose gateway it is, comes before it.
pub const GATEWAY_METRIC: u32 = 11_200;

/// Prefix of the names of pods' veth devices on the host.
pub const HOST_VETH_PREFIX: &str = "pw";

/// Prefix of the names of the ifb devices that shape pods' egress.
pub const SHAPER_PREFIX: &str = "ps";

/// The nftables table, family `inet`.
pub const TABLE: &str = "podwire";

/// The nftables table of NetworkPolicy, family `inet`.
pub const POLICY_TABLE: &str = "podwire-policy";

/// The group of the kernel's packet log that its rules log to.
pub const POLICY_LOG_GROUP: u16 = 11_200;

/// The default MTU: Ethernet's.
pub const MTU: u32 = 1500;

/// The smallest MTU that IPv6 allows (RFC 8200, section 5).
pub const SMALLEST_MTU: u32 = 1280;

/// The smallest MTU of pods without IPv6: what an IPv4 host must be able to receive (RFC 791, section 3.1).
pub const SMALLEST_IPV4_MTU: u32 = 576;

/// File name of the conflist. Runtimes use the first file by name.
pub const CONFLIST: &str = "10-podwire.conflist";

/// File name of the plugin: the `type` that the conflist names.
pub const PLUGIN: &str = "podwire";

/// The plugin's text before its version. An executable file that contains it is a podwire plugin of some version: it is
/// recognised without being executed. Written backwards here, so that a program that searches for it does not contain
/// it.
pub const PLUGIN_MARK_BACKWARDS: &str = "v eriwdop nigulp INC";

/// The daemon's status socket, in [`RUN_DIRECTORY`].
pub const STATUS_SOCKET: &str = "podwired.sock";

/// Where runtimes look for plugins.
pub const PLUGIN_DIRECTORY: &str = "/opt/cni/bin";

/// Where runtimes look for network configurations.
pub const CONFLIST_DIRECTORY: &str = "/etc/cni/net.d";

/// State until the next reboot: the ledgers, the daemon's lock. On a tmpfs.
pub const RUN_DIRECTORY: &str = "/run/podwire";

/// State across reboots: the daemon's last membership.
pub const STATE_DIRECTORY: &str = "/var/lib/podwire";
