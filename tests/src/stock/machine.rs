//! The virtual machine: qemu, which emulates all of it, so that it runs wherever this program does. Its console is its only
//! way out.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// Its memory. The file system is in it, twice while the kernel unpacks it.
const MEMORY: &str = "2G";

/// Longer than any scene says nothing, on a machine that has other things to do.
const SILENCE: Duration = Duration::from_secs(300);

/// What the first process says of itself.
const WORD: &str = "podwire-stock: ";

/// The last lines of the console, for whom nothing else is told.
const LAST: usize = 40;

/// Boots a kernel with a file system, and prints what the program there says; its exit code.
///
/// # Errors
/// A sentence, and the last lines of the console when the machine came to no good end.
pub(crate) fn run(kernel: &Path, files: &Path) -> Result<u8, String> {
    let image = image(kernel)?;
    // It ends with this program, whatever way that ends.
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig=KILL", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]);
    qemu.args(["-m", MEMORY, "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel"])
        .arg(image);
    qemu.arg("-initrd").arg(files).args(["-append", "console=ttyS0 panic=-1 quiet"]);
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = child.map_err(|error| format!("start setpriv and qemu-system-x86_64: {error}"))?;
    let console = child.stdout.take().ok_or("no console")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(console).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let ended = follow(&receiver);
    // It has ended, or nothing is to be expected of it any more.
    let _ = child.kill();
    let _ = child.wait();
    ended
}

/// Prints the lines of the program; its exit code.
fn follow(console: &mpsc::Receiver<String>) -> Result<u8, String> {
    let mut last = std::collections::VecDeque::new();
    let mut begun = false;
    loop {
        let line = match console.recv_timeout(SILENCE) {
            Ok(line) => line,
            Err(why) => {
                let why = match why {
                    RecvTimeoutError::Timeout => format!("says nothing for {SILENCE:?}"),
                    RecvTimeoutError::Disconnected => "ended before its program did".into(),
                };
                let last: Vec<_> = last.into();
                return Err(format!("the virtual machine {why}; its last words:\n{}", last.join("\n")));
            }
        };
        if let Some(code) = line.strip_prefix(WORD).and_then(|word| word.strip_prefix("ends with ")) {
            return code.parse().map_err(|error| format!("{line}: {error}"));
        }
        begun |= line.starts_with(WORD);
        if begun {
            print(&line);
        }
        last.push_back(line);
        if last.len() > LAST {
            last.pop_front();
        }
    }
}

#[expect(clippy::print_stdout, reason = "the program's own output")]
fn print(line: &str) {
    println!("{line}");
}

fn image(kernel: &Path) -> Result<PathBuf, String> {
    let boot = kernel.join("boot");
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let entries = fs::read_dir(&boot).map_err(|error| format!("list {}: {error}", boot.display()))?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(named);
    found.next().ok_or_else(|| format!("no kernel in {}", boot.display()))
}
