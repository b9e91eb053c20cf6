//! Where and what was measured.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

use serde::Serialize;

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
    /// How many processes wanted a processor before the run, the average of a minute: others' work is noise.
    pub(crate) load: String,
    /// What the processors call themselves.
    pub(crate) processor: String,
    /// The distribution: it decides which way portmap takes.
    pub(crate) distribution: String,
    /// Our plugin's version.
    pub(crate) podwire: String,
    /// The commit it was built from.
    pub(crate) revision: String,
    /// The reference plugins' version.
    pub(crate) reference: String,
    /// The version of the program nft, which portmap executes.
    pub(crate) nft: String,
}

impl Machine {
    /// Looks at this one.
    ///
    /// # Errors
    /// When a program does not tell its version.
    pub(crate) fn look(tools: &Tools, revision: &str) -> Result<Self, String> {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.map(|rest| rest.trim_matches([' ', '\t', ':', '=', '"']).to_owned()).unwrap_or_default()
        };
        // Without a verb a plugin tells its name and version: "CNI plugin podwire v1", "CNI ptp plugin v1".
        let version = |plugin: &std::path::Path| {
            let said = said(&plugin.display().to_string(), &[])?;
            let word = said.lines().next().and_then(|line| line.split_whitespace().last()).unwrap_or_default();
            Ok::<_, String>(word.to_owned())
        };
        Ok(Self {
            date: said("date", &["--utc", "+%Y-%m-%d %H:%M"])?,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cores: available_parallelism().map_err(|error| format!("count the processors: {error}"))?.get(),
            load: fs::read_to_string("/proc/loadavg")
                .unwrap_or_default()
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            processor: field("/proc/cpuinfo", "model name"),
            distribution: field("/etc/os-release", "PRETTY_NAME"),
            podwire: version(&tools.podwire)?,
            revision: revision.into(),
            reference: version(&tools.reference("ptp"))?,
            nft: said("nft", &["--version"])?,
        })
    }
}

/// What a program says on either stream.
fn said(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).env_remove("CNI_COMMAND").output();
    let output = output.map_err(|error| format!("execute {program}: {error}"))?;
    let text = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}
