//! What is asked about a packet: where it comes from, where it goes, and on which port. As people write it on the command line,
//! and as the daemon is asked.

use std::fmt;
use std::net::IpAddr;

use podwire_conf::shown;
use thiserror::Error;

use crate::policy::port::Protocol;

/// The longest name of an object in Kubernetes.
const LONGEST_NAME: usize = 253;

/// The most of what was written that is shown, in characters.
const SHOWN: usize = 80;

/// A question about a packet that begins a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Where it comes from.
    pub source: Endpoint,
    /// Where it goes, after Services have been translated.
    pub destination: Endpoint,
    /// Protocol and destination port; `None`: every protocol and port.
    pub port: Option<(Protocol, u16)>,
}

/// One end of a packet, as it is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// An address.
    Address(IpAddr),
    /// A pod.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

/// What is wrong with a question.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mistake {
    /// An end is neither of the two.
    #[error("{0} is neither an address nor a pod: write 10.244.1.2, fd00:10:244:1::2 or NAMESPACE/POD")]
    Endpoint(String),
    /// The port is none.
    #[error("{0} is no port: write 1 to 65535, and behind it the protocol where it is not TCP, as in 53/UDP")]
    Port(String),
    /// Policies know no such protocol.
    #[error(
        "{0} is no protocol with ports that policies know: write TCP, UDP or SCTP, or leave the port out to ask about all"
    )]
    Protocol(String),
    /// It has other words than it can have.
    #[error("ask for SOURCE DESTINATION [PORT[/PROTOCOL]]")]
    Words,
}

impl Question {
    /// A question of words: source, destination, and a port where one is asked about.
    ///
    /// # Errors
    /// The first word that is wrong.
    pub fn of(source: &str, destination: &str, port: Option<&str>) -> Result<Self, Mistake> {
        let (source, destination) = (Endpoint::parse(source)?, Endpoint::parse(destination)?);
        Ok(Self { source, destination, port: port.map(parse_port).transpose()? })
    }

    /// A question on one line, as [`fmt::Display`] writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, Mistake> {
        let words: Vec<_> = line.split_whitespace().take(4).collect();
        match words[..] {
            [source, destination] => Self::of(source, destination, None),
            [source, destination, port] => Self::of(source, destination, Some(port)),
            _ => Err(Mistake::Words),
        }
    }
}

impl Endpoint {
    fn parse(text: &str) -> Result<Self, Mistake> {
        if let Ok(address) = text.parse::<IpAddr>() {
            // An address of IPv4 that is written as one of IPv6 is the same address.
            return Ok(Self::Address(address.to_canonical()));
        }
        let is_name = |part: &str| {
            let fits = (1..=LONGEST_NAME).contains(&part.len());
            fits && !part.contains(|character: char| character.is_whitespace() || character.is_control())
        };
        match text.split_once('/') {
            Some((namespace, name)) if is_name(namespace) && is_name(name) && !name.contains('/') => {
                Ok(Self::Pod { namespace: namespace.into(), name: name.into() })
            }
            _ => Err(Mistake::Endpoint(quoted(text))),
        }
    }
}

fn parse_port(text: &str) -> Result<(Protocol, u16), Mistake> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
    let protocol =
        Protocol::parse(&protocol.to_ascii_uppercase()).ok_or_else(|| Mistake::Protocol(quoted(protocol)))?;
    let number = number.parse().ok().filter(|number| *number != 0).ok_or_else(|| Mistake::Port(quoted(number)))?;
    Ok((protocol, number))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shown::bounded(text, SHOWN))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source, self.destination)?;
        match self.port {
            Some((protocol, port)) => write!(f, " {port}/{protocol}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_written_as_it_is_read() {
        for (written, read) in [
            ("default/web fd00::2 80", "default/web fd00::2 80/TCP"),
            ("10.244.1.2 kube-system/dns 53/udp", "10.244.1.2 kube-system/dns 53/UDP"),
            ("::ffff:10.0.0.1 default/a.b", "10.0.0.1 default/a.b"),
        ] {
            let question = Question::parse(written).unwrap();
            assert_eq!(question.to_string(), read);
            assert_eq!(Question::parse(read), Ok(question));
        }
    }

    #[test]
    fn the_first_word_that_is_wrong_is_named() {
        let wrong = |line: &str| Question::parse(line).unwrap_err();
        assert_eq!(wrong("web 10.0.0.1"), Mistake::Endpoint("\"web\"".into()));
        assert_eq!(wrong("10.0.0.1 a/b/c"), Mistake::Endpoint("\"a/b/c\"".into()));
        assert_eq!(wrong("10.0.0.1 /b"), Mistake::Endpoint("\"/b\"".into()));
        assert_eq!(wrong("10.0.0.1 10.0.0.2 0/UDP"), Mistake::Port("\"0\"".into()));
        assert_eq!(wrong("10.0.0.1 10.0.0.2 http"), Mistake::Port("\"http\"".into()));
        assert_eq!(wrong("10.0.0.1 10.0.0.2 1/ICMP"), Mistake::Protocol("\"ICMP\"".into()));
        assert_eq!(wrong("10.0.0.1"), Mistake::Words);
        assert_eq!(wrong("10.0.0.1 10.0.0.2 80 81 82 83"), Mistake::Words);
        assert!(wrong(&format!("a/{} 10.0.0.1", "x".repeat(300))).to_string().len() < 300);
    }
}
