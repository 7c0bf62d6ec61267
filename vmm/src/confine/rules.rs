// SPDX-License-Identifier: Apache-2.0
//! The system calls each kind of thread may make, each with its reason. Anything else kills the process.

use std::fmt;
use std::panic::Location;

use racklet_linux::block::BLKDISCARD;
use racklet_linux::tap::TUNSETOFFLOAD;

use crate::kick::SIGNAL;

/// `KVM_RUN`, `_IO(0xAE, 0x80)`: the only request a vCPU's thread makes of KVM.
const KVM_RUN: u64 = 0xae80;
/// asm-generic/ioctls.h; C libraries do not agree on the type that `libc` gives it.
const FIONBIO: u64 = 0x5421;

/// One allowed system call.
#[derive(Debug)]
pub struct Allow {
    pub(super) call: libc::c_long,
    /// All must hold; none means any arguments.
    pub(super) tests: &'static [Test],
    /// Its line of this file, for who names it.
    line: u32,
}

impl Allow {
    /// Whether it is this rule that lets the call of a process pass.
    #[must_use]
    pub fn lets(&self, call: u64, arguments: &[u64; 6], process: u32) -> bool {
        let low = |argument: u8| arguments[usize::from(argument)] & u64::from(u32::MAX);
        let holds = |test: &Test| match *test {
            Test::Equal { argument, value } => low(argument) == value & u64::from(u32::MAX),
            Test::Masked {
                argument,
                mask,
                value,
            } => low(argument) & mask == value,
            Test::Own { argument } => low(argument) == u64::from(process),
        };
        u64::try_from(self.call) == Ok(call) && self.tests.iter().all(holds)
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rules.rs:{}: system call {}", self.line, self.call)?;
        for test in self.tests {
            write!(f, ", {test:x?}")?;
        }
        Ok(())
    }
}

/// A test of an argument (from 0).
#[derive(Debug, Clone, Copy)]
pub(super) enum Test {
    /// The argument's low 32 bits are this.
    Equal { argument: u8, value: u64 },
    /// The masked argument is this.
    Masked { argument: u8, mask: u64, value: u64 },
    /// The argument is the number of this process.
    Own { argument: u8 },
}

#[track_caller]
const fn any(call: libc::c_long) -> Allow {
    when(call, &[])
}

#[track_caller]
const fn when(call: libc::c_long, tests: &'static [Test]) -> Allow {
    Allow {
        call,
        tests,
        line: Location::caller().line(),
    }
}

const NO_EXEC: &[Test] = &[Test::Masked {
    argument: 2,
    mask: libc::PROT_EXEC as u64,
    value: 0,
}];

/// What all kinds need: memory, locks, time, and the way out.
const SHARED: &[Allow] = &[
    any(libc::SYS_brk),            // the allocator
    any(libc::SYS_munmap),         // the allocator
    any(libc::SYS_mremap),         // the allocator grows large blocks in place
    any(libc::SYS_madvise),        // the allocator gives pages back
    when(libc::SYS_mmap, NO_EXEC), // the allocator; never code
    #[cfg(target_env = "musl")]
    when(libc::SYS_mprotect, NO_EXEC), // its allocator grows with it; never code. glibc's does so in a second heap alone
    any(libc::SYS_futex),         // locks, condition variables, parked threads
    any(libc::SYS_write),         // event descriptors; logs, taps and sockets on the event loop
    any(libc::SYS_clock_gettime), // time, where the vDSO has no fast clock (nested virtual machines)
    any(libc::SYS_rt_sigreturn),  // the way back from a signal handler
    any(libc::SYS_exit_group),    // the end
];

const VCPU: &[Allow] = &[
    any(libc::SYS_read), // whether an interrupt was acknowledged: its event descriptor
    // Runs the guest: nothing else of KVM.
    when(
        libc::SYS_ioctl,
        &[Test::Equal {
            argument: 1,
            value: KVM_RUN,
        }],
    ),
];

const DISK: &[Allow] = &[
    any(libc::SYS_read), // waiting: its event descriptor
    #[cfg(any(target_env = "musl", not(target_arch = "x86_64")))]
    any(libc::SYS_epoll_pwait), // …until its rate allows more (musl, and glibc's epoll_wait on arm64)
    #[cfg(all(target_arch = "x86_64", not(target_env = "musl")))]
    any(libc::SYS_epoll_wait), // …the same
    any(libc::SYS_preadv),    // its file, straight into guest memory
    any(libc::SYS_pwritev),   // its file, straight out of it
    any(libc::SYS_fdatasync), // a guest's flush
    any(libc::SYS_lseek),     // how large its file is
    any(libc::SYS_fallocate), // what it discards and zeroes
    any(libc::SYS_fstat),     // a disk that is attached: what it is,
    any(libc::SYS_fcntl),     // …how it was opened,
    any(libc::SYS_flock),     // …and whose it is
    // The same of a block device.
    when(
        libc::SYS_ioctl,
        &[Test::Equal {
            argument: 1,
            value: BLKDISCARD as u64,
        }],
    ),
];

const EVENT_LOOP: &[Allow] = &[
    any(libc::SYS_read),      // tap, sockets, signals
    any(libc::SYS_getrandom), // the entropy device, and hash seeds
    #[cfg(any(target_env = "musl", not(target_arch = "x86_64")))]
    any(libc::SYS_epoll_pwait), // waiting (musl, and glibc's epoll_wait on arm64)
    #[cfg(all(target_arch = "x86_64", not(target_env = "musl")))]
    any(libc::SYS_epoll_wait), // waiting
    any(libc::SYS_epoll_ctl), // new connections
    any(libc::SYS_timerfd_settime), // the armed time
    any(libc::SYS_accept4),   // control connections
    any(libc::SYS_close),     // connections and rotated logs
    any(libc::SYS_shutdown),  // a guest's end of a vsock stream
    any(libc::SYS_sendto),    // std writes to Unix sockets with it (MSG_NOSIGNAL)
    any(libc::SYS_recvmsg),   // control requests, and the files of a snapshot with one
    any(libc::SYS_connect),   // a guest's vsock port: a Unix socket in the VM's folder
    // …and only Unix sockets.
    when(
        libc::SYS_socket,
        &[Test::Equal {
            argument: 0,
            value: libc::AF_UNIX as u64,
        }],
    ),
    // std puts accepted sockets into non-blocking mode.
    when(
        libc::SYS_ioctl,
        &[Test::Equal {
            argument: 1,
            value: FIONBIO,
        }],
    ),
    // A driver's choice of offloads, after it has been made.
    when(
        libc::SYS_ioctl,
        &[Test::Equal {
            argument: 1,
            value: TUNSETOFFLOAD as u64,
        }],
    ),
    // A new log, a new status; the root is the VM's folder.
    #[cfg(not(all(target_arch = "x86_64", target_env = "musl")))]
    any(libc::SYS_openat),
    #[cfg(all(target_arch = "x86_64", target_env = "musl"))]
    any(libc::SYS_open),
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_rename), // a full log, a new status
    #[cfg(not(target_arch = "x86_64"))]
    any(libc::SYS_renameat), // the same elsewhere
    #[cfg(target_arch = "x86_64")]
    any(libc::SYS_unlink), // a left-over of an interrupted status
    #[cfg(not(target_arch = "x86_64"))]
    any(libc::SYS_unlinkat), // the same elsewhere
    // A vCPU is fetched out of the guest: this process, and no other signal.
    when(
        libc::SYS_tgkill,
        &[
            Test::Own { argument: 0 },
            Test::Equal {
                argument: 2,
                value: SIGNAL as u64,
            },
        ],
    ),
    any(libc::SYS_fcntl),       // std checks and sets flags of what it opens
    any(libc::SYS_sigaltstack), // std takes down its guard handler at the end
];

/// `_IOR(0xAE, number, size)` and its like: a request that reads KVM's state (linux/kvm.h).
const fn kvm(direction: u64, number: u64, size: u64) -> u64 {
    direction << 30 | size << 16 | 0xae << 8 | number
}

macro_rules! kvm_reads {
    ($($request:expr),+ $(,)?) => {
        [$(when(libc::SYS_ioctl, &[Test::Equal { argument: 1, value: $request }])),+]
    };
}

/// What is asked of a machine that is saved, and nothing that changes it.
#[cfg(target_arch = "x86_64")]
const SAVE: &[Allow] = &kvm_reads![
    kvm(3, 0x62, 520),  // KVM_GET_IRQCHIP
    kvm(2, 0x7c, 48),   // KVM_GET_CLOCK
    kvm(2, 0x81, 144),  // KVM_GET_REGS
    kvm(2, 0x83, 312),  // KVM_GET_SREGS
    kvm(3, 0x88, 8),    // KVM_GET_MSRS
    kvm(2, 0x8e, 1024), // KVM_GET_LAPIC
    kvm(2, 0x98, 4),    // KVM_GET_MP_STATE
    kvm(2, 0x9f, 64),   // KVM_GET_VCPU_EVENTS
    kvm(2, 0x9f, 112),  // KVM_GET_PIT2
    kvm(2, 0xa1, 128),  // KVM_GET_DEBUGREGS
    kvm(0, 0xa3, 0),    // KVM_GET_TSC_KHZ
    kvm(2, 0xa4, 4096), // KVM_GET_XSAVE
    kvm(2, 0xa6, 392),  // KVM_GET_XCRS
];
/// The same of an arm64 machine.
#[cfg(target_arch = "aarch64")]
const SAVE: &[Allow] = &kvm_reads![
    kvm(2, 0x98, 4),  // KVM_GET_MP_STATE
    kvm(2, 0x9f, 64), // KVM_GET_VCPU_EVENTS
    kvm(1, 0xab, 16), // KVM_GET_ONE_REG
    kvm(3, 0xb0, 8),  // KVM_GET_REG_LIST
    kvm(1, 0xe2, 24), // KVM_GET_DEVICE_ATTR: the interrupt controller's registers
];

const SAVER: &[Allow] = &[
    any(libc::SYS_read), // whether an interrupt was acknowledged: its event descriptor
    any(libc::SYS_fstat), // whether it was given plain files, two, and empty
    any(libc::SYS_getrandom), // what binds the two, and hash seeds
    any(libc::SYS_ftruncate), // both files, which begin empty
    any(libc::SYS_pwrite64), // into them
    any(libc::SYS_pread64), // what a difference is made to
    any(libc::SYS_fdatasync), // a snapshot that was answered for is kept when the power goes
    any(libc::SYS_close), // both
    any(libc::SYS_fcntl), // whether they are opened to append; std looks at what it closes, in debug builds
];

/// Which thread a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs a vCPU and serves its register accesses.
    Vcpu,
    /// Serves one disk.
    Disk,
    /// Saves the machine.
    Saver,
    /// Serves the other devices, sockets and logs.
    EventLoop,
}

/// All rules of a kind of thread.
pub fn rules(kind: Kind) -> impl Iterator<Item = &'static Allow> {
    let (own, kvm): (_, &[Allow]) = match kind {
        Kind::Vcpu => (VCPU, &[]),
        Kind::Disk => (DISK, &[]),
        Kind::Saver => (SAVER, SAVE),
        Kind::EventLoop => (EVENT_LOOP, &[]),
    };
    SHARED.iter().chain(own).chain(kvm)
}
