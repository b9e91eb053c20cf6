//! Where the programs are that take part or help.

use std::path::{Path, PathBuf};

use podwire_tests::lab::program;

/// Programs by what they are for.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// The plugin that is measured.
    pub(crate) podwire: PathBuf,
    /// The C program that does only the netlink work.
    pub(crate) floor: PathBuf,
    /// The C program that tells the memory another takes at its peak.
    pub(crate) peak: PathBuf,
    /// The way portmap is told to take; by itself it takes iptables where there is such a program, else nft.
    pub(crate) backend: Option<String>,
    reference: PathBuf,
}

impl Tools {
    /// Finds them all.
    ///
    /// # Errors
    /// The one that is not there.
    pub(crate) fn find(arguments: &crate::Plugin) -> Result<Self, String> {
        let podwire = match &arguments.podwire {
            Some(path) => path.clone(),
            None => program("podwire").map_err(|error| error.to_string())?,
        };
        let tools = Self {
            podwire: absolute(&podwire)?,
            floor: absolute(&arguments.tools.join("floor"))?,
            peak: absolute(&arguments.tools.join("peak"))?,
            backend: arguments.portmap.clone(),
            reference: absolute(&arguments.reference)?,
        };
        for name in ["ptp", "bridge", "host-local", "portmap"] {
            absolute(&tools.reference(name))?;
        }
        Ok(tools)
    }

    /// A reference plugin.
    pub(crate) fn reference(&self, name: &str) -> PathBuf {
        self.reference.join(name)
    }

    /// The directory of the reference plugins: they execute host-local from there.
    pub(crate) fn plugin_path(&self) -> String {
        self.reference.display().to_string()
    }
}

/// What is executed is executed from the root directory.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| format!("find {}: {error}", path.display()))
}
