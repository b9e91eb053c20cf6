//! Which error each system call is made to answer: what Linux answers when memory, descriptors, permission or space are
//! wanting, or the disk is broken. What may not live here: how it is done.

use nix::errno::Errno::{self, EACCES, EAGAIN, EINTR, EIO, EMFILE, ENOBUFS, ENOLCK, ENOMEM, ENOSPC, EPERM};
use nix::libc::{self, c_long};

use super::tracer::Step;

/// What is known of a system call.
struct Call {
    number: c_long,
    name: &'static str,
    /// What it is made to answer; nothing where it is left alone.
    errors: &'static [Errno],
    /// Whether it is made again when a signal has interrupted it (signal(7)).
    interruptible: bool,
}

const fn call(number: c_long, name: &'static str, errors: &'static [Errno]) -> Call {
    Call { number, name, errors, interruptible: false }
}

const fn slow(number: c_long, name: &'static str, errors: &'static [Errno]) -> Call {
    Call { number, name, errors, interruptible: true }
}

/// Every system call that the plugin has been seen to make.
///
/// Left alone are those that Linux never refuses to who calls them rightly, and those by which memory is had or the
/// process is started and ended: without memory the allocator aborts, and that is what the kills show.
const CALLS: &[Call] = &[
    slow(libc::SYS_read, "read", &[EIO]),
    slow(libc::SYS_write, "write", &[ENOSPC, EIO]),
    slow(libc::SYS_pread64, "pread64", &[EIO]),
    slow(libc::SYS_pwrite64, "pwrite64", &[ENOSPC, EIO]),
    call(libc::SYS_openat, "openat", &[ENOSPC, EMFILE]),
    call(libc::SYS_open, "open", &[ENOSPC, EMFILE]),
    call(libc::SYS_statx, "statx", &[EACCES]),
    call(libc::SYS_stat, "stat", &[EACCES]),
    call(libc::SYS_fstat, "fstat", &[EIO]),
    call(libc::SYS_lstat, "lstat", &[EACCES]),
    call(libc::SYS_newfstatat, "newfstatat", &[EACCES]),
    call(libc::SYS_readlink, "readlink", &[EIO]),
    call(libc::SYS_getdents64, "getdents64", &[EIO]),
    call(libc::SYS_access, "access", &[EACCES]),
    call(libc::SYS_mkdir, "mkdir", &[ENOSPC]),
    call(libc::SYS_rename, "rename", &[ENOSPC, EIO]),
    call(libc::SYS_symlink, "symlink", &[ENOSPC, EIO]),
    call(libc::SYS_unlink, "unlink", &[EIO]),
    call(libc::SYS_lseek, "lseek", &[EIO]),
    slow(libc::SYS_flock, "flock", &[ENOLCK]),
    call(libc::SYS_setns, "setns", &[ENOMEM, EPERM]),
    call(libc::SYS_socket, "socket", &[EMFILE, ENOBUFS]),
    call(libc::SYS_bind, "bind", &[ENOMEM]),
    call(libc::SYS_getsockname, "getsockname", &[ENOBUFS]),
    call(libc::SYS_setsockopt, "setsockopt", &[ENOMEM]),
    slow(libc::SYS_sendto, "sendto", &[ENOBUFS, EPERM]),
    slow(libc::SYS_recvfrom, "recvfrom", &[ENOMEM, ENOBUFS]),
    slow(libc::SYS_sendmsg, "sendmsg", &[ENOBUFS, EPERM]),
    slow(libc::SYS_recvmsg, "recvmsg", &[ENOMEM, ENOBUFS]),
    slow(libc::SYS_poll, "poll", &[ENOMEM]),
    call(libc::SYS_pipe2, "pipe2", &[EMFILE]),
    call(libc::SYS_ioctl, "ioctl", &[EIO]),
    call(libc::SYS_clone, "clone", &[EAGAIN, ENOMEM]),
    call(libc::SYS_clone3, "clone3", &[EAGAIN, ENOMEM]),
    slow(libc::SYS_wait4, "wait4", &[]),
    slow(libc::SYS_clock_nanosleep, "clock_nanosleep", &[]),
    // Nothing is left to fail when a file of these file systems is closed, and the standard library relies on it.
    call(libc::SYS_close, "close", &[]),
    // Of the standard library, to see whether a descriptor that is closed was open; it ends the process when not.
    call(libc::SYS_fcntl, "fcntl", &[]),
    call(libc::SYS_getrandom, "getrandom", &[]),
    call(libc::SYS_gettid, "gettid", &[]),
    call(libc::SYS_getpid, "getpid", &[]),
    call(libc::SYS_mmap, "mmap", &[]),
    call(libc::SYS_munmap, "munmap", &[]),
    call(libc::SYS_mremap, "mremap", &[]),
    call(libc::SYS_mprotect, "mprotect", &[]),
    call(libc::SYS_madvise, "madvise", &[]),
    call(libc::SYS_brk, "brk", &[]),
    call(libc::SYS_execve, "execve", &[]),
    call(libc::SYS_exit, "exit", &[]),
    call(libc::SYS_exit_group, "exit_group", &[]),
    call(libc::SYS_arch_prctl, "arch_prctl", &[]),
    call(libc::SYS_geteuid, "geteuid", &[]),
    call(libc::SYS_prlimit64, "prlimit64", &[]),
    call(libc::SYS_rseq, "rseq", &[]),
    call(libc::SYS_set_tid_address, "set_tid_address", &[]),
    call(libc::SYS_set_robust_list, "set_robust_list", &[]),
    call(libc::SYS_sched_getaffinity, "sched_getaffinity", &[]),
    call(libc::SYS_sigaltstack, "sigaltstack", &[]),
    call(libc::SYS_rt_sigaction, "rt_sigaction", &[]),
    call(libc::SYS_rt_sigprocmask, "rt_sigprocmask", &[]),
];

fn known(step: &Step) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.number == step.number)
}

/// Its name.
pub(crate) fn name(step: &Step) -> String {
    known(step).map_or_else(|| format!("system call {}", step.number), |call| call.name.to_owned())
}

/// A lock is never refused to be given back (flock(2)).
fn can_fail(step: &Step) -> bool {
    !(step.number == libc::SYS_flock && step.second == u64::from(libc::LOCK_UN.cast_unsigned()))
}

/// The errors that a call is made to answer. One that this list does not know fails with EIO, so that a new one is not
/// forgotten.
pub(crate) fn errors(step: &Step) -> &'static [Errno] {
    if !can_fail(step) { &[] } else { known(step).map_or(&[EIO], |call| call.errors) }
}

/// The error of a call that a signal has interrupted, where it is one that signals interrupt.
pub(crate) fn interruption(step: &Step) -> Option<Errno> {
    known(step).filter(|call| call.interruptible && can_fail(step)).map(|_| EINTR)
}
