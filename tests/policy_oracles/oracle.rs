//! A program that judges packets, and what it reads in another way than the API documents.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use policy_model::packet::Packet;
use policy_model::world::World;

/// A cluster and packets in it.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) world: World,
    pub(crate) packets: Vec<Packet>,
}

/// A known error of an oracle: documents that mean what it takes the given ones for. Nothing else is excluded, and what is
/// excluded has to be as the error explains it.
#[derive(Debug)]
pub(crate) struct KnownError {
    pub(crate) why: &'static str,
    pub(crate) reads_as: fn(&mut World),
}

/// An oracle.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) name: &'static str,
    pub(crate) errors: &'static [KnownError],
    /// What it says of every packet of every case, in order. The directory is for its files.
    pub(crate) judge: fn(&Path, &[Case]) -> Vec<Said>,
}

/// What an oracle has said of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Of each end.
    Ends { egress: bool, ingress: bool },
    /// Of both together.
    Both(bool),
}

/// A directory that is removed when nobody needs it any more.
#[derive(Debug)]
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        // Each comparison has its own: they run beside each other.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("podwire-policy-oracles-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap_or_else(|error| panic!("create {}: {error}", path.display()));
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left of a directory for temporary files harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs an oracle to its end on a file as its standard input; its standard output.
pub(crate) fn run(program: &str, arguments: &[&str], stdin: &Path) -> String {
    let built = std::env::var_os("PODWIRE_POLICY_ORACLES")
        .expect("PODWIRE_POLICY_ORACLES is what scripts/policy-oracles prints");
    let path = Path::new(&built).join(program);
    let input = File::open(stdin).unwrap_or_else(|error| panic!("open {}: {error}", stdin.display()));
    let output = Command::new(&path).args(arguments).stdin(Stdio::from(input)).output();
    let output = output.unwrap_or_else(|error| panic!("execute {}: {error}", path.display()));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {}: {complaint}", path.display(), output.status);
    String::from_utf8(output.stdout).unwrap()
}
