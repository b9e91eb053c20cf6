//! VERSION, and a program that is executed to see what it is.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, same, scene};
use serde_json::{Value, json};

use super::attachment::snapshot;
use super::protocol::VERSIONS;
use super::stage::{alone, bare, held};

#[test]
fn v6_v7_v9_version_does_not_wait_for_stdin() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        let mut call = Call::new("VERSION", "", Path::new(""), &json!({"cniVersion": "1.1.0"}));
        call.environment = vec![("CNI_COMMAND", "VERSION".into())];
        let mut garbage = call.clone();
        garbage.input = "no json".into();
        let mut silent = call.clone();
        silent.input.clear();
        for (stdin, call) in [
            ("closed after the configuration", call.clone()),
            ("open after the configuration", call.clone().keep_input_open()),
            ("open and empty", silent.keep_input_open()),
            ("garbage", garbage.clone()),
            ("open after garbage", garbage.keep_input_open()),
            ("/dev/null", call.clone().by("exec \"$0\" </dev/null")),
            ("no descriptor", call.clone().by("exec \"$0\" <&-")),
            ("a directory", call.by("exec \"$0\" </")),
        ] {
            let answer = call.execute(&host)?;
            let versions = answer.result()?;
            let right = versions["cniVersion"] == "1.1.0" && versions["supportedVersions"] == json!(VERSIONS);
            check(right && answer.log.is_empty(), || format!("stdin {stdin}: {answer:?}"))?;
            check(answer.took < Duration::from_secs(1), || format!("stdin {stdin}: took {:?}", answer.took))?;
        }
        Ok(())
    });
}

#[test]
fn v10_version_is_quick_and_starts_no_other_process() {
    scene(1, |lab| {
        let (host, _, _) = bare(lab, "p1")?;
        let call = Call::new("VERSION", "", Path::new(""), &json!({"cniVersion": "1.1.0"}));
        // In a world in which the shell is the first process and the plugin the second, the next one is the third,
        // unless the plugin has started a process or a thread.
        let count = "exec unshare --pid --fork /bin/sh -c '\"$0\" >/dev/null; /bin/sh -c \"echo \\$\\$\"; :' \"$0\"";
        let next = call.clone().by(count).execute(&host)?;
        check(next.output == "3\n", || format!("{next:?}"))?;
        let took = (0..5).map(|_| Ok(call.execute(&host)?.took)).collect::<Outcome<Vec<_>>>()?;
        check(took.iter().any(|took| *took < Duration::from_millis(100)), || format!("{took:?}"))
    });
}

#[test]
fn v8_version_needs_no_state_no_lock_and_no_privilege() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        Call::new("ADD", "p1", &path, &alone("1.1.0")).execute(&host)?.result()?;
        let lock = host.enter(|| File::open("/run/podwire/net/lock").unwrap());
        let _held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.to_string())?;
        let poor = host.apart(|| {
            for place in ["/run/podwire", "/sys", "/usr/sbin"] {
                let flags = MsFlags::MS_RDONLY;
                mount(Some("tmpfs"), place, Some("tmpfs"), flags, None::<&str>).map_err(|errno| errno.to_string())?;
            }
            Ok(())
        })?;
        let before = snapshot(&host, &[&pod])?;
        let call = Call::new("VERSION", "", Path::new(""), &json!({"cniVersion": "1.1.0"}));
        let without_privilege = "exec setpriv --bounding-set=-all --inh-caps=-all \"$0\"";
        for call in [call.clone(), call.by(without_privilege)] {
            for host in [&host, &poor] {
                let answer = call.execute(host)?;
                check(answer.took < Duration::from_secs(1), || format!("took {:?}", answer.took))?;
                check(answer.result()?["supportedVersions"] == json!(VERSIONS), || format!("{answer:?}"))?;
            }
        }
        same("VERSION", &before, &snapshot(&host, &[&pod])?)
    });
}

#[test]
fn v12_e26_without_a_command_the_program_prints_its_version_first() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let mut nothing = Call::new("", "", Path::new(""), &Value::Null).by("exec \"$0\" </dev/null");
        nothing.environment.clear();
        let others = Call::new("ADD", "p1", &path, &alone("1.0.0")).without("CNI_COMMAND");
        for call in [nothing, others] {
            let answer = call.execute(&host)?;
            check(answer.code == Some(0) && answer.took < Duration::from_secs(3), || format!("{answer:?}"))?;
            let said = answer.output.clone() + &answer.log;
            let numbers = |word: &&str| {
                let parts: Vec<_> = word.trim_start_matches('v').split('.').collect();
                parts.len() == 3 && parts.iter().all(|part| part.parse::<u32>().is_ok())
            };
            check(said.split_whitespace().find(numbers) == Some("v0.1.0"), || format!("{answer:?}"))?;
        }
        check(held(&host).is_empty(), || "an ADD without a verb did something".into())
    });
}
