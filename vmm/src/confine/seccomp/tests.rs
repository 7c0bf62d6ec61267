// SPDX-License-Identifier: Apache-2.0
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
