//! A network device: reading one by name or index, making the three kinds that podwire owns (veth pairs, the ifb devices
//! beside them, one VXLAN device), changing one in place, removing one.
//!
//! What may not live here: addresses, neighbours and queueing disciplines of a device.

mod change;
mod device;
mod ifb;
pub mod moved;
pub mod removal;
pub mod settings;
mod veth;
pub mod vni_filter;
mod vxlan;

pub use self::change::{delete, release, rename, set_ipv4, set_mac, set_mtu, set_router_port, set_up, set_up_with};
pub use self::device::{Link, by_index, by_name, list, list_of_kind};
pub use self::ifb::Ifb;
pub use self::settings::Ipv4Setting;
pub use self::veth::{End, Veth};
pub use self::vxlan::{Vxlan, set_learning};
