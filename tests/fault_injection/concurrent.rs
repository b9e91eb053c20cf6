//! Concurrent calls: 200 pods that come and go at once, on a range that is too small for all of them, with calls that are killed at
//! random, for PODWIRE_SOAK_SECONDS.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use podwire_tests::lab::exchange::Responder;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::runtime::{Answer, Call};
use podwire_tests::lab::scene::{Outcome, check, reaches, same, state};
use podwire_tests::lab::{Lab, SOON, eventually, wire};
use serde_json::{Value, json};

use super::look;
use super::random::Random;
use super::world::{self, NETWORK, network};

const PODS: usize = 200;

/// What a range of 128 gives: all but the network, the gateway and the broadcast address.
const ADDRESSES: usize = 125;

/// So many calls are under way at once.
const RUNTIMES: usize = 8;

/// One of so many calls is killed.
const KILLED: u64 = 4;

/// How often everything is looked at.
const PAUSE: Duration = Duration::from_millis(1500);

/// What the runtime knows of a pod.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    /// It is not attached.
    Absent,
    /// It is, and this is the result of ADD.
    Attached(Value),
    /// A call for it was killed.
    Uncertain,
}

struct Pod {
    name: String,
    host: Host,
    netns: PathBuf,
    known: Mutex<Known>,
}

struct Load {
    host: Host,
    pods: Vec<Pod>,
    configuration: Value,
    /// Whom pods reach.
    foreign: Vec<IpAddr>,
    _responder: Responder,
    /// GC and the looks are alone (CNI specification, section 3, "Lifecycle & Ordering").
    alone: RwLock<()>,
    /// How many pods may hold something.
    holding: AtomicUsize,
    /// How long a call takes, in microseconds.
    length: AtomicU64,
    stop: AtomicBool,
    calls: AtomicUsize,
    killed: AtomicUsize,
    refused: AtomicUsize,
}

impl Load {
    fn new(lab: &Lab) -> Outcome<Self> {
        let host = lab.nodes[0].host.clone();
        let (foreign, netns) = host.pod("foreign")?;
        wire::set_up(&foreign, "lo")?;
        let result = Call::new("ADD", "foreign", &netns, &network("other", 9, &json!({}))).execute(&host)?.result()?;
        let pod = |number: usize| {
            let name = format!("p{number}");
            let (pod, netns) = host.pod(&name)?;
            wire::set_up(&pod, "lo")?;
            Ok(Pod { name, host: pod, netns, known: Mutex::new(Known::Absent) })
        };
        let mut configuration = network(NETWORK, 7, &json!({}));
        configuration["ipam"]["ranges"] = json!([[{"subnet": "10.7.0.0/25"}], [{"subnet": "fd00:7::/64"}]]);
        Ok(Self {
            pods: (0..PODS).map(pod).collect::<Outcome<_>>()?,
            configuration,
            foreign: world::addresses(&result),
            _responder: Responder::start(&foreign)?,
            host,
            alone: RwLock::new(()),
            holding: AtomicUsize::new(0),
            length: AtomicU64::new(5000),
            stop: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            killed: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
        })
    }

    /// Executes a call, and kills it now and then: at any time from its start to a little after its end.
    fn execute(&self, call: &Call, random: &mut Random) -> Outcome<Answer> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if random.below(KILLED) == 0 {
            let limit = random.below(self.length.load(Ordering::Relaxed) * 5 / 4);
            let answer = call.execute_for(&self.host, Duration::from_micros(limit))?;
            self.killed.fetch_add(usize::from(answer.code.is_none()), Ordering::Relaxed);
            return Ok(answer);
        }
        let begin = Instant::now();
        let answer = call.execute(&self.host)?;
        let length = u64::try_from(begin.elapsed().as_micros()).unwrap();
        self.length.store(length, Ordering::Relaxed);
        Ok(answer)
    }

    fn call(&self, verb: &str, pod: &Pod) -> Call {
        Call::new(verb, &pod.name, &pod.netns, &self.configuration)
    }

    /// One step of one pod.
    fn step(&self, pod: &Pod, known: &mut Known, random: &mut Random) -> Outcome {
        let said = |verb: &str, answer: &Answer| format!("{verb} of {}: {answer:?}", pod.name);
        match (known.clone(), random.below(10)) {
            (Known::Absent, _) | (Known::Uncertain, 0..3) => {
                if *known == Known::Absent {
                    self.holding.fetch_add(1, Ordering::Relaxed);
                }
                let answer = self.execute(&self.call("ADD", pod), random)?;
                match answer.code {
                    Some(0) => *known = Known::Attached(answer.result()?),
                    None => *known = Known::Uncertain,
                    _ => match world::error(&answer)? {
                        // All are given: that is so only when about as many pods are there.
                        100 => {
                            self.refused.fetch_add(1, Ordering::Relaxed);
                            let holding = self.holding.load(Ordering::Relaxed);
                            check(holding + RUNTIMES >= ADDRESSES, || {
                                format!("{}, and only {holding} pods are there", said("ADD", &answer))
                            })?;
                            if *known == Known::Absent {
                                self.holding.fetch_sub(1, Ordering::Relaxed);
                            }
                        }
                        // The one that was killed had done all it had to.
                        101 if *known == Known::Uncertain => {}
                        _ => return Err(said("ADD", &answer)),
                    },
                }
            }
            (Known::Attached(_), 0) => {
                let answer = self.call("ADD", pod).execute(&self.host)?;
                check(world::error(&answer)? == 101, || said("a second ADD", &answer))?;
            }
            (Known::Attached(result), 1..3) => {
                let mut configuration = self.configuration.clone();
                configuration["prevResult"] = result;
                let call = Call::new("CHECK", &pod.name, &pod.netns, &configuration);
                let answer = self.execute(&call, random)?;
                check(matches!(answer.code, Some(0) | None), || said("CHECK", &answer))?;
            }
            (Known::Attached(_), _) | (Known::Uncertain, 3..8) => {
                let mut call = self.call("DEL", pod);
                if random.below(2) == 0 {
                    call = call.with("CNI_NETNS", "");
                }
                let answer = self.execute(&call, random)?;
                match answer.code {
                    Some(0) => {
                        *known = Known::Absent;
                        self.holding.fetch_sub(1, Ordering::Relaxed);
                    }
                    None => *known = Known::Uncertain,
                    _ => return Err(said("DEL", &answer)),
                }
            }
            // Left to GC.
            (Known::Uncertain, _) => {}
        }
        Ok(())
    }

    /// What one runtime does.
    fn live(&self, number: usize) -> Outcome {
        let mut random = Random::of(&format!("runtime {number}"));
        while !self.stop.load(Ordering::Relaxed) {
            let _with_others = self.alone.read().unwrap();
            let pod = &self.pods[usize::try_from(random.below(PODS as u64)).unwrap()];
            // Calls for one pod follow one another.
            let Ok(mut known) = pod.known.try_lock() else { continue };
            self.step(pod, &mut known, &mut random)?;
        }
        Ok(())
    }

    /// GC, with the pods that are attached and some of the uncertain; then everything is looked at.
    fn collect(&self, random: &mut Random) -> Outcome {
        let _alone = self.alone.write().unwrap();
        let mut pods: Vec<_> = self.pods.iter().map(|pod| (pod, pod.known.lock().unwrap())).collect();
        let (mut valid, mut given_up) = (Vec::new(), Vec::new());
        for (place, (pod, known)) in pods.iter().enumerate() {
            match **known {
                Known::Attached(_) => valid.push(pod.name.clone()),
                Known::Uncertain if random.below(2) == 0 => valid.push(pod.name.clone()),
                Known::Uncertain => given_up.push(place),
                Known::Absent => {}
            }
        }
        let answer = self.execute(&self.gc(&valid), random)?;
        match answer.code {
            Some(0) => {
                for place in given_up {
                    *pods[place].1 = Known::Absent;
                    self.holding.fetch_sub(1, Ordering::Relaxed);
                }
            }
            None => {}
            _ => return Err(format!("GC: {answer:?}")),
        }
        let known: Vec<_> = pods.iter().map(|(pod, known)| (*pod, (**known).clone())).collect();
        // A child of a killed DEL may still be at work.
        eventually(SOON, || self.whole(&known))?;
        let attached: Vec<_> = known.iter().filter(|(_, known)| matches!(known, Known::Attached(_))).collect();
        for _ in 0..attached.len().min(8) {
            let (pod, known) = attached[usize::try_from(random.below(attached.len() as u64)).unwrap()];
            self.reachable(pod, known)?;
        }
        world::reap();
        Ok(())
    }

    fn gc(&self, valid: &[String]) -> Call {
        let mut configuration = self.configuration.clone();
        let valid = valid.iter().map(|name| json!({"containerID": name, "ifname": "eth0"}));
        configuration["cni.dev/valid-attachments"] = valid.collect();
        Call::new("GC", "none", Path::new(""), &configuration)
    }

    /// That records, claims and devices are those of the pods that there are.
    fn whole(&self, known: &[(&Pod, Known)]) -> Outcome {
        let records = self.host.enter(records)?;
        let claimed: BTreeMap<_, _> = self.host.enter(claims)?.into_iter().collect();
        let mut held: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for (file, record) in &records {
            let container = record["attachment"]["container"].as_str().unwrap_or_default();
            let pod = known.iter().find(|(pod, known)| pod.name == container && *known != Known::Absent);
            check(pod.is_some(), || format!("{file} is of {container}, which is not there"))?;
            // Who was killed between its record and its claims holds nothing, whatever the record says.
            for address in held_by(record).into_iter().filter(|address| claimed.get(address) == Some(file)) {
                let other = held.insert(address, container);
                check(other.is_none(), || format!("{address} is held by {container} and {other:?}"))?;
            }
        }
        let links = self.host.run("ip", &["-brief", "link"])?;
        let mut devices: BTreeSet<_> = links
            .lines()
            .filter_map(|line| line.split(['@', ' ']).next().filter(|name| name.starts_with("pw")))
            .collect();
        let mut uncertain = 0;
        for (pod, known) in known {
            match known {
                Known::Absent => {}
                Known::Uncertain => uncertain += 1,
                Known::Attached(result) => {
                    let device = result["interfaces"][0]["name"].as_str().unwrap_or_default();
                    check(devices.remove(device), || format!("{device} of {} is not there", pod.name))?;
                    for address in world::addresses(result) {
                        let holder = held.get(&address);
                        check(holder == Some(&pod.name.as_str()), || {
                            format!("{address} is {}'s, and held by {holder:?}", pod.name)
                        })?;
                    }
                }
            }
        }
        // One is the foreign pod's.
        check(devices.len() <= uncertain + 1, || format!("{uncertain} pods are uncertain, and there are {devices:?}"))?;
        let names: BTreeSet<_> = records.iter().map(|(file, _)| file.as_str()).collect();
        for (address, holder) in claimed {
            check(held.contains_key(&address) && names.contains(holder.as_str()), || {
                format!("{address} is claimed by {holder}, which is no record of it")
            })?;
        }
        Ok(())
    }

    fn reachable(&self, pod: &Pod, known: &Known) -> Outcome {
        let Known::Attached(result) = known else { return Ok(()) };
        for own in world::addresses(result) {
            let foreign = self.foreign.iter().find(|other| other.is_ipv4() == own.is_ipv4()).unwrap();
            reaches(&pod.host, own, *foreign)?;
        }
        Ok(())
    }

    /// Everybody goes; and then every address is given once more.
    fn end(&self) -> Outcome {
        let mut random = Random::of("end");
        let mut attached = 0;
        for pod in &self.pods {
            let known = pod.known.lock().unwrap();
            self.reachable(pod, &known)?;
            attached += usize::from(matches!(*known, Known::Attached(_)));
            if random.below(2) == 0 {
                self.call("DEL", pod).execute(&self.host)?.result()?;
            }
        }
        eprintln!("{attached} pods were attached in the end, and all were reached in both families");
        self.gc(&[]).execute(&self.host)?.result().map(drop)
    }

    fn fill(&self) -> Outcome {
        let mut all = BTreeSet::new();
        for pod in &self.pods[..ADDRESSES] {
            all.extend(world::addresses(&self.call("ADD", pod).execute(&self.host)?.result()?));
        }
        check(all.len() == 2 * ADDRESSES, || format!("{} addresses for {ADDRESSES} pods", all.len()))?;
        let one_more = self.call("ADD", &self.pods[ADDRESSES]).execute(&self.host)?;
        check(world::error(&one_more)? == 100, || format!("one more: {one_more:?}"))?;
        self.gc(&[]).execute(&self.host)?.result().map(drop)
    }
}

/// The records of the network: names of files and what is in them.
fn records() -> Outcome<Vec<(String, Value)>> {
    let mut records = Vec::new();
    for place in ["attachments", "pending"] {
        for name in names(place)? {
            let path = Path::new(look::STATE).join(NETWORK).join(place).join(&name);
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            let record = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
            records.push((name, record));
        }
    }
    Ok(records)
}

fn claims() -> Outcome<Vec<(IpAddr, String)>> {
    let holder = |name: String| {
        let target = fs::read_link(Path::new(look::STATE).join(NETWORK).join("claims").join(&name)).ok()?;
        Some((name.parse().ok()?, target.file_name()?.to_str()?.to_owned()))
    };
    Ok(names("claims")?.into_iter().filter_map(holder).collect())
}

fn names(place: &str) -> Outcome<Vec<String>> {
    let directory = Path::new(look::STATE).join(NETWORK).join(place);
    let Ok(entries) = fs::read_dir(&directory) else { return Ok(Vec::new()) };
    entries
        .map(|entry| Ok(entry.map_err(|error| error.to_string())?.file_name().to_string_lossy().into_owned()))
        .collect()
}

fn held_by(record: &Value) -> Vec<IpAddr> {
    let addresses = record["addresses"].as_array().into_iter().flatten();
    addresses.filter_map(|held| held["address"].as_str()?.parse().ok()).collect()
}

#[test]
fn l1_l2_l5_concurrent_calls_killed_at_random_leave_nothing() {
    let seconds = std::env::var("PODWIRE_SOAK_SECONDS").map_or(20, |text| text.parse().unwrap());
    let lab = Lab::new(1).unwrap();
    let load = Load::new(&lab).unwrap();
    let before = (state(&load.host).unwrap(), look::settled(&load.host).unwrap(), look::disk(&load.host).unwrap());
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let outcome = thread::scope(|scope| {
        let load = &load;
        let live = |number| {
            scope.spawn(move || {
                let outcome = load.live(number);
                load.stop.store(true, Ordering::Relaxed);
                outcome
            })
        };
        let runtimes: Vec<_> = (0..RUNTIMES).map(live).collect();
        let mut random = Random::of("GC");
        let mut outcome = Ok(());
        while outcome.is_ok() && Instant::now() < deadline && !load.stop.load(Ordering::Relaxed) {
            // Not for anything to happen: so long the pods are left to themselves.
            thread::sleep(PAUSE);
            outcome = load.collect(&mut random);
        }
        load.stop.store(true, Ordering::Relaxed);
        runtimes.into_iter().fold(outcome, |outcome, runtime| outcome.and(runtime.join().unwrap()))
    });
    let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    let (calls, killed, refused) = (count(&load.calls), count(&load.killed), count(&load.refused));
    let random = Random::of("");
    eprintln!("{calls} calls in {seconds} s, {killed} killed, {refused} ADDs refused for want of an address; {random}");
    outcome.unwrap();
    for round in ["the load", "all addresses were given"] {
        if round == "the load" { load.end() } else { load.fill() }.unwrap();
        eventually(SOON, || {
            before.2.same(&look::disk(&load.host)?, "the disk")?;
            before.1.same(&look::kernel(&load.host)?, "the host")
        })
        .map_err(|why| format!("after {round}: {why}"))
        .unwrap();
    }
    same("the host", &before.0, &state(&load.host).unwrap()).unwrap();
}
