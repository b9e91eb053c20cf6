//! Where the programs are that take part or help.

use std::fs;
use std::io::{self, ErrorKind};
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
    /// Finds them all, and copies them as an installer does: what a linker has written starts more slowly than a copy.
    ///
    /// # Errors
    /// The one that is not there, or cannot be copied.
    pub(crate) fn find(arguments: &crate::Plugin) -> Result<Self, String> {
        let podwire = match &arguments.podwire {
            Some(path) => path.clone(),
            None => program("podwire").map_err(|error| error.to_string())?,
        };
        let installed = arguments.run.output.join("installed");
        // Copied anew: what is there may be older, or in the middle of being written.
        let emptied = fs::remove_dir_all(&installed).or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        emptied.and_then(|()| fs::create_dir_all(&installed)).map_err(|error| failed("make", &installed, &error))?;
        let install = |program: &Path, name: &str| {
            let copy = installed.join(name);
            fs::copy(program, &copy).map_err(|error| failed("copy", program, &error))?;
            copy.canonicalize().map_err(|error| failed("find", &copy, &error))
        };
        for name in ["ptp", "bridge", "host-local", "portmap"] {
            install(&arguments.reference.join(name), name)?;
        }
        Ok(Self {
            podwire: install(&podwire, "podwire")?,
            floor: install(&arguments.tools.join("floor"), "floor")?,
            peak: install(&arguments.tools.join("peak"), "peak")?,
            backend: arguments.portmap.clone(),
            // What is executed is executed from the root directory.
            reference: installed.canonicalize().map_err(|error| failed("find", &installed, &error))?,
        })
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

fn failed(wish: &str, path: &Path, error: &io::Error) -> String {
    format!("{wish} {}: {error}", path.display())
}
