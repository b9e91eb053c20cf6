//! STATUS: it says no when an ADD could not be served, changes nothing, and waits for nobody.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{check, scene};
use serde_json::{Value, json};

use super::attachment::{changed, fails, unchanged};
use super::stage::{alone, bare, held};

fn status(configuration: &Value) -> Call {
    let mut call = Call::new("STATUS", "", Path::new(""), configuration);
    call.environment = vec![("CNI_COMMAND", "STATUS".into()), ("CNI_PATH", "/opt/cni/bin".into())];
    call
}

#[test]
fn s1_s9_status_succeeds_before_and_after_the_first_add_and_leaves_no_trace() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let files = || host.run("find", &["/run/podwire"]).unwrap_or_default();
        let before = files();
        unchanged("STATUS", &host, &[&pod], &status(&alone("1.1.0")))?.silent()?;
        check(files() == before, files)?;
        Call::new("ADD", "p1", &path, &alone("1.1.0")).execute(&host)?.result()?;
        let before = files();
        for _ in 0..10 {
            status(&alone("1.1.0")).execute(&host)?.silent()?;
        }
        check(files() == before, files)?;
        unchanged("STATUS", &host, &[&pod], &status(&alone("1.1.0")))?.silent()
    });
}

#[test]
fn s2_d17_an_unwritable_state_directory_is_reported() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        add.execute(&host)?.result()?;
        let read_only = "mount --bind /run/podwire /run/podwire; mount -o remount,bind,ro /run/podwire";
        host.run("sh", &["-ec", read_only])?;
        fails(&status(&alone("1.1.0")).execute(&host)?, 50, "write to /run/podwire/net: Read-only file system")?;
        host.run("umount", &["--lazy", "/run/podwire"])?;
        status(&alone("1.1.0")).execute(&host)?.silent()?;
        add.verb("DEL").execute(&host)?.silent()?;
        // Where there is none yet, and none could be made.
        host.run("sh", &["-ec", "rm -r /run/podwire; mount --bind /run /run; mount -o remount,bind,ro /run"])?;
        fails(&status(&alone("1.1.0")).execute(&host)?, 50, "write to /run: Read-only file system")
    });
}

#[test]
fn s3_s5_a_node_that_does_not_forward_is_limited_connectivity_and_the_next_add_resolves_it() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        // Without a pod it is no matter.
        status(&alone("1.1.0")).execute(&host)?.silent()?;
        let add = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        let result = add.execute(&host)?.result()?;
        for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            host.run("sh", &["-c", &format!("echo 0 > /proc/sys/{setting}")])?;
            fails(&status(&alone("1.1.0")).execute(&host)?, 51, setting)?;
            // The other verbs do not care what STATUS has said.
            let checked =
                add.clone().verb("CHECK").configured(&changed(&alone("1.1.0"), "/prevResult", result.clone()));
            fails(&checked.execute(&host)?, 106, setting)?;
            let mut gc = alone("1.1.0");
            gc["cni.dev/valid-attachments"] = json!([{"containerID": "p1", "ifname": "eth0"}]);
            add.clone().verb("GC").configured(&gc).execute(&host)?.silent()?;
            fails(&status(&alone("1.1.0")).execute(&host)?, 51, setting)?;
            let second = add.clone().interface("net1");
            second.execute(&host)?.result()?;
            status(&alone("1.1.0")).execute(&host)?.silent()?;
            host.run("sh", &["-c", &format!("echo 0 > /proc/sys/{setting}")])?;
            second.verb("DEL").execute(&host)?.silent()?;
            host.run("sh", &["-c", &format!("echo 1 > /proc/sys/{setting}")])?;
        }
        status(&alone("1.1.0")).execute(&host)?.silent()
    });
}

#[test]
fn s4_a_full_range_does_not_fail_status() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let small = changed(&alone("1.1.0"), "/ipam/ranges", json!([[{"subnet": "10.7.0.0/30"}]]));
        let add = Call::new("ADD", "p1", &path, &small);
        add.execute(&host)?.result()?;
        fails(&add.interface("net1").execute(&host)?, 100, "no IP addresses available")?;
        status(&small).execute(&host)?.silent()
    });
}

#[test]
fn s7_status_does_not_wait_for_a_lock() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        Call::new("ADD", "p1", &path, &alone("1.1.0")).execute(&host)?.result()?;
        let lock = host.enter(|| File::open("/run/podwire/net/lock").unwrap());
        let _held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.to_string())?;
        let answer = unchanged("STATUS", &host, &[&pod], &status(&alone("1.1.0")))?;
        answer.silent()?;
        check(answer.took < Duration::from_secs(1), || format!("took {:?}", answer.took))?;
        // After a reboot, too, when the ledger is that of dead pods: it is not STATUS that empties it.
        host.run("sh", &["-ec", "echo another > /run/podwire/net/boot; echo 0 > /proc/sys/net/ipv4/ip_forward"])?;
        let answer = unchanged("STATUS after a reboot", &host, &[&pod], &status(&alone("1.1.0")))?;
        answer.silent()?;
        check(answer.took < Duration::from_secs(1), || format!("took {:?}", answer.took))
    });
}

#[test]
fn s8_an_invalid_configuration_is_reported() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        let mut none = alone("1.1.0");
        none["ipam"]["ranges"] = json!([]);
        fails(&status(&none).execute(&host)?, 7, "ipam.ranges")?;
        fails(&status(&changed(&alone("1.1.0"), "/mtu", json!(-1))).execute(&host)?, 7, "mtu")?;
        fails(&status(&json!(7)).execute(&host)?, 6, "not an object")?;
        fails(&status(&alone("1.0.0")).execute(&host)?, 1, "does not allow STATUS")?;
        check(held(&host).is_empty(), || format!("{:?}", held(&host)))
    });
}
