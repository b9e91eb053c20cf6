//! The node is started anew: every pod is dead, and so is its hold on an address, whether the state directory has outlived
//! the boot or not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::Call;
use podwire_tests::lab::scene::{Outcome, check, field, json as see, scene};
use serde_json::{Value, json};

use super::look;
use super::world::{self, NETWORK, network};

/// As many as a range of 16 addresses gives.
const PODS: usize = 13;

const BOOTS: usize = 6;

/// Gives a host the id of another boot. It has mounts of its own.
fn boot(host: &Host, number: usize) -> Outcome {
    for name in field(&see(host, "ip", &["-j", "link"])?, "ifname").iter().filter(|name| name.starts_with("pw")) {
        host.run("ip", &["link", "delete", name])?;
    }
    let file = PathBuf::from(format!("/run/boot-{number}"));
    host.enter(|| {
        fs::write(&file, format!("00000000-0000-4000-8000-{number:012}\n")).map_err(|error| error.to_string())?;
        let id = "/proc/sys/kernel/random/boot_id";
        mount(Some(&file), id, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|errno| errno.to_string())
    })
}

#[test]
fn l11_reboots_release_all_addresses() {
    scene(1, |lab| {
        let host = lab.nodes[0].host.clone();
        let configuration = network(NETWORK, 7, &json!({}));
        let call = |verb: &str, name: &str, netns: &Path| Call::new(verb, name, netns, &configuration);
        let pods = (0..=PODS).map(|number| host.pod(&format!("p{number}"))).collect::<Result<Vec<_>, _>>()?;
        let mut earlier: Vec<(String, Value)> = Vec::new();
        for number in 0..BOOTS {
            boot(&host, number)?;
            if number % 2 == 1 {
                // Where /run is kept over a boot there is nothing to empty.
                host.enter(|| fs::remove_dir_all(look::STATE)).map_err(|error| error.to_string())?;
            }
            // What the runtime has not forgotten: before the first ADD of this boot, and in the midst of them.
            let forget = |some: &[(String, Value)]| -> Outcome {
                for (name, result) in some {
                    let netns = Path::new("/run/netns").join(format!("p{}", name.split('-').next_back().unwrap()));
                    let mut asked = configuration.clone();
                    asked["prevResult"] = result.clone();
                    let answer = Call::new("CHECK", name, &netns, &asked).execute(&host)?;
                    world::error(&answer).map_err(|why| format!("CHECK of {name}: {why}"))?;
                    call("DEL", name, &netns).with("CNI_NETNS", "").execute(&host)?.result()?;
                }
                Ok(())
            };
            let (first, second) = earlier.split_at(earlier.len() / 2);
            forget(first)?;
            let mut now = Vec::new();
            for (place, (_, netns)) in pods.iter().enumerate().take(PODS) {
                let name = format!("boot{number}-{place}");
                now.push((name.clone(), call("ADD", &name, netns).execute(&host)?.result()?));
            }
            forget(second)?;
            let all: BTreeSet<_> = now.iter().flat_map(|(_, result)| world::addresses(result)).collect();
            check(all.len() == 2 * PODS, || format!("boot {number}: {} addresses for {PODS} pods", all.len()))?;
            let one_more = call("ADD", &format!("boot{number}-{PODS}"), &pods[PODS].1).execute(&host)?;
            check(world::error(&one_more)? == 100, || format!("boot {number}: {one_more:?}"))?;
            earlier = now;
        }
        Ok(())
    });
}
