//! Every place at which a call can be disturbed, or a random choice of them: what is done there, and what must hold
//! afterwards.

use std::collections::HashMap;
use std::time::Instant;

use nix::libc;
use podwire_tests::lab::runtime::Answer;
use podwire_tests::lab::scene::{Outcome, check};
use serde_json::Value;

use super::errors;
use super::random::Random;
use super::tracer::{self, Fault, Step, Traced, Who};
use super::world::{self, Case, Node, World};

/// One of so many points is played, unless PODWIRE_POINTS says otherwise: `all`, or another number.
const ONE_OF: u64 = 8;

/// So many points are played between two looks with all programs.
const WHOLE: usize = 40;

/// More failures than this teach nothing new.
const ENOUGH: usize = 8;

/// What a runtime does about a call that did not go to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// DEL, the pod being there still.
    Del,
    /// DEL of a pod that is said to have gone: CNI_NETNS is empty.
    DelWithoutNamespace,
    /// GC, with no attachment that is valid.
    Gc,
    /// The same ADD once more; and DEL in the end.
    AddAgain,
}

/// The ways after which nothing is to be left.
pub(crate) const CLEAN: [Way; 3] = [Way::Del, Way::DelWithoutNamespace, Way::Gc];

/// And the one after which the pod is to be attached.
pub(crate) const ALL: [Way; 4] = [Way::Del, Way::DelWithoutNamespace, Way::Gc, Way::AddAgain];

/// The points of one verb.
pub(crate) struct Points {
    name: String,
    case: Case,
    verb: &'static str,
    world: Option<World>,
    random: Random,
    one_of: u64,
    begin: Instant,
    played: usize,
    passed_over: usize,
    missed: usize,
    failures: Vec<String>,
}

impl Points {
    /// The points of a verb, in a world of their own.
    pub(crate) fn of(test: &str, verb: &'static str, case: Case) -> Self {
        let one_of = match std::env::var("PODWIRE_POINTS").ok().as_deref() {
            None => ONE_OF,
            Some("all") => 1,
            Some(number) => number.parse().unwrap(),
        };
        let name = format!("{test}, {verb}, {}", case.name);
        let random = Random::of(&name);
        Self {
            name,
            case,
            verb,
            world: None,
            random,
            one_of,
            begin: Instant::now(),
            played: 0,
            passed_over: 0,
            missed: 0,
            failures: Vec::new(),
        }
    }

    /// What the verb does when nothing disturbs it.
    pub(crate) fn record(&mut self) -> Vec<Step> {
        let (verb, world) = (self.verb, self.world());
        let node = node(world, verb, Way::Del);
        prepare(node, verb).unwrap();
        let traced = tracer::execute(&node.host, &node.call(verb), Fault::None).unwrap();
        assert_eq!(traced.answer.code, Some(0), "{:?}", traced.answer);
        clean(node, Way::Del).unwrap();
        traced.steps
    }

    fn world(&mut self) -> &World {
        let case = self.case;
        self.world.get_or_insert_with(|| World::new(case).unwrap())
    }

    /// Plays one point, or skips it. `body` says what must hold at once, before the way is gone.
    fn play(&mut self, what: &str, fault: Fault, way: Option<Way>, body: impl FnOnce(&Node, &Traced) -> Outcome) {
        if self.failures.len() >= ENOUGH {
            return;
        }
        if self.random.below(self.one_of) != 0 {
            self.passed_over += 1;
            return;
        }
        self.played += 1;
        let whole = self.played.is_multiple_of(WHOLE);
        let verb = self.verb;
        let node = node(self.world(), verb, way.unwrap_or(Way::Del));
        let (mut missed, mut said) = (false, String::new());
        let point = || -> Outcome {
            prepare(node, verb)?;
            let begin = Instant::now();
            let traced = tracer::execute(&node.host, &node.call(verb), fault)?;
            missed = traced.hit.is_none();
            let at = traced.hit.map_or_else(|| "nothing".into(), |step| errors::name(&step));
            said = format!("{at} was hit, and after {:?} it said {:?}", begin.elapsed(), traced.answer);
            if std::env::var_os("PODWIRE_TELL").is_some() {
                eprintln!("{what}: {way:?}: {said}");
            }
            body(node, &traced)?;
            clean(node, way.unwrap_or(Way::Del))?;
            node.others_untouched()?;
            if whole { node.as_before_in_all() } else { Ok(()) }
        };
        let outcome = point();
        self.missed += usize::from(missed);
        if let Err(why) = outcome {
            let way = way.map_or_else(String::new, |way| format!(", then {way:?}"));
            self.failures.push(format!("{what}{way}: {why}\n  {said}"));
            // Whatever is left must not be taken for that of the next.
            self.world = None;
        }
        world::reap();
    }

    /// SIGKILL at every system call, and then each of some ways.
    pub(crate) fn kill(&mut self, ways: &[Way]) {
        let mut calls = HashMap::new();
        for step in self.record() {
            let number: &mut usize = calls.entry(step.who).or_default();
            *number += 1;
            let what = format!("SIGKILL at {:?}'s system call {number}", step.who);
            for way in ways {
                self.play(&what, Fault::Kill(step.who, *number), Some(*way), |_, _| Ok(()));
            }
        }
    }

    /// Every system call answers each of its errors once.
    pub(crate) fn fail_once(&mut self) {
        let verb = self.verb;
        for (who, number, step) in numbered(&self.record()) {
            for choice in 0..errors::errors(&step).len() {
                let what = format!("error {choice} of {who:?}'s system call {number}");
                self.play(&what, Fault::Error(who, number, choice), None, |node, traced| {
                    failed_cleanly(verb, node, traced)
                });
            }
        }
    }

    /// Every system call answers an error from its n-th time on, which goes on while this call tries to undo what it did.
    pub(crate) fn fail_for_good(&mut self, ways: &[Way]) {
        for (who, number, step) in numbered(&self.record()) {
            if errors::errors(&step).is_empty() {
                continue;
            }
            let what = format!("errors from {who:?}'s system call {number} on");
            for way in ways {
                self.play(&what, Fault::Lasting(who, number), Some(*way), |_, traced| failed(traced));
            }
        }
    }

    /// Every netlink message is refused once.
    pub(crate) fn refuse(&mut self) {
        let (verb, messages) = (self.verb, self.record().iter().map(|step| step.messages).sum::<usize>());
        for number in 1..=messages {
            let what = format!("netlink message {number} refused");
            self.play(&what, Fault::Refusal(number), None, |node, traced| failed_cleanly(verb, node, traced));
        }
    }

    /// Every system call that a signal can interrupt is interrupted once, and so is every dump: nobody is to notice.
    pub(crate) fn interrupt(&mut self) {
        let (verb, steps) = (self.verb, self.record());
        let succeeds = |node: &Node, traced: &Traced| succeeded(verb, node, &traced.answer);
        for (who, number, step) in numbered(&steps) {
            if errors::interruption(&step).is_some() {
                let what = format!("a signal at {who:?}'s system call {number}");
                self.play(&what, Fault::Signal(who, number), None, succeeds);
            }
        }
        for number in 1..=steps.iter().filter(|step| step.dump).count() {
            let what = format!("part {number} of dumps says it was interrupted");
            self.play(&what, Fault::Interruption(number), None, succeeds);
        }
    }
}

impl Drop for Points {
    /// Says how it went, and fails when something did.
    fn drop(&mut self) {
        let Self { name, played, passed_over, missed, .. } = self;
        let seconds = self.begin.elapsed().as_secs_f32();
        eprintln!(
            "{name}: {played} points played, {passed_over} passed over, {missed} not reached, {seconds:.1} s, {}",
            self.random
        );
        if !std::thread::panicking() && !self.failures.is_empty() {
            panic!("{name} ({}):\n{}", self.random, self.failures.join("\n"));
        }
    }
}

/// Where it is played: GC with an empty list takes away everything of the network.
fn node<'a>(world: &'a World, verb: &str, way: Way) -> &'a Node {
    if verb == "GC" || way == Way::Gc { &world.lonely } else { &world.shared }
}

fn prepare(node: &Node, verb: &str) -> Outcome {
    node.renew()?;
    if verb == "ADD" { Ok(()) } else { node.call("ADD").execute(&node.host)?.result().map(drop) }
}

/// Goes a way, and looks whether everything is as before; then whether the pod can be attached, and detached again.
fn clean(node: &Node, way: Way) -> Outcome {
    let silent = |answer: Answer| answer.result().and_then(|said| check(said.is_null(), || said.to_string()));
    let del = node.call("DEL");
    match way {
        Way::Del => silent(del.execute(&node.host)?)?,
        Way::DelWithoutNamespace => silent(del.clone().with("CNI_NETNS", "").execute(&node.host)?)?,
        Way::Gc => silent(node.call("GC").execute(&node.host)?)?,
        Way::AddAgain => {
            let answer = node.call("ADD").execute(&node.host)?;
            if answer.code == Some(0) {
                attached(node, &answer.result()?)?;
            } else {
                // Its last step had been done.
                check(world::error(&answer)? == 101, || format!("ADD again: {answer:?}"))?;
            }
            silent(del.execute(&node.host)?)?;
        }
    }
    node.as_before(way == Way::Del || way == Way::AddAgain).map_err(|why| format!("after {way:?}: {why}"))?;
    node.renew()?;
    let result = node.call("ADD").execute(&node.host)?.result().map_err(|why| format!("the next ADD: {why}"))?;
    attached(node, &result)?;
    silent(del.execute(&node.host)?).map_err(|why| format!("the next DEL: {why}"))
}

fn attached(node: &Node, result: &Value) -> Outcome {
    check(world::addresses(result).len() == 2, || format!("not two addresses: {result}"))?;
    node.check(result).execute(&node.host)?.result().map(drop)
}

/// A call that fails says so as the specification has it.
fn failed(traced: &Traced) -> Outcome {
    let Traced { answer, hit, .. } = traced;
    let at = hit.map(|step| (step.number, step.first));
    match (answer.code, at) {
        (Some(0), _) => Ok(()),
        // Nothing may be done in the wrong namespace, and be it to say so.
        (None, Some((libc::SYS_setns, _))) => {
            check(answer.log.contains("return from a pod's network namespace"), || format!("{answer:?}"))
        }
        // Nobody reads the answer.
        (Some(1), Some((libc::SYS_write, _))) if answer.output.is_empty() => Ok(()),
        _ => world::error(answer).map(drop),
    }
}

/// ADD that met an error has done all of its work or none of it. DEL and GC may have done a part, and are called again.
fn failed_cleanly(verb: &str, node: &Node, traced: &Traced) -> Outcome {
    failed(traced)?;
    let at = traced.hit.map(|step| step.number);
    match (traced.answer.code, at) {
        // A lock file that could not be locked, looked at or removed: nobody holds it, and the next who takes that
        // lock removes it.
        (Some(_), Some(libc::SYS_flock | libc::SYS_statx | libc::SYS_unlink)) if node.has_turns() => Ok(()),
        (Some(0), _) => succeeded(verb, node, &traced.answer),
        (Some(_), _) if verb == "ADD" => node.as_before(true).map_err(|why| format!("at once: {why}")),
        _ => Ok(()),
    }
}

fn succeeded(verb: &str, node: &Node, answer: &Answer) -> Outcome {
    let result = answer.result()?;
    if verb == "ADD" { attached(node, &result) } else { node.as_before(verb == "DEL") }
}

/// The steps with their numbers, from where the plugin reads stdin on: what comes before is the loading of the program,
/// which has not begun to do anything.
fn numbered(steps: &[Step]) -> Vec<(Who, usize, Step)> {
    let mut calls: HashMap<Who, usize> = HashMap::new();
    let numbered = steps.iter().map(|step| {
        let number = calls.entry(step.who).or_default();
        *number += 1;
        (step.who, *number, *step)
    });
    numbered.filter(|(who, ..)| *who != Who::Loader).collect()
}
