// SPDX-License-Identifier: Apache-2.0
//! Seccomp filters from the lists in `rules`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

pub use super::rules::Kind;
use super::rules::{self, Test};

/// Compiles the filter for a kind of thread: everything not listed kills the process.
pub fn filter(kind: Kind) -> Result<BpfProgram, seccompiler::Error> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allow in rules::rules(kind) {
        let rules = calls.entry(allow.call).or_default();
        let conditions: Result<Vec<_>, _> =
            allow.tests.iter().map(|test| condition(*test)).collect();
        let conditions = conditions.map_err(seccompiler::Error::Backend)?;
        if !conditions.is_empty() {
            rules.push(SeccompRule::new(conditions).map_err(seccompiler::Error::Backend)?);
        }
    }
    let target = std::env::consts::ARCH
        .try_into()
        .map_err(seccompiler::Error::Backend)?;
    SeccompFilter::new(
        calls,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        target,
    )
    .and_then(BpfProgram::try_from)
    .map_err(seccompiler::Error::Backend)
}

fn condition(test: Test) -> Result<SeccompCondition, seccompiler::BackendError> {
    match test {
        Test::Equal { argument, value } => {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
        }
        Test::Masked {
            argument,
            mask,
            value,
        } => SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(mask),
            value,
        ),
    }
}

/// Confines the calling thread, for good.
pub fn apply(filter: &BpfProgram) -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(filter)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use racklet_linux::signal::StopRequests;
    use racklet_linux::tap::{self, Offloads};

    use super::*;
    use crate::devices::rng;
    use crate::dial;

    /// Runs `act` in a child under the filter; gives its exit status or the signal that ended it, negated.
    fn under(kind: Kind, act: impl FnOnce()) -> i32 {
        let filter = filter(kind).unwrap();
        // SAFETY: the child runs only the filter and `act`, which make system calls and allocate nothing, and leaves by
        // `exit_group`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            if apply(&filter).is_ok() {
                act();
            }
            // SAFETY: ends the child at once.
            unsafe { libc::syscall(libc::SYS_exit_group, 0) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        if libc::WIFSIGNALED(status) {
            -libc::WTERMSIG(status)
        } else {
            libc::WEXITSTATUS(status)
        }
    }

    fn call(number: libc::c_long, a: u64, b: u64, c: u64) {
        // SAFETY: bad descriptors and null pointers: the kernel answers with an error or the filter kills.
        unsafe { libc::syscall(number, a, b, c, 0, 0, 0) };
    }

    #[test]
    fn what_a_thread_needs_is_allowed() {
        assert_eq!(
            under(Kind::Vcpu, || call(libc::SYS_ioctl, 1000, 0xae80, 0)),
            0
        );
        assert_eq!(under(Kind::Vcpu, || call(libc::SYS_mmap, 0, 4096, 3)), 0);
        assert_eq!(
            under(Kind::EventLoop, || call(
                libc::SYS_socket,
                libc::AF_UNIX as u64,
                1,
                0
            )),
            0
        );
        assert_eq!(
            under(Kind::EventLoop, || call(libc::SYS_ioctl, 1000, TUN, 0)),
            0
        );
    }

    #[test]
    fn what_the_event_loop_does_after_the_start_passes_its_filter() {
        let signals = StopRequests::block().unwrap();
        let null = File::open("/dev/null").unwrap();
        let pass = |act: &dyn Fn()| assert_eq!(under(Kind::EventLoop, act), 0);
        pass(&|| assert!(rng::fill(&mut [0; 64]).is_ok()));
        pass(&|| assert!(dial::connect_to("/nowhere").is_err()));
        pass(&|| assert!(tap::set_offloads(&null, Offloads::default()).is_err()));
        pass(&|| assert!(!signals.take()));
    }

    const TUN: u64 = racklet_linux::tap::TUNSETOFFLOAD as u64;

    #[test]
    fn everything_else_kills() {
        let killed = -libc::SIGSYS;
        for kind in [Kind::Vcpu, Kind::EventLoop] {
            assert_eq!(under(kind, || call(libc::SYS_execve, 0, 0, 0)), killed);
            assert_eq!(under(kind, || call(libc::SYS_clone, 0, 0, 0)), killed);
            assert_eq!(under(kind, || call(libc::SYS_kill, 0, 0, 0)), killed);
            assert_eq!(under(kind, || call(libc::SYS_ptrace, 0, 0, 0)), killed);
            assert_eq!(under(kind, || call(libc::SYS_mount, 0, 0, 0)), killed);
            assert_eq!(under(kind, || call(libc::SYS_symlinkat, 0, 0, 0)), killed);
            assert_eq!(
                under(kind, || call(
                    libc::SYS_mmap,
                    0,
                    4096,
                    libc::PROT_EXEC as u64
                )),
                killed
            );
            assert_eq!(under(kind, || call(libc::SYS_mprotect, 0, 4096, 7)), killed);
            assert_eq!(
                under(kind, || call(libc::SYS_socket, libc::AF_INET as u64, 1, 0)),
                killed
            );
            assert_eq!(
                under(kind, || call(libc::SYS_ioctl, 1000, 0xae01, 0)),
                killed,
                "KVM_CREATE_VM"
            );
        }
        assert_eq!(
            under(Kind::Vcpu, || call(libc::SYS_openat, 0, 0, 0)),
            killed
        );
        assert_eq!(
            under(Kind::Vcpu, || call(libc::SYS_ioctl, 1000, TUN, 0)),
            killed
        );
        assert_eq!(
            under(Kind::EventLoop, || call(libc::SYS_ioctl, 1000, 0xae80, 0)),
            killed
        );
    }
}
