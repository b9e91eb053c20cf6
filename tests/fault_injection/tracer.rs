//! Executes a call of the plugin under ptrace(2), and disturbs it at one place: a system call by its number, in the process
//! itself or in a child of it, or a netlink message by its number.
//!
//! strace(1) counts the calls of each name in each process from one, so its n-th of a name in the parent always comes
//! before the n-th in the child: nothing could be done to the child alone. Here both are counted for themselves.
//!
//! What may not live here: what is expected of the plugin.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace::{self, AddressType, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use podwire_tests::lab::host::Host;
use podwire_tests::lab::program;
use podwire_tests::lab::runtime::{Answer, Call};

use super::errors;

/// Who makes a system call. Each is counted for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// The process that the runtime has started, before it reads stdin: the loading of the program, which takes a few
    /// calls more or less each time.
    Loader,
    /// The same process from there on.
    Plugin,
    /// A child of it.
    Child,
}

/// What is done at the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: the call is only recorded.
    None,
    /// SIGKILL in place of the n-th system call.
    Kill(Who, usize),
    /// The n-th system call is not made, and answers its first error, or its second.
    Error(Who, usize, usize),
    /// The n-th system call answers its first error, and so does every later one of its name.
    Lasting(Who, usize),
    /// The n-th system call says that a signal interrupted it.
    Signal(Who, usize),
    /// The n-th netlink message is made one that the kernel does not know.
    Refusal(usize),
    /// The n-th dump says that it was interrupted by a change.
    Interruption(usize),
}

/// A system call that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    /// By whom.
    pub who: Who,
    /// Its number (asm/unistd_64.h).
    pub number: i64,
    /// Its first argument.
    pub first: u64,
    /// Its second argument.
    pub second: u64,
    /// How many netlink messages it sends.
    pub messages: usize,
    /// Whether it received a part of a dump.
    pub dump: bool,
}

/// How a traced call ended.
#[derive(Debug)]
pub(crate) struct Traced {
    /// What it has answered.
    pub answer: Answer,
    /// What it did, as far as it was watched: it is let go once the fault has happened.
    pub steps: Vec<Step>,
    /// The system call at which the fault has happened, where it has.
    pub hit: Option<Step>,
}

/// How long a call may take that meets an error: longer than any wait of the plugin for something.
const PATIENCE: Duration = Duration::from_secs(50);

/// Bits of `nlmsg_flags` and bytes of `struct nlmsghdr` (uapi/linux/netlink.h).
const MULTI: u16 = 2;
const INTERRUPTED: u16 = 0x10;
const HEADER: u64 = 16;
/// A type of message beyond all that there are, in rtnetlink and in each subsystem of nfnetlink.
const UNKNOWN: u16 = 0x00ff;

/// Length and type of the end of a batch of nfnetlink (`NFNL_MSG_BATCH_END`): a header and `struct nfgenmsg`.
const BATCH_END: (u64, u16) = (20, 17);

/// A process that is watched.
#[derive(Default)]
struct Tracee {
    calls: usize,
    loaded: bool,
    /// How many of the next system calls are those of a look that is taken again.
    again: u8,
    /// The system call that it is in, and what it is to answer.
    within: Option<(usize, Option<Errno>)>,
}

struct Tracer {
    plugin: Pid,
    program: PathBuf,
    tracees: HashMap<Pid, Tracee>,
    /// Who is not to be waited for any more.
    ended: HashSet<Pid>,
    fault: Fault,
    lasting: Option<i64>,
    messages: usize,
    dumps: usize,
    steps: Vec<Step>,
    hit: Option<Step>,
    /// Whoever stops is let go.
    leaving: bool,
    status: Option<WaitStatus>,
}

/// Executes a call on a host, and disturbs it.
///
/// # Errors
/// When it cannot be executed or watched.
pub(crate) fn execute(host: &Host, call: &Call, fault: Fault) -> Result<Traced, String> {
    host.enter(|| trace(call, fault)).map_err(|why| format!("trace podwire on {}: {why}", host.name))
}

fn trace(call: &Call, fault: Fault) -> Result<Traced, String> {
    let started = std::time::Instant::now();
    let program = program("podwire").map_err(|error| error.to_string())?;
    let mut child = start(call, &program)?;
    let id = i32::try_from(child.id()).map_err(|error| error.to_string())?;
    let plugin = Pid::from_raw(id);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(plugin, options).map_err(|errno| format!("seize: {errno}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(format!("\n{}", call.input).as_bytes()).map_err(|error| format!("write stdin: {error}"))?;
    }
    let mut tracer = Tracer {
        plugin,
        program,
        tracees: HashMap::new(),
        ended: HashSet::new(),
        fault,
        lasting: None,
        messages: 0,
        dumps: 0,
        steps: Vec::new(),
        hit: None,
        leaving: false,
        status: None,
    };
    within(PATIENCE, plugin, || tracer.watch()).map_err(|errno| format!("watch: {errno}"))?;
    let code = match tracer.status {
        Some(WaitStatus::Exited(_, code)) => Some(code),
        _ => None,
    };
    let (mut output, mut log) = (String::new(), String::new());
    // To the end: who has them open still is a child that was let go, and it closes them.
    let read = |stream: &mut dyn Read, text: &mut String| stream.read_to_string(text).map(drop);
    child.stdout.take().map_or(Ok(()), |mut stream| read(&mut stream, &mut output)).map_err(|e| e.to_string())?;
    child.stderr.take().map_or(Ok(()), |mut stream| read(&mut stream, &mut log)).map_err(|e| e.to_string())?;
    Ok(Traced { answer: Answer { code, output, log, took: started.elapsed() }, steps: tracer.steps, hit: tracer.hit })
}

/// Does something that ends with a process, which is killed when it takes too long.
fn within<T>(limit: Duration, process: Pid, work: impl FnOnce() -> T) -> T {
    let (done, wait) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if wait.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // Its end says what is to be said.
                let _ = kill(process, Signal::SIGKILL);
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// A shell that becomes the plugin when it has read a line: until then there is time to seize it.
fn start(call: &Call, program: &Path) -> Result<Child, String> {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read -r go && exec \"$0\""]).arg(program);
    command.env_clear().envs(call.environment.iter().map(|(name, value)| (name, value))).current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| format!("start: {error}"))
}

impl Tracer {
    /// Until the plugin has ended and nobody else is watched.
    fn watch(&mut self) -> nix::Result<()> {
        while self.status.is_none() || !self.tracees.is_empty() {
            // Of this thread's children and tracees only: others wait for theirs.
            let status = match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            match status {
                WaitStatus::Exited(who, _) | WaitStatus::Signaled(who, ..) => {
                    self.tracees.remove(&who);
                    self.ended.insert(who);
                    if who == self.plugin {
                        self.status = Some(status);
                    }
                }
                WaitStatus::PtraceEvent(who, signal, event) => self.event(who, signal, event)?,
                WaitStatus::PtraceSyscall(who) => self.system_call(who)?,
                WaitStatus::Stopped(who, signal) => self.go_on(who, Some(signal))?,
                _ => {}
            }
        }
        Ok(())
    }

    fn event(&mut self, who: Pid, signal: Signal, event: i32) -> nix::Result<()> {
        if event == Event::PTRACE_EVENT_EXEC as i32 && who == self.plugin {
            // It may still be becoming the shell.
            if fs::read_link(format!("/proc/{who}/exe")).is_ok_and(|program| program == self.program) {
                self.tracees.insert(who, Tracee::default());
            } else {
                return ptrace::cont(who, None);
            }
        } else if event == Event::PTRACE_EVENT_STOP as i32 && signal == Signal::SIGTRAP {
            // A child's first stop.
            self.tracees.entry(who).or_default();
        } else if [Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK, Event::PTRACE_EVENT_CLONE]
            .iter()
            .any(|birth| event == *birth as i32)
        {
            // Its parent may be killed before it stops for the first time, and it has to be let go all the same. It may
            // also have ended already.
            let born = i32::try_from(ptrace::getevent(who)?).map_or(who, Pid::from_raw);
            if !self.ended.contains(&born) {
                self.tracees.entry(born).or_default();
            }
        }
        self.go_on(who, None)
    }

    /// Lets a stopped process go on, to its next system call or for good.
    fn go_on(&mut self, who: Pid, signal: Option<Signal>) -> nix::Result<()> {
        let gone = if self.leaving {
            self.tracees.remove(&who);
            self.ended.insert(who);
            ptrace::detach(who, signal)
        } else {
            ptrace::syscall(who, signal)
        };
        // It may have been killed meanwhile.
        if gone == Err(Errno::ESRCH) { Ok(()) } else { gone }
    }

    fn system_call(&mut self, who: Pid) -> nix::Result<()> {
        let entering = match ptrace::syscall_info(who) {
            Ok(info) => info.op == libc::PTRACE_SYSCALL_INFO_ENTRY,
            Err(Errno::ESRCH) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if self.leaving {
            return self.go_on(who, None);
        }
        let mut registers = ptrace::getregs(who)?;
        if entering {
            if self.enter(who, &mut registers)? {
                return Ok(());
            }
        } else {
            self.leave(who, &mut registers)?;
        }
        self.go_on(who, None)
    }

    /// Answers whether the process is dead.
    fn enter(&mut self, who: Pid, registers: &mut user_regs_struct) -> nix::Result<bool> {
        let number = registers.orig_rax.cast_signed();
        let tracee = self.tracees.entry(who).or_default();
        if !tracee.loaded && (who != self.plugin || (number == libc::SYS_read && registers.rdi == 0)) {
            (tracee.loaded, tracee.calls) = (true, 0);
        }
        // Whoever waits looks again and again, how often is the machine's affair. Counted is the first look: nothing but
        // the time is different at the others.
        let again = match number {
            libc::SYS_clock_nanosleep => {
                tracee.again = 2;
                true
            }
            libc::SYS_sendto | libc::SYS_recvfrom if tracee.again > 0 => {
                tracee.again -= 1;
                true
            }
            _ => false,
        };
        if again {
            return Ok(false);
        }
        (tracee.again, tracee.calls) = (0, tracee.calls + 1);
        let calls = tracee.calls;
        let of = match tracee.loaded {
            false => Who::Loader,
            true if who == self.plugin => Who::Plugin,
            true => Who::Child,
        };
        let mut step = Step { who: of, number, first: registers.rdi, second: registers.rsi, messages: 0, dump: false };
        if number == libc::SYS_sendto {
            self.count_messages(who, registers, &mut step)?;
        }
        self.steps.push(step);
        let mut answer = None;
        match self.fault {
            Fault::Kill(whose, place) if (whose, place) == (of, calls) => {
                (self.hit, self.leaving) = (Some(step), true);
                self.tracees.remove(&who);
                kill(who, Signal::SIGKILL)?;
                return Ok(true);
            }
            Fault::Error(whose, place, choice) if (whose, place) == (of, calls) => {
                answer = errors::errors(&step).get(choice).copied();
            }
            Fault::Signal(whose, place) if (whose, place) == (of, calls) => answer = errors::interruption(&step),
            Fault::Lasting(whose, place) => {
                if (whose, place) == (of, calls) {
                    self.lasting = Some(number);
                }
                answer = errors::errors(&step).first().copied().filter(|_| self.lasting == Some(number));
            }
            _ => {}
        }
        self.hit = self.hit.or(answer.map(|_| step));
        if answer.is_some() {
            registers.orig_rax = u64::MAX;
            ptrace::setregs(who, *registers)?;
        }
        let place = self.steps.len() - 1;
        self.tracees.entry(who).or_default().within = Some((place, answer));
        Ok(false)
    }

    fn leave(&mut self, who: Pid, registers: &mut user_regs_struct) -> nix::Result<()> {
        let Some((place, answer)) = self.tracees.entry(who).or_default().within.take() else { return Ok(()) };
        if let Some(errno) = answer {
            registers.rax = (-i64::from(errno as i32)).cast_unsigned();
            ptrace::setregs(who, *registers)?;
            self.leaving = !matches!(self.fault, Fault::Lasting(..));
            return Ok(());
        }
        if self.steps[place].number == libc::SYS_recvfrom && registers.rax.cast_signed() >= HEADER.cast_signed() {
            let (flags, word) = half_word(who, registers.rsi + 6)?;
            if flags & MULTI != 0 {
                self.dumps += 1;
                self.steps[place].dump = true;
                if self.fault == Fault::Interruption(self.dumps) {
                    word.put(who, flags | INTERRUPTED)?;
                    (self.hit, self.leaving) = (Some(self.steps[place]), true);
                }
            }
        }
        Ok(())
    }

    /// Counts the messages that are sent, and makes the one that is to be refused unknown.
    fn count_messages(&mut self, who: Pid, registers: &user_regs_struct, step: &mut Step) -> nix::Result<()> {
        let (mut place, end) = (registers.rsi, registers.rsi + registers.rdx);
        while place + HEADER <= end {
            let (length, _) = half_word(who, place)?;
            if (u64::from(length), half_word(who, place + 4)?.0) == BATCH_END {
                // Without its end a batch is not done, and nobody is told: the kernel knows no way to refuse it.
                break;
            }
            step.messages += 1;
            self.messages += 1;
            if self.fault == Fault::Refusal(self.messages) {
                half_word(who, place + 4)?.1.put(who, UNKNOWN)?;
                (self.hit, self.leaving) = (Some(*step), true);
            }
            place += u64::from(length).max(HEADER).next_multiple_of(4);
        }
        Ok(())
    }
}

/// Where two bytes are in the memory of a process.
struct Word {
    address: AddressType,
    content: c_long,
    shift: u64,
}

/// Two bytes of the memory of a process: words are what ptrace reads and writes.
fn half_word(who: Pid, address: u64) -> nix::Result<(u16, Word)> {
    let shift = (address % 8) * 8;
    let aligned = (address - address % 8) as AddressType;
    let content = ptrace::read(who, aligned)?;
    let bytes = (content.cast_unsigned() >> shift).to_ne_bytes();
    Ok((u16::from_ne_bytes([bytes[0], bytes[1]]), Word { address: aligned, content, shift }))
}

impl Word {
    fn put(&self, who: Pid, value: u16) -> nix::Result<()> {
        let cleared = self.content.cast_unsigned() & !(0xffff << self.shift);
        ptrace::write(who, self.address, (cleared | (u64::from(value) << self.shift)).cast_signed())
    }
}
