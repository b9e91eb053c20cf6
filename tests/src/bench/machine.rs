//! Where and what was measured.

use std::fs;
use std::process::Command;
use std::thread::{self, available_parallelism};
use std::time::Duration;

use serde::Serialize;

use crate::statistics::rounded;
use crate::tools::Tools;

/// Facts without which the numbers mean nothing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// When, in UTC.
    pub(crate) date: String,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// How many processors this program may use.
    pub(crate) cores: usize,
    /// How busy the processors were before the run, from 0 to 1: others' work is noise.
    pub(crate) busy_before: f64,
    /// What the processors call themselves.
    pub(crate) processor: String,
    /// The distribution: it decides which way portmap takes.
    pub(crate) distribution: String,
    /// Our program's version.
    pub(crate) podwire: String,
    /// The commit it was built from.
    pub(crate) revision: String,
    /// The version of what it is compared with.
    pub(crate) reference: String,
    /// The version of the program nft.
    pub(crate) nft: String,
}

impl Machine {
    /// Looks at this one, for a comparison of our plugin with the reference plugins.
    ///
    /// # Errors
    /// When a program does not tell its version.
    pub(crate) fn look(tools: &Tools, revision: &str) -> Result<Self, String> {
        // Without a verb a plugin tells its name and version: "CNI plugin podwire v1", "CNI ptp plugin v1".
        let version = |plugin: &std::path::Path| version(&plugin.display().to_string(), &[]);
        Self::with(version(&tools.podwire)?, version(&tools.reference("ptp"))?, revision)
    }

    /// Looks at this one, for a comparison of these versions.
    ///
    /// # Errors
    /// When a program does not tell its version.
    pub(crate) fn with(podwire: String, reference: String, revision: &str) -> Result<Self, String> {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.map(|rest| rest.trim_matches([' ', '\t', ':', '=', '"']).to_owned()).unwrap_or_default()
        };
        Ok(Self {
            date: said("date", &["--utc", "+%Y-%m-%d %H:%M"])?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cores: available_parallelism().map_err(|error| format!("count the processors: {error}"))?.get(),
            busy_before: busy()?,
            processor: field("/proc/cpuinfo", "model name"),
            distribution: field("/etc/os-release", "PRETTY_NAME"),
            podwire,
            revision: revision.into(),
            reference,
            nft: said("nft", &["--version"])?,
        })
    }
}

impl Machine {
    /// Whether others were at work: then the times are theirs too.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy_before > 0.1
    }
}

/// The share of the processors' time that was not idle in the second that begins now, what the hypervisor took included.
fn busy() -> Result<f64, String> {
    let (idle_before, all_before) = processor_time()?;
    thread::sleep(Duration::from_secs(1));
    let (idle, all) = processor_time()?;
    let passed = |now: u64, before: u64| u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX);
    let (idle, all) = (passed(idle, idle_before), passed(all, all_before));
    Ok(rounded(1.0 - f64::from(idle) / f64::from(all.max(1))))
}

/// Idle (and waiting for a disk), and all time of the processors in ticks since boot: the first line of /proc/stat (proc(5)).
fn processor_time() -> Result<(u64, u64), String> {
    let text = fs::read_to_string("/proc/stat").map_err(|error| format!("read /proc/stat: {error}"))?;
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    // The last two are guests' time, which the first two contain.
    let fields: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
    let idle = fields.iter().skip(3).take(2).sum();
    Ok((idle, fields.iter().sum()))
}

/// The last word of the first line that a program says.
///
/// # Errors
/// When it cannot be executed.
pub(crate) fn version(program: &str, arguments: &[&str]) -> Result<String, String> {
    let said = said(program, arguments)?;
    let word = said.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or_default();
    Ok(word.to_owned())
}

/// The version of `ip`, which names its libraries as well.
///
/// # Errors
/// What could not be executed.
pub(crate) fn iproute2() -> Result<String, String> {
    let said = said("ip", &["-V"])?;
    let word = said.split([' ', ',']).find_map(|word| word.trim().strip_prefix("iproute2-"));
    Ok(format!("iproute2 {}", word.unwrap_or(said.trim())))
}

/// What a program says on either stream.
fn said(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).env_remove("CNI_COMMAND").output();
    let output = output.map_err(|error| format!("execute {program}: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}
