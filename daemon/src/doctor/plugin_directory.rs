//! The directory that the container runtime has its plugins in, for fixes that call the plugin: the running daemon's, else the
//! first of the usual ones that has it. Nothing is installed or executed here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use podwire_conf::defaults;

use crate::observe::status::document::Status;

/// Where container runtimes have their plugins: most, Debian's, Fedora's, k3s.
const USUAL: [&str; 4] =
    [defaults::PLUGIN_DIRECTORY, "/usr/lib/cni", "/usr/libexec/cni", "/var/lib/rancher/k3s/data/cni"];

/// The directory on this node.
pub(super) fn of(status: Option<&Status>) -> PathBuf {
    let configured = status.and_then(|status| status.plugin_directory.clone());
    configured.unwrap_or_else(|| found(Path::new("/")))
}

/// The first usual directory below `root` that has the plugin; the most usual one where none has.
fn found(root: &Path) -> PathBuf {
    let has_plugin = |directory: &&str| {
        let plugin = root.join(directory.trim_start_matches('/')).join(defaults::PLUGIN);
        std::fs::metadata(plugin).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    USUAL.into_iter().find(has_plugin).unwrap_or(defaults::PLUGIN_DIRECTORY).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_daemons_directory_comes_before_what_is_found() {
        let status =
            |directory: Option<&str>| Status { plugin_directory: directory.map(Into::into), ..Status::default() };
        assert_eq!(of(Some(&status(Some("/run/cni/bin")))), Path::new("/run/cni/bin"));
        assert_eq!(of(Some(&status(None))), of(None));
    }

    #[test]
    fn of_the_usual_directories_the_first_with_the_plugin_is_taken() {
        let root = std::env::temp_dir().join(format!("podwire-plugin-directory-{}", std::process::id()));
        fs::create_dir_all(root.join("opt/cni/bin/podwire")).unwrap();
        assert_eq!(found(&root), Path::new("/opt/cni/bin"), "none has it");
        let put = |directory: &str, mode| {
            let plugin = root.join(directory).join("podwire");
            fs::create_dir_all(plugin.parent().unwrap()).unwrap();
            fs::write(&plugin, "").unwrap();
            fs::set_permissions(&plugin, fs::Permissions::from_mode(mode)).unwrap();
        };
        put("usr/lib/cni", 0o644);
        put("usr/libexec/cni", 0o755);
        assert_eq!(found(&root), Path::new("/usr/libexec/cni"), "a directory and a file without rights are no plugins");
        put("usr/lib/cni", 0o755);
        assert_eq!(found(&root), Path::new("/usr/lib/cni"));
        fs::remove_dir_all(root).unwrap();
    }
}
