// SPDX-License-Identifier: Apache-2.0
//! How a vCPU is fetched out of the guest: a signal to its thread, whose handler asks KVM to come back at once (`immediate_exit`,
//! Documentation/virt/kvm/api.rst). So it is not lost where it comes just before the thread enters the guest.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use kvm_ioctls::VcpuFd;

/// Nobody else uses it here, and it interrupts any wait of any thread harmlessly: each is begun again.
pub(crate) const SIGNAL: libc::c_int = libc::SIGUSR1;

thread_local! {
    /// `immediate_exit` of this thread's vCPU; null where it has none. Made without allocating, for the handler.
    static IMMEDIATE_EXIT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

extern "C" fn handler(_: libc::c_int) {
    let place = IMMEDIATE_EXIT.get();
    if !place.is_null() {
        // SAFETY: `Thread::of_vcpu` has put the address there, which is in a mapping shared with KVM that stays as long as the
        // vCPU, and the thread keeps that for ever (`vcpu::spawn`). A volatile write of a byte which only this thread reads.
        unsafe { place.write_volatile(1) };
    }
}

/// Takes the signal for the whole process. To be called before there are vCPUs.
pub(crate) fn install() -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: zeroes are a valid sigaction (no handler, no flags: an interrupted call comes back); sigemptyset initialises the mask
    // in it, and the handler does only what a handler may.
    let failed = unsafe {
        let action = &mut *action.as_mut_ptr();
        libc::sigemptyset(&raw mut action.sa_mask);
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(SIGNAL, action, ptr::null_mut())
    };
    if failed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A thread that can be interrupted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Thread {
    process: u32,
    thread: libc::pid_t,
}

impl Thread {
    /// The calling thread, which takes the signal from now on, whatever its starter has blocked.
    pub(crate) fn this() -> io::Result<Thread> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the set, sigaddset gets a signal's number, pthread_sigmask reads the set and may be given a
        // null pointer for the old one.
        let failed = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), SIGNAL);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut())
        };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        Ok(Thread {
            process: std::process::id(),
            thread: rustix::thread::gettid().as_raw_nonzero().get(),
        })
    }

    /// The calling thread, which has this vCPU and keeps it for as long as it lives.
    pub(crate) fn of_vcpu(vcpu: &mut VcpuFd) -> io::Result<Thread> {
        IMMEDIATE_EXIT.set(&raw mut vcpu.get_kvm_run().immediate_exit);
        Thread::this()
    }

    /// Interrupts it.
    pub(crate) fn kick(self) {
        // SAFETY: plain numbers; a thread that is gone is an error, and there is nothing to fetch out of the guest then.
        unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, SIGNAL) };
    }
}
