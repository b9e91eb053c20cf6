//! Addresses from another plugin (CNI specification, section 4): it is a program of its own, here a shell script that
//! writes down how it was called.

use std::path::{Path, PathBuf};

use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, field, json as look, same, scene};
use serde_json::{Value, json};

use super::attachment::{addresses, changed, fails, snapshot, unchanged};
use super::stage::bare;

/// Says on stderr that it was called, writes environment and input down, and answers what is written beside for the verb.
const PLUGIN: &str = r#"#!/bin/sh
cd /run/other && echo "$CNI_COMMAND" >>calls && env >"$CNI_COMMAND.environment" && cat >"$CNI_COMMAND.input"
echo "other: $CNI_COMMAND" >&2
[ -f "$CNI_COMMAND.answer" ] && cat "$CNI_COMMAND.answer"
[ ! -f "$CNI_COMMAND.fails" ]
"#;

/// The other plugin on a host.
struct Other(Host);

impl Other {
    fn install(host: &Host) -> Outcome<Self> {
        host.run("mkdir", &["-p", "/run/other/bin", "/run/nothing"])?;
        let other = Self(host.clone());
        other.write("bin/other", PLUGIN)?;
        host.run("chmod", &["755", "/run/other/bin/other"])?;
        let answer = json!({
            "cniVersion": "1.1.0",
            "ips": [{"address": "10.9.0.7/24", "gateway": "10.9.0.1"}, {"address": "fd00:9::7/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.9.0.1"}, {"dst": "::/0"}],
            "dns": {"nameservers": ["10.9.0.53"]},
        });
        other.answers("ADD", &answer)?;
        Ok(other)
    }

    fn write(&self, name: &str, text: &str) -> Outcome {
        self.0
            .enter(|| std::fs::write(Path::new("/run/other").join(name), text))
            .map_err(|error| format!("{name}: {error}"))
    }

    fn answers(&self, verb: &str, answer: &Value) -> Outcome {
        self.write(&format!("{verb}.answer"), &answer.to_string())
    }

    /// Makes it fail with an answer, until it is allowed to succeed.
    fn fails(&self, verb: &str, answer: &Value) -> Outcome {
        self.answers(verb, answer)?;
        self.write(&format!("{verb}.fails"), "")
    }

    fn succeeds(&self, verb: &str) -> Outcome {
        self.0.run("rm", &["-f", &format!("/run/other/{verb}.fails"), &format!("/run/other/{verb}.answer")]).map(drop)
    }

    fn read(&self, name: &str) -> String {
        self.0.enter(|| std::fs::read_to_string(Path::new("/run/other").join(name))).unwrap_or_default()
    }

    /// The verbs it was called with since the last time.
    fn calls(&self) -> Outcome<Vec<String>> {
        let calls = self.read("calls").lines().map(str::to_owned).collect();
        self.0.run("rm", &["-f", "/run/other/calls"])?;
        Ok(calls)
    }
}

fn configuration(version: &str) -> Value {
    json!({"cniVersion": version, "name": "net", "type": "podwire", "ipam": {"type": "other", "colour": "green"}})
}

fn call(verb: &str, path: &Path, configuration: &Value) -> Call {
    Call::new(verb, "p1", path, configuration).with("CNI_PATH", "/run/nothing:/run/other/bin")
}

#[test]
fn c15_r20_another_ipam_plugin_assigns_addresses_and_is_called_for_every_verb() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let other = Other::install(&host)?;
        let own = configuration("1.1.0");
        let mut result = Value::Null;
        for verb in ["ADD", "CHECK", "STATUS", "GC", "DEL"] {
            let mut of_verb = own.clone();
            match verb {
                "CHECK" => of_verb["prevResult"] = result.clone(),
                "GC" => of_verb["cni.dev/valid-attachments"] = json!([{"containerID": "p1", "ifname": "eth0"}]),
                _ => {}
            }
            let called = call(verb, &path, &of_verb).with("TRACEPARENT", "00-7");
            let answer = called.execute(&host)?;
            let found = answer.result().map_err(|why| format!("{verb}: {why}"))?;
            check(other.calls()? == [verb], || format!("{verb}: {:?}", other.read("calls")))?;
            check(answer.log.contains(&format!("other: {verb}")), || format!("{answer:?}"))?;
            // The same input, byte for byte, and the same environment.
            check(other.read(&format!("{verb}.input")) == called.input, || other.read(&format!("{verb}.input")))?;
            let environment = other.read(&format!("{verb}.environment"));
            for (name, value) in &called.environment {
                check(environment.lines().any(|line| line == format!("{name}={value}")), || {
                    format!("{name}: {environment}")
                })?;
            }
            if verb == "ADD" {
                result = found;
                let found: Vec<_> = addresses(&result)?.iter().map(ToString::to_string).collect();
                check(found == ["10.9.0.7", "fd00:9::7"], || result.to_string())?;
                check(field(&result["routes"], "dst") == ["0.0.0.0/0", "::/0", "169.254.1.1/32"], || {
                    result.to_string()
                })?;
                check(result["dns"]["nameservers"][0] == "10.9.0.53", || result.to_string())?;
                let links = field(&look(&pod, "ip", &["-4", "-j", "route"])?, "dst");
                check(links == ["default", "169.254.1.1"], || format!("{links:?}"))?;
            }
        }
        let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"], || format!("{links:?}"))?;

        // Name servers of the configuration are there in their place.
        let named = changed(&own, "/dns", json!({"nameservers": []}));
        let result = call("ADD", &path, &named).execute(&host)?.result()?;
        check(result["dns"]["nameservers"] != json!(["10.9.0.53"]), || result.to_string())?;
        call("DEL", &path, &named).execute(&host)?.result().map(drop)
    });
}

#[test]
fn c15_a_missing_ipam_plugin_is_reported_with_key_and_value() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        for verb in ["ADD", "STATUS"] {
            let nowhere = call(verb, &path, &configuration("1.1.0")).with("CNI_PATH", "/run/nothing");
            fails(&unchanged(verb, &host, &[&pod], &nowhere)?, 2, "ipam.type \"other\" is not supported")?;
            let unsaid = call(verb, &path, &configuration("1.1.0")).without("CNI_PATH");
            fails(&unchanged(verb, &host, &[&pod], &unsaid)?, 4, "CNI_PATH")?;
        }
        // A directory of its name, or a file that is no program, is none either.
        host.run("mkdir", &["-p", "/run/nothing/other"])?;
        let directory = call("ADD", &path, &configuration("1.1.0")).with("CNI_PATH", "/run/nothing");
        fails(&unchanged("a directory", &host, &[&pod], &directory)?, 2, "ipam.type \"other\"")
    });
}

#[test]
fn t2_r4_t6_a_failed_add_releases_what_the_ipam_plugin_assigned() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let other = Other::install(&host)?;
        let add = call("ADD", &path, &configuration("1.1.0"));
        add.execute(&host)?.result()?;
        add.clone().verb("DEL").execute(&host)?.result()?;
        other.calls()?;
        let before = snapshot(&host, &[&pod])?;

        // It fails itself: its code and its words are passed on, and it is asked to take back what it may have given.
        other.fails("ADD", &json!({"code": 111, "msg": "no more green", "details": "all are red"}))?;
        let answer = add.execute(&host)?;
        fails(&answer, 111, "no more green")?;
        check(answer.output.contains("all are red"), || answer.output.clone())?;
        check(other.calls()? == ["ADD", "DEL"], || "what was called".into())?;
        // It says nothing, or nothing that makes sense, or gives no address.
        for nonsense in ["", "no json", "{}", "{\"ips\": []}", "{\"ips\": [{\"address\": \"x\"}]}"] {
            other.succeeds("ADD")?;
            other.write("ADD.answer", nonsense)?;
            fails(&add.execute(&host)?, 6, "ipam plugin other")?;
            check(other.calls()? == ["ADD", "DEL"], || nonsense.into())?;
        }
        same("after answers that were none", &before, &snapshot(&host, &[&pod])?)?;

        // Something fails after it has given: somebody's interface is there.
        Other::install(&host)?;
        pod.run("ip", &["link", "add", "eth0", "type", "bridge"])?;
        fails(&add.execute(&host)?, 102, "File exists")?;
        check(other.calls()? == ["ADD", "DEL"], || "what was called".into())?;
        pod.run("ip", &["link", "delete", "eth0"])?;
        same("after a failure", &before, &snapshot(&host, &[&pod])?)?;

        // Too many addresses for an old version.
        let answer = json!({"ips": [{"address": "10.9.0.7/24"}, {"address": "10.9.0.8/24"}]});
        other.answers("ADD", &answer)?;
        let old = call("ADD", &path, &configuration("0.2.0")).execute(&host)?;
        let result = old.result()?;
        check(result["ip4"]["ip"] == "10.9.0.7/32", || result.to_string())?;
        add.verb("DEL").execute(&host)?.result()?;
        same("after two addresses", &before, &snapshot(&host, &[&pod])?)
    });
}

#[test]
fn d13_x11_a_del_that_the_ipam_plugin_fails_has_done_its_own_part() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let other = Other::install(&host)?;
        let add = call("ADD", &path, &configuration("1.1.0"));
        add.execute(&host)?.result()?;
        add.clone().verb("DEL").execute(&host)?.result()?;
        let before = snapshot(&host, &[&pod])?;
        add.execute(&host)?.result()?;
        other.calls()?;
        other.fails("DEL", &json!({"code": 11, "msg": "later"}))?;
        let del = add.verb("DEL");
        fails(&del.execute(&host)?, 11, "later")?;
        same("DEL", &before, &snapshot(&host, &[&pod])?)?;
        let nowhere = del.clone().with("CNI_PATH", "/run/nothing").execute(&host)?;
        let (_, message) = nowhere.failure()?;
        check(!message.to_lowercase().contains("not found"), || message.clone())?;
        other.succeeds("DEL")?;
        del.execute(&host)?.result()?;
        check(other.calls()? == ["DEL", "DEL"], || "what was called".into())
    });
}

#[test]
fn g13_q14_s6_s10_errors_of_the_ipam_plugin_are_passed_on() {
    scene(1, |lab| {
        let (host, pod, path) = bare(lab, "p1")?;
        let other = Other::install(&host)?;
        let own = configuration("1.1.0");
        let result = call("ADD", &path, &own).execute(&host)?.result()?;
        for (verb, code) in [("STATUS", 50), ("STATUS", 51), ("CHECK", 112)] {
            other.fails(verb, &json!({"code": code, "msg": "not today"}))?;
            let of_verb = changed(&own, "/prevResult", result.clone());
            fails(&unchanged(verb, &host, &[&pod], &call(verb, &path, &of_verb))?, code, "not today")?;
            other.succeeds(verb)?;
            call(verb, &path, &of_verb).execute(&host)?.result()?;
        }
        // GC goes on, and fails in the end.
        let gc = call("GC", &PathBuf::new(), &changed(&own, "/cni.dev~1valid-attachments", json!([])));
        other.fails("GC", &json!({"code": 113, "msg": "not today"}))?;
        other.calls()?;
        let answer = gc.execute(&host)?;
        check(answer.code == Some(1) && answer.output.contains("not today"), || format!("{answer:?}"))?;
        check(other.calls()? == ["GC"], || "what was called".into())?;
        let links = field(&look(&host, "ip", &["-j", "link"])?, "ifname");
        check(links == ["lo", "eth0"], || format!("{links:?}"))?;
        other.succeeds("GC")?;
        gc.execute(&host)?.result().map(drop)
    });
}
