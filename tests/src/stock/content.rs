//! What is in the file system of the virtual machine: the program that is to run there and those of the workspace beside
//! it, the machine's own tools that scenes look with, and the kernel's modules. Nothing is installed or changed anywhere.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::archive::Archive;

/// The first process.
const INIT: &str = include_str!("init.sh");

/// Programs of the workspace, taken along where they are built.
const OWN: [&str; 6] = ["podwire", "podwired", "podwire-isolate", "irc-server", "weather-bot", "weather-service"];

/// The machine's programs that scenes use and busybox has not, or has otherwise. busybox itself is static and has the rest.
const TOOLS: [&str; 18] = [
    "sh", "busybox", "ip", "bridge", "nft", "tc", "ss", "ping", "unshare", "nsenter", "flock", "setpriv", "sysctl",
    "mount", "umount", "setsid", "truncate", "strace",
];

/// What they read: names of protocols.
const DATA: [&str; 3] = ["/etc/iproute2", "/usr/share/iproute2", "/etc/protocols"];

/// The parts of the kernel's modules that networks need.
const MODULES: [&str; 6] = ["net", "lib", "crypto", "arch", "drivers/net/vxlan", "drivers/net"];

/// The largest driver, in bytes, that is taken along: the small ones are those of virtual devices, the others are of cards.
const LARGEST_DRIVER: u64 = 100_000;

/// Settings of the environment that go along.
const ENVIRONMENT: [&str; 3] = ["PODWIRE_", "PROPTEST_", "RUST_"];

/// Writes all of it.
///
/// # Errors
/// A sentence that names what is missing.
pub(crate) fn write(to: impl Write, kernel: &Path, program: &Path, arguments: &[String]) -> Result<(), String> {
    let mut archive = Archive::new(to);
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("pack {path}: {error}")
    };
    let mut pack = |path: &Path, content: &[u8]| archive.file(path, content).map_err(failed(path));
    pack(Path::new("/init"), INIT.as_bytes())?;
    pack(Path::new("/command"), command(program, arguments)?.as_bytes())?;
    let mut files = BTreeSet::from([program.to_owned()]);
    files.extend(beside(program));
    for tool in TOOLS {
        files.insert(find(tool)?);
    }
    for file in files.clone() {
        files.extend(libraries(&file)?);
    }
    files.extend(DATA.iter().flat_map(|data| below(Path::new(data))));
    for file in files {
        pack(&file, &fs::read(&file).map_err(failed(&file))?)?;
    }
    // Where every script and every shared program looks for them.
    for (name, path) in [("sh", "/bin/sh"), ("busybox", "/bin/busybox")] {
        pack(Path::new(path), &fs::read(find(name)?).map_err(failed(Path::new(path)))?)?;
    }
    for (from, to) in modules(kernel)? {
        pack(&to, &fs::read(&from).map_err(failed(&from))?)?;
    }
    for empty in ["/proc", "/sys", "/dev", "/run", "/tmp", "/sbin", "/var/lib", "/opt", "/root"] {
        archive.directory(Path::new(empty)).map_err(failed(Path::new(empty)))?;
    }
    archive.end().map(drop).map_err(|error| format!("end the archive: {error}"))
}

/// The environment and the command line as lines of a shell.
fn command(program: &Path, arguments: &[String]) -> Result<String, String> {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let mut lines = String::new();
    for (name, value) in env::vars().filter(|(name, _)| ENVIRONMENT.iter().any(|start| name.starts_with(start))) {
        lines += &format!("export {name}={}\n", quoted(&value));
    }
    let isolate = beside(program).into_iter().find(|path| path.ends_with("podwire-isolate"));
    let isolate = isolate.ok_or("podwire-isolate is not built: `cargo build --workspace` builds it")?;
    let words = [isolate.to_string_lossy(), program.to_string_lossy()];
    let words: Vec<_> =
        words.iter().map(|word| quoted(word)).chain(arguments.iter().map(|word| quoted(word))).collect();
    Ok(format!("{lines}set -- {}\n", words.join(" ")))
}

/// The workspace's programs, where they are built: beside a program, or above it.
fn beside(program: &Path) -> Vec<PathBuf> {
    let directories = program.ancestors().skip(1).take(2);
    let named = directories.flat_map(|directory| OWN.iter().map(move |name| directory.join(name)));
    named.filter(|path| path.is_file()).collect()
}

fn find(tool: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut found = places.map(|place| place.join(tool)).filter(|path| path.is_file());
    found.next().ok_or_else(|| format!("{tool} is not installed here: scripts/test says in which package it is"))
}

/// The shared libraries of a program, and what loads them; of a static one there are none.
fn libraries(program: &Path) -> Result<Vec<PathBuf>, String> {
    let output = Command::new("ldd").arg(program).output().map_err(|error| format!("start ldd: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}

/// Every file below a directory, or the file itself.
fn below(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.filter_map(Result::ok).flat_map(|entry| below(&entry.path())).collect(),
        Err(_) if path.is_file() => vec![path.to_owned()],
        Err(_) => Vec::new(),
    }
}

/// The kernel's modules: where each is, and where it goes to.
fn modules(kernel: &Path) -> Result<BTreeSet<(PathBuf, PathBuf)>, String> {
    let modules = kernel.join("lib/modules");
    let version = fs::read_dir(&modules).ok().and_then(|mut entries| entries.next()?.ok());
    let version = version.ok_or_else(|| format!("no modules in {}", modules.display()))?.path();
    let mut found: BTreeSet<_> = MODULES.iter().flat_map(|part| below(&version.join("kernel").join(part))).collect();
    let drivers = version.join("kernel/drivers");
    found.retain(|path| {
        !path.starts_with(&drivers)
            || path.metadata().is_ok_and(|file| file.len() <= LARGEST_DRIVER)
            || path.ends_with("vxlan.ko")
    });
    found.extend(["modules.builtin", "modules.order", "modules.builtin.modinfo"].map(|name| version.join(name)));
    let to = |from: PathBuf| from.strip_prefix(kernel).ok().map(|inner| (from.clone(), Path::new("/").join(inner)));
    Ok(found.into_iter().filter_map(to).collect())
}
