//! FIFOs, directories and devices where files of the ledger are to be: no call waits for them, and what fails names the path and
//! the way out.

use std::time::{Duration, Instant};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::{Outcome, check, scene};
use serde_json::{Value, json};

use super::attachment::{changed, fails, unchanged};
use super::stage::{alone, bare, held, warm};

const WAY_OUT: &str = "another program has put something there that is not podwire's: move it away";

/// The answer of a call that does not wait for anybody.
fn at_once(host: &Host, call: &Call) -> Outcome<Answer> {
    let start = Instant::now();
    let answer = call.execute(host)?;
    let took = start.elapsed();
    check(took < Duration::from_secs(20), || format!("it took {took:?}: {}", answer.output))?;
    Ok(answer)
}

/// An attachment whose record is larger than what a FIFO holds.
fn large() -> Value {
    let ports = (1..2000).map(|port| json!({"hostPort": port, "containerPort": port, "protocol": "tcp"}));
    let configuration = changed(&alone("1.1.0"), "/capabilities", json!({"portMappings": true}));
    changed(&configuration, "/runtimeConfig", json!({"portMappings": ports.collect::<Vec<_>>()}))
}

#[test]
fn what_lies_where_a_temporary_file_is_to_be_is_replaced_or_named() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        host.run("mkdir", &["-p", "/run/podwire/.ports"])?;
        for temporary in ["/run/podwire/net/writing", "/run/podwire/.ports/writing"] {
            let put = |command: &str| {
                host.run("sh", &["-c", &format!("rm -rf {temporary}; echo kept >/run/kept; {command} {temporary}")])
            };
            for command in ["mkfifo", "ln -s /run/kept", "ln -s /dev/zero", "ln -s /run/none", "echo left >"] {
                put(command)?;
                let call = Call::new("ADD", "p1", &path, &large());
                let result = at_once(&host, &call)?.result().map_err(|why| format!("{command}: {why}"))?;
                let check_call = call.clone().verb("CHECK").configured(&changed(&large(), "/prevResult", result));
                at_once(&host, &check_call)?.silent().map_err(|why| format!("{command}: {why}"))?;
                at_once(&host, &call.verb("DEL"))?.silent().map_err(|why| format!("{command}: {why}"))?;
                check(held(&host).is_empty(), || format!("{command}: left {:?}", held(&host)))?;
                let beside = host.run("sh", &["-c", "cat /run/kept; ls -d /run/none 2>/dev/null || true"])?;
                check(beside.trim() == "kept", || format!("{command}: followed to another file: {beside}"))?;
            }
            // A directory is nobody's leftover: no ADD, and whoever is attached can go.
            let call = Call::new("ADD", "p1", &path, &large());
            call.execute(&host)?.result()?;
            put("mkdir")?;
            at_once(&host, &call.clone().verb("DEL"))?.silent()?;
            check(held(&host).is_empty(), || format!("left {:?}", held(&host)))?;
            let answer = unchanged(temporary, &host, &[&pod], &call)?;
            fails(&answer, 5, &format!("create {temporary}: Is a directory"))?;
            check(answer.output.contains(WAY_OUT), || answer.output.clone())?;
            host.run("rmdir", &[temporary])?;
        }
        Ok(())
    });
}

#[test]
fn what_lies_where_a_file_of_the_ledger_is_to_be_is_named() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        warm(&host, &path)?;
        let call = Call::new("ADD", "p1", &path, &alone("1.1.0"));
        for (place, command, what) in [
            ("/run/podwire/net/lock", "mkfifo", "open"),
            ("/run/podwire/net/lock", "mkdir", "open"),
            ("/run/podwire/net/lock", "ln -s /dev/zero", "open"),
            ("/run/podwire/net/boot", "mkfifo", "read"),
            ("/run/podwire/net/boot", "ln -s /dev/zero", "read"),
            ("/run/podwire/net/boot", "truncate --size 1G", "read"),
            ("/run/podwire/net/boot", "mkdir", "read"),
        ] {
            host.run("sh", &["-c", &format!("mv {place} /run/away; {command} {place}")])?;
            let add = at_once(&host, &call)?;
            fails(&add, 5, &format!("{what} {place}: ")).map_err(|why| format!("{command}: {why}"))?;
            check(add.output.contains(WAY_OUT), || format!("{command} {place}: {}", add.output))?;
            host.run("sh", &["-c", &format!("rm -r {place}; mv /run/away {place}")])?;
        }
        // A record that is none is not waited for, nor taken for an attachment that holds nothing.
        let result = call.execute(&host)?.result()?;
        let with_result = changed(&alone("1.1.0"), "/prevResult", result);
        let record = host.run("sh", &["-c", "ls /run/podwire/net/attachments/*"])?.trim().to_owned();
        for command in ["mkfifo", "ln -s /dev/zero", "mkdir"] {
            host.run("sh", &["-c", &format!("mv {record} /run/away; {command} {record}")])?;
            for verb in ["CHECK", "DEL"] {
                let answer = at_once(&host, &call.clone().verb(verb).configured(&with_result))?;
                fails(&answer, 5, &format!("read {record}: ")).map_err(|why| format!("{command}, {verb}: {why}"))?;
                check(answer.output.contains(WAY_OUT), || format!("{command}, {verb}: {}", answer.output))?;
            }
            host.run("sh", &["-c", &format!("rm -r {record}; mv /run/away {record}")])?;
        }
        call.clone().verb("DEL").execute(&host)?.silent()?;
        // A free list only makes the choice cheap: a new one takes its place.
        let list = host.run("sh", &["-c", "ls /run/podwire/net/free/* | head -1"])?.trim().to_owned();
        for command in ["mkfifo", "ln -s /dev/zero", "truncate --size 1T"] {
            host.run("sh", &["-c", &format!("rm {list}; {command} {list}")])?;
            at_once(&host, &call)?.result().map_err(|why| format!("{command}: {why}"))?;
            at_once(&host, &call.clone().verb("DEL"))?.silent().map_err(|why| format!("{command}: {why}"))?;
            host.run("sh", &["-c", &format!("test -f {list} && test ! -L {list}")])?;
        }
        host.run("sh", &["-c", &format!("rm {list}; mkdir {list}")])?;
        let answer = unchanged(&list, &host, &[&pod], &call)?;
        fails(&answer, 5, &format!("open {list}: Is a directory"))?;
        check(answer.output.contains(WAY_OUT), || answer.output.clone())
    });
}

#[test]
fn no_other_user_can_write_the_ledger_whatever_umask_the_runtime_has() {
    scene(1, |lab| {
        let (host, _, path) = bare(lab, "p1")?;
        let call = Call::new("ADD", "p1", &path, &large()).by("umask 000; exec \"$0\"");
        call.execute(&host)?.result()?;
        let writable = host.run("find", &["/run/podwire", "-perm", "/022", "!", "-type", "l"])?;
        check(writable.is_empty(), || format!("others can write {writable}"))?;
        call.verb("DEL").execute(&host)?.silent()
    });
}
