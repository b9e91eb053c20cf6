//! A thousand clients at once.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    sync::Barrier,
    task::JoinSet,
    time::timeout,
};

use crate::program::{PASSWORD, Program};

const CLIENTS: usize = 1000;

async fn hear(stream: &mut BufStream<TcpStream>, part: &str) -> String {
    loop {
        let mut line = String::new();
        assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the connection ended before {part:?}");
        if line.contains(part) {
            return line;
        }
    }
}

async fn say(stream: &mut BufStream<TcpStream>, line: &str) {
    stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// One client: registers, joins, and waits for all others before the last word.
async fn attend(number: usize, port: u16, all_here: Arc<Barrier>) {
    let mut stream = BufStream::new(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap());
    say(&mut stream, &format!("PASS {PASSWORD}\r\nNICK c{number}\r\nUSER c 0 * :C\r\nJOIN #crowd")).await;
    hear(&mut stream, " 366 ").await;
    all_here.wait().await;
    if number == 0 {
        say(&mut stream, "PRIVMSG #crowd :hello, all\r\nNAMES #crowd").await;
        let mut names = 0;
        loop {
            let line = hear(&mut stream, " :").await;
            match line.split_once(" = #crowd :") {
                Some((_, list)) => names += list.split_whitespace().count(),
                None if line.contains(" 366 ") => break,
                None => {}
            }
        }
        assert_eq!(names, CLIENTS);
    } else {
        let line = hear(&mut stream, "PRIVMSG").await;
        assert_eq!(line, ":c0!c@127.0.0.1 PRIVMSG #crowd :hello, all\r\n");
    }
    all_here.wait().await;
}

#[tokio::test]
async fn a_thousand_clients_at_once_are_served_on_one_channel() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let program = Program::start(&[]);
    let all_here = Arc::new(Barrier::new(CLIENTS));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(attend(number, program.port, Arc::clone(&all_here)));
    }
    let all = async { while clients.join_next().await.transpose().unwrap().is_some() {} };
    timeout(Duration::from_secs(60), all).await.expect("a thousand clients were not served within a minute");
}
