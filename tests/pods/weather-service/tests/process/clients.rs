//! The clients' side: whose address is told, and what slow or wrong clients can do.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use crate::service::Service;
use pod_process::process::PATIENCE;

const PARIS: [(&str, &str); 2] = [("key", "0a1b"), ("q", "Paris")];

/// Connects from another address than the usual one.
fn connect_from(source: &str, service: &Service) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(source.parse().unwrap()).unwrap();
        let stream = socket.connect(service.address.parse().unwrap()).await.unwrap();
        stream.into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn the_address_of_the_client_is_logged_and_not_that_of_the_service() {
    let mut service = Service::start(&["127.0.0.1:0"]);
    let mut stream = connect_from("127.0.0.11:0", &service);
    stream.write_all(b"GET /v1/current.json?key=0a1b&q=Paris HTTP/1.1\r\nHost: weather\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(service.next_line(), "weather-service: 127.0.0.11 asked for Paris: 200");
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_logged_as_ipv4() {
    let mut service = Service::start(&["[::ffff:127.0.0.1]:0"]);
    assert_eq!(service.ask(&PARIS).0, 200);
    assert_eq!(service.next_line(), "weather-service: 127.0.0.1 asked for Paris: 200");
}

#[test]
fn a_client_that_speaks_no_http_is_logged_and_the_next_one_is_served() {
    let mut service = Service::start(&["127.0.0.1:0"]);
    let mut stream = connect_from("127.0.0.1:0", &service);
    stream.write_all(b"SSH-2.0-client\r\n\r\n").unwrap();
    let line = service.next_line();
    assert!(line.starts_with("weather-service: 127.0.0.1 was not served: "), "{line}");
    assert_eq!(service.ask(&PARIS).0, 200);
}

#[test]
fn silent_clients_are_dropped_at_the_limit_and_their_number_is_bounded() {
    let mut service = Service::start(&["127.0.0.1:0"]);
    let begin = Instant::now();
    let mut silent: Vec<TcpStream> = (0..63).map(|_| connect_from("127.0.0.1:0", &service)).collect();
    assert_eq!(service.ask(&PARIS).0, 200);
    assert!(begin.elapsed() < Duration::from_secs(4), "63 silent clients stop nobody: {:?}", begin.elapsed());
    assert!(service.next_line().ends_with("asked for Paris: 200"));
    silent.extend((0..2).map(|_| connect_from("127.0.0.1:0", &service)));
    assert_eq!(service.ask(&PARIS).0, 200);
    assert!(begin.elapsed() >= Duration::from_secs(4), "the bound is not kept: {:?}", begin.elapsed());
    assert!(service.next_line().ends_with("was not served: the request or the reading took too long"));
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0, "the silent client is closed");
}
