//! Devices, addresses and routes of the lab's hosts, made with rtnetlink: another hand than the one under test.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::link::{LinkAttribute, State};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::host::Host;

/// A bridge that other hosts are plugged into: the underlay.
///
/// # Errors
/// A sentence that says what was refused.
pub fn bridge(host: &Host, name: &str) -> Result<(), String> {
    netlink(host, async |handle| {
        handle.link().add(LinkBridge::new(name).up().build()).execute().await?;
        up(&handle, "lo").await
    })
}

/// Plugs a host into the bridge of another, as `device`, with addresses.
///
/// # Errors
/// A sentence that says what was refused.
pub fn plug(host: &Host, device: &str, switch: &Host, bridge: &str, addresses: &[IpNetwork]) -> Result<(), String> {
    let port = format!("to-{}-{}", host.name, device.trim_start_matches("eth"));
    netlink(switch, async |handle| {
        handle.link().add(LinkVeth::new(&port, "new").build()).execute().await?;
        let controller = index(&handle, bridge).await?;
        let port = LinkUnspec::new_with_index(index(&handle, &port).await?).controller(controller).up().build();
        handle.link().set(port).execute().await?;
        let moved = LinkUnspec::new_with_index(index(&handle, "new").await?)
            .setns_by_fd(host.network().as_raw_fd())
            .name(device)
            .build();
        handle.link().set(moved).execute().await
    })?;
    // The lab gives each address once. While the kernel looks for another with a device's link-local address, up to two seconds and
    // more beside other scenes, a node asks no neighbour for an IPv6 nexthop, and packets that it forwards are lost.
    let setting = format!("/proc/sys/net/ipv6/conf/{device}/accept_dad");
    host.enter(|| std::fs::write(&setting, "0")).map_err(|error| format!("{setting} of {}: {error}", host.name))?;
    netlink(host, async |handle| {
        up(&handle, "lo").await?;
        up(&handle, device).await?;
        let device = index(&handle, device).await?;
        for address in addresses {
            let mut request = handle.address().add(device, address.ip(), address.prefix());
            request.message_mut().header.flags = netlink_packet_route::address::AddressHeaderFlags::Nodad;
            request.execute().await?;
        }
        Ok(())
    })?;
    // Until the kernel has taken notice of the carrier it drops what is sent.
    super::eventually(super::SOON, || match operational(host, device)? {
        true => Ok(()),
        false => Err(format!("{device} of {} is not in operation", host.name)),
    })?;
    // And an IPv6 address has its own route from a work queue: who looks at the host before would see it come.
    addresses.iter().filter(|address| address.is_ipv6()).try_for_each(|address| {
        let address = address.ip().to_string();
        super::eventually(super::SOON, || match host.run("ip", &["-6", "route", "show", "table", "local", &address]) {
            Ok(route) if route.is_empty() => Err(format!("{address} of {} is not in use", host.name)),
            found => found.map(drop),
        })
    })
}

/// Whether what is sent on a device leaves.
fn operational(host: &Host, device: &str) -> Result<bool, String> {
    netlink(host, async |handle| {
        let mut links = std::pin::pin!(handle.link().get().match_name(device.to_owned()).execute());
        let link = links.try_next().await?;
        let mut attributes = link.into_iter().flat_map(|link| link.attributes);
        Ok(attributes.any(|attribute| matches!(attribute, LinkAttribute::OperState(State::Up))))
    })
}

/// A default route through a gateway.
///
/// # Errors
/// A sentence that says what was refused.
pub fn default_route(host: &Host, gateway: IpAddr) -> Result<(), String> {
    netlink(host, async |handle| match gateway {
        IpAddr::V4(gateway) => {
            let route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(gateway).build();
            handle.route().add(route).execute().await
        }
        IpAddr::V6(gateway) => {
            let route = RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(gateway).build();
            handle.route().add(route).execute().await
        }
    })
}

/// Brings a host's device up.
///
/// # Errors
/// A sentence that says what was refused.
pub fn set_up(host: &Host, device: &str) -> Result<(), String> {
    netlink(host, async |handle| up(&handle, device).await)
}

async fn up(handle: &Handle, device: &str) -> Result<(), rtnetlink::Error> {
    let index = index(handle, device).await?;
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
}

async fn index(handle: &Handle, device: &str) -> Result<u32, rtnetlink::Error> {
    let mut links = std::pin::pin!(handle.link().get().match_name(device.to_owned()).execute());
    let link = links.try_next().await?;
    link.map(|link| link.header.index).ok_or(rtnetlink::Error::RequestFailed)
}

fn netlink<T: Send>(
    host: &Host,
    work: impl AsyncFnOnce(Handle) -> Result<T, rtnetlink::Error> + Send,
) -> Result<T, String> {
    host.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            work(handle).await.map_err(|error| error.to_string())
        })
    })
    .map_err(|why| format!("set up the network of {}: {why}", host.name))
}
