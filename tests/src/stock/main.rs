//! `podwire-stock PROGRAM [ARGUMENT …]` runs a program on a kernel that is not this machine's: Debian's, in a virtual machine
//! that is made for it and has its whole network to itself. In there the program is in a world of its own
//! (`podwire-isolate`), whose `/run/machine/proc` is that of the virtual machine. The exit code is the program's.
//!
//! Beside it the workspace's programs and some tools are taken along; there is no way out, no disk, and nothing is left of
//! it. The kernel is where `scripts/stock-kernel` says, which has to be in `PODWIRE_STOCK_KERNEL`. With this program as
//! cargo's runner every scene is played there.

mod archive;
mod content;
mod machine;

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: podwire-stock PROGRAM [ARGUMENT …]");
        return ExitCode::from(2);
    };
    match run(Path::new(&program), &arguments.collect::<Vec<_>>()) {
        Ok(code) => ExitCode::from(code),
        Err(why) => {
            eprintln!("podwire-stock: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(program: &Path, arguments: &[String]) -> Result<u8, String> {
    let kernel = env::var_os("PODWIRE_STOCK_KERNEL").map(PathBuf::from);
    let kernel = kernel.ok_or("PODWIRE_STOCK_KERNEL is not set: scripts/stock-kernel prints what it has to be")?;
    let program = fs::canonicalize(program).map_err(|error| format!("{}: {error}", program.display()))?;
    let files = Files(env::temp_dir().join(format!("podwire-stock-{}", std::process::id())));
    let to = File::create(&files.0).map_err(|error| format!("create {}: {error}", files.0.display()))?;
    content::write(BufWriter::new(to), &kernel, &program, arguments)?;
    machine::run(&kernel, &files.0)
}

/// The archive, which goes with this value.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        // A temporary file: whoever clears the directory takes it.
        let _ = fs::remove_file(&self.0);
    }
}
