//! The listening socket: IPv6 and IPv4 in one where possible. Accepted connections are handed on, not served, here.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::Ipv6V6Only},
};
use tokio::net::{TcpListener, TcpSocket};

/// How many connections may wait to be accepted: a thousand clients may come at once.
const BACKLOG: u32 = 1024;

/// Listens on `[::]:port` for IPv6 and IPv4, or on `0.0.0.0:port` when the system has no IPv6. The error is that of the
/// address that was tried last.
pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    either(|| listen_dual(port), || listen_v4(port))
}

fn either<T>(ipv6: impl FnOnce() -> io::Result<T>, ipv4: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match ipv6() {
        Err(error) if has_no_ipv6(&error) => ipv4(),
        outcome => outcome,
    }
}

/// Whether the error says that IPv6 is not available at all; a port that is taken is another matter.
fn has_no_ipv6(error: &io::Error) -> bool {
    let codes = [Errno::EAFNOSUPPORT, Errno::EPROTONOSUPPORT, Errno::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| codes.contains(&Errno::from_raw(code)))
}

fn listen_dual(port: u16) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    // Whether a socket serves both families by default is a setting of the system (net.ipv6.bindv6only).
    setsockopt(&socket, Ipv6V6Only, &false)?;
    listen_with(socket, Ipv6Addr::UNSPECIFIED.into(), port)
}

fn listen_v4(port: u16) -> io::Result<TcpListener> {
    listen_with(TcpSocket::new_v4()?, Ipv4Addr::UNSPECIFIED.into(), port)
}

fn listen_with(socket: TcpSocket, address: IpAddr, port: u16) -> io::Result<TcpListener> {
    // A restart must not wait for the connections of the process before it; a listener that lives still keeps the port.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}

/// The address of a client as the host of its mask: IPv4 in its own notation, and never with a colon first, which
/// would begin a trailing parameter.
pub(crate) fn host(address: IpAddr) -> String {
    let text = address.to_canonical().to_string();
    if text.starts_with(':') { format!("0{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::{either, host, listen_dual, listen_v4};
    use nix::errno::Errno;
    use std::{io, net::SocketAddr};

    #[test]
    fn without_ipv6_the_ipv4_socket_is_taken() {
        for errno in [Errno::EAFNOSUPPORT, Errno::EPROTONOSUPPORT, Errno::EADDRNOTAVAIL] {
            assert_eq!(either(|| Err(errno.into()), || Ok(4)).unwrap(), 4);
        }
    }

    #[test]
    fn a_port_that_is_taken_is_no_reason_for_ipv4() {
        let outcome = either(|| Err::<u8, _>(Errno::EADDRINUSE.into()), || Ok(4));
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn with_ipv6_the_ipv4_socket_is_not_tried() {
        assert_eq!(either(|| Ok(6), || unreachable!("IPv4 was tried")).unwrap(), 6);
    }

    #[tokio::test]
    async fn one_socket_accepts_both_families() {
        let listener = listen_dual(0).unwrap();
        let port = listener.local_addr().unwrap().port();
        for (address, expected) in [("127.0.0.1", "127.0.0.1"), ("::1", "0::1")] {
            let address = SocketAddr::new(address.parse().unwrap(), port);
            let _client = tokio::net::TcpStream::connect(address).await.unwrap();
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(host(peer.ip()), expected);
        }
    }

    #[tokio::test]
    async fn the_ipv4_socket_accepts_ipv4() {
        let listener = listen_v4(0).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        assert_eq!(host(listener.accept().await.unwrap().1.ip()), "127.0.0.1");
    }
}
