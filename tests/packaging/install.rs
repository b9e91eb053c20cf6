//! `scripts/install`, below a directory of its own (DESTDIR).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use podwire_tests::lab::program;

use crate::stage::{Directory, fails, script, succeeds, text};

/// The installer for a machine below a directory, with the programs that were built beside this test.
fn install(machine: &Directory, arguments: &[&str]) -> Command {
    let podwired = program("podwired").unwrap();
    let mut command = script("install", machine.path());
    command.env("DESTDIR", machine.path()).arg("--from").arg(podwired.parent().unwrap()).args(arguments);
    command
}

fn uninstall(machine: &Directory, arguments: &[&str]) -> Command {
    let mut command = script("install", machine.path());
    command.env("DESTDIR", machine.path()).arg("--uninstall").args(arguments);
    command
}

/// A machine on which systemd-networkd and NetworkManager may run.
fn machine() -> Directory {
    let machine = Directory::new();
    for place in ["etc/systemd/network", "etc/NetworkManager"] {
        fs::create_dir_all(machine.path().join(place)).unwrap();
    }
    machine
}

/// Every file of a machine: its mode, and what would change if it were written again.
fn files(machine: &Directory) -> BTreeMap<PathBuf, (u32, u64, i64)> {
    fn walk(directory: &Path, root: &Path, found: &mut BTreeMap<PathBuf, (u32, u64, i64)>) {
        for entry in fs::read_dir(directory).unwrap() {
            let (path, data) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            if data.is_dir() {
                walk(&path, root, found);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.insert(name, (data.permissions().mode() & 0o7777, data.ino(), data.mtime_nsec()));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(machine.path(), machine.path(), &mut found);
    found
}

fn names(machine: &Directory) -> Vec<String> {
    files(machine).into_keys().map(|path| path.display().to_string()).collect()
}

const SETTINGS: &str = "etc/podwire/podwired.toml";
const UNIT: &str = "etc/systemd/system/podwired.service";

#[test]
fn the_installer_installs_everything_and_running_it_again_changes_nothing() {
    let machine = machine();
    let said = succeeds(&mut install(&machine, &[]));
    assert!(said.contains("Now write") && said.contains("systemctl enable --now podwired"), "{said}");
    let first = files(&machine);
    let modes: Vec<_> = first.iter().map(|(path, (mode, ..))| (path.to_str().unwrap(), *mode)).collect();
    assert_eq!(
        modes,
        [
            ("etc/NetworkManager/conf.d/podwire.conf", 0o644),
            (SETTINGS, 0o644),
            ("etc/systemd/network/10-podwire.network", 0o644),
            ("etc/systemd/networkd.conf.d/podwire.conf", 0o644),
            (UNIT, 0o644),
            ("opt/cni/bin/podwire", 0o755),
            ("usr/local/bin/podwire", 0o755),
            ("usr/local/bin/podwired", 0o755),
        ]
    );
    let said = succeeds(install(&machine, &[]).env("LC_ALL", "C"));
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(files(&machine), first);
    let read = |path: &str| fs::read(machine.path().join(path)).unwrap();
    assert!(read("opt/cni/bin/podwire") == fs::read(program("podwire").unwrap()).unwrap());
    assert_eq!(read(UNIT), text("conf/podwired.service").into_bytes());
    // What the unit names is what is installed.
    let unit = text("conf/podwired.service").replace("\\\n", " ");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    for named in ["/usr/local/bin/podwired", "/etc/podwire/nodes.toml", "/etc/podwire/podwired.toml", "/opt/cni/bin"] {
        assert!(start.contains(named), "{start}");
    }
}

#[test]
fn a_changed_settings_file_is_never_overwritten_and_a_changed_program_is_replaced() {
    let machine = machine();
    succeeds(&mut install(&machine, &[]));
    let changed = [SETTINGS, UNIT, "usr/local/bin/podwired"].map(|path| machine.path().join(path));
    changed.iter().for_each(|path| fs::write(path, "vni = 7\n").unwrap());
    let said = succeeds(&mut install(&machine, &[]));
    assert!(said.contains(&format!("you have changed it, so it stays: {}", changed[0].display())), "{said}");
    assert_eq!(fs::read_to_string(&changed[0]).unwrap(), "vni = 7\n");
    assert_eq!(fs::read_to_string(&changed[1]).unwrap(), text("conf/podwired.service"));
    assert!(fs::read(&changed[2]).unwrap() == fs::read(program("podwired").unwrap()).unwrap());
    assert_eq!(files(&machine)[Path::new("usr/local/bin/podwired")].0, 0o755);
    // A removed one is brought again.
    fs::remove_file(&changed[0]).unwrap();
    succeeds(&mut install(&machine, &[]));
    assert_eq!(fs::read_to_string(&changed[0]).unwrap(), text("conf/podwired.toml"));
}

#[test]
fn the_membership_file_and_another_plugin_directory_are_accepted() {
    let machine = machine();
    let nodes = machine.path().join("nodes.toml");
    fs::write(&nodes, "cluster_cidrs = []\n").unwrap();
    succeeds(&mut install(&machine, &["--nodes", "nodes.toml", "--plugin-directory=/usr/lib/cni"]));
    assert_eq!(fs::read(machine.path().join("etc/podwire/nodes.toml")).unwrap(), fs::read(&nodes).unwrap());
    let unit = fs::read_to_string(machine.path().join(UNIT)).unwrap();
    assert!(unit.contains("--plugin-directory /usr/lib/cni\n") && !unit.contains("/opt/cni"), "{unit}");
    assert!(unit.contains("ReadWritePaths=-/etc/cni/net.d -/usr/lib/cni\n"), "{unit}");
    // It is known from then on.
    let said = succeeds(&mut install(&machine, &[]));
    assert!(said.contains("nothing to do") && !machine.path().join("opt").exists(), "{said}");
    succeeds(&mut uninstall(&machine, &[]));
    assert_eq!(names(&machine), ["etc/podwire/nodes.toml", "nodes.toml"]);
}

#[test]
fn a_directory_of_policies_is_made_and_named_by_the_unit_from_then_on() {
    let machine = machine();
    let directory = "/etc/podwire/policies";
    succeeds(&mut install(&machine, &["--policies", directory]));
    let unit = || fs::read_to_string(machine.path().join(UNIT)).unwrap().replace("\\\n", " ");
    let start = || unit().lines().find_map(|line| line.strip_prefix("ExecStart=").map(str::to_owned)).unwrap();
    assert_eq!(start().matches("--policies /etc/podwire/policies ").count(), 1, "{}", start());
    let place = machine.path().join(&directory[1..]);
    assert_eq!((place.is_dir(), place.metadata().unwrap().permissions().mode() & 0o777), (true, 0o755));
    // It is known from then on, and another one takes its place.
    let said = succeeds(&mut install(&machine, &[]));
    assert!(said.contains("nothing to do") && start().contains(directory), "{said}");
    succeeds(&mut install(&machine, &["--policies=/srv/policies"]));
    assert!(start().contains("--policies /srv/policies ") && !start().contains(directory), "{}", start());
    // An empty one goes, one with files is yours.
    fs::write(machine.path().join("srv/policies/deny.yaml"), "").unwrap();
    let said = succeeds(&mut uninstall(&machine, &[]));
    assert!(said.contains("it is yours, so it stays: ") && said.contains("/srv/policies"), "{said}");
    assert_eq!(names(&machine), ["srv/policies/deny.yaml"]);
    succeeds(&mut install(&machine, &["--policies", directory]));
    succeeds(&mut uninstall(&machine, &[]));
    assert!(!place.exists());
}

#[test]
fn uninstall_leaves_only_files_that_were_changed() {
    let machine = machine();
    succeeds(&mut install(&machine, &[]));
    succeeds(&mut install(&machine, &["--alone"]));
    succeeds(&mut uninstall(&machine, &[]));
    assert_eq!(names(&machine), Vec::<String>::new());
    assert!(!machine.path().join("etc/podwire").exists());
    succeeds(&mut uninstall(&machine, &[]));

    succeeds(&mut install(&machine, &[]));
    fs::write(machine.path().join(SETTINGS), "vni = 7\n").unwrap();
    let said = succeeds(&mut uninstall(&machine, &[]));
    assert!(said.contains("you have changed it, so it stays"), "{said}");
    assert_eq!(names(&machine), [SETTINGS]);
}

#[test]
fn a_single_machine_gets_a_network_without_a_daemon() {
    let machine = machine();
    succeeds(&mut install(&machine, &["--alone"]));
    let names = names(&machine);
    assert!(!names.iter().any(|name| [UNIT, SETTINGS].contains(&name.as_str())), "{names:?}");
    let conflist = "etc/cni/net.d/10-pods.conflist";
    assert_eq!(fs::read_to_string(machine.path().join(conflist)).unwrap(), text("conf/alone.conflist"));
    assert!(names.contains(&"opt/cni/bin/podwire".to_owned()), "{names:?}");
    fs::write(machine.path().join(conflist), "{}").unwrap();
    succeeds(&mut install(&machine, &["--alone"]));
    assert_eq!(fs::read_to_string(machine.path().join(conflist)).unwrap(), "{}");
}

#[test]
fn a_wrong_command_line_is_reported_and_changes_nothing() {
    let machine = Directory::new();
    for (arguments, named) in [
        (&["--what"][..], "what is --what?"),
        (&["--nodes"], "--nodes wants a value"),
        (&["--nodes", "missing.toml"], "missing.toml: no such file"),
        (&["--pods"], "--pods goes with --uninstall"),
        (&["--plugin-directory", "bin"], "from the root on"),
        (&["--policies", "policies"], "from the root on"),
        (&["--policies", "/etc/my policies"], "without spaces"),
        (&["--policies", "/root/policies"], "the unit does not see"),
        (&["--policies", "/etc/policies", "--alone"], "--policies goes with the daemon"),
        (&["--from", "/nonexistent"], "no program podwire in /nonexistent"),
    ] {
        let said = fails(&mut install(&machine, arguments));
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    let said = fails(install(&machine, &[]).env("DESTDIR", "below"));
    assert!(said.contains("DESTDIR=below"), "{said}");
    assert_eq!(names(&machine), Vec::<String>::new());
    let help = succeeds(script("install", machine.path()).arg("--help"));
    assert!(help.contains("--uninstall") && help.contains("DESTDIR"), "{help}");
}
