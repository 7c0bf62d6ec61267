// SPDX-License-Identifier: Apache-2.0
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, mpsc};
use std::thread;

use racklet_api::vmm::Mac;
use racklet_linux::signal::StopRequests;
use racklet_linux::tap::{self, Offloads};

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::*;
use crate::devices::balloon::{Account, Balloon};
use crate::devices::block::{Backend, Block};
use crate::devices::net::{Net, Tap};
use crate::devices::rng::{self, Rng};
use crate::devices::vsock::{Dialer, Header, Stream, Vsock};
use crate::dial::{self, UnixEnd};
use crate::gate::Gate;
use crate::kick;
use crate::memory::{self, Memory};
use crate::testing::{Alone, Driver, alone, start, test_memory};
use crate::virtio::{Device, Turn, Window, Wires, connect};

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
    // Anonymous memory and a file's, from which a balloon takes pages.
    let memory = test_memory();
    let (place, page) = (GuestAddress(0x1_0000), 0x1_0000);
    let file = tempfile::tempfile().unwrap();
    file.set_len(page).unwrap();
    memory::lay_file(&memory, place, page, file.as_fd(), 0).unwrap();
    pass(&|| assert!(memory.give_back(GuestAddress(0), 3 * page).is_ok()));
}

#[test]
fn what_a_disk_does_after_the_start_passes_its_filter() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.unwrap();
    let pass = |act: &dyn Fn()| assert_eq!(under(Kind::Disk, act), 0);
    pass(&|| assert!(file.discard(0, 4096).is_ok()));
    pass(&|| assert!(null.discard(0, 4096).is_err()));
    for give_up in [false, true] {
        pass(&|| assert!(file.zero(0, 4096, give_up).is_ok()));
        pass(&|| assert!(null.zero(0, 4096, give_up).is_ok()));
    }
    pass(&|| assert!(file.flush().is_ok()));
    pass(&|| assert!(file.size().is_ok()));
    pass(&|| {
        assert!(file.claim(false).is_ok());
        file.release();
    });
}

const TUN: u64 = racklet_linux::tap::TUNSETOFFLOAD as u64;

#[test]
fn everything_else_kills() {
    let killed = -libc::SIGSYS;
    for kind in [Kind::Vcpu, Kind::Disk, Kind::Saver, Kind::EventLoop] {
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
    // KVM_GET_REGS is the saver's, KVM_SET_REGS nobody's.
    let kvm = |kind, request| under(kind, || call(libc::SYS_ioctl, 1000, request, 0));
    for kind in [Kind::Vcpu, Kind::Disk, Kind::EventLoop] {
        assert_eq!(kvm(kind, 0x8090_ae81), killed);
    }
    #[cfg(target_arch = "x86_64")]
    assert_eq!(kvm(Kind::Saver, 0x8090_ae81), 0);
    assert_eq!(kvm(Kind::Saver, 0x4090_ae82), killed);
    assert_eq!(
        under(Kind::Saver, || call(libc::SYS_openat, 0, 0, 0)),
        killed
    );
    for kind in [Kind::Disk, Kind::Saver, Kind::EventLoop] {
        assert_eq!(
            under(kind, || call(libc::SYS_ioctl, 1000, 0xae80, 0)),
            killed
        );
    }
    assert_eq!(
        under(Kind::Disk, || call(libc::SYS_close, 1000, 0, 0)),
        killed
    );
    let tgkill = |kind, process: u64, signal| {
        // No thread has the number 0: what is let through fails.
        under(kind, || call(libc::SYS_tgkill, process, 0, signal))
    };
    let (own, kick) = (u64::from(std::process::id()), kick::SIGNAL as u64);
    assert_eq!(tgkill(Kind::EventLoop, own, kick), 0);
    assert_eq!(tgkill(Kind::EventLoop, 1, kick), killed, "init's threads");
    assert_eq!(tgkill(Kind::EventLoop, own, 9), killed, "another signal");
    assert_eq!(tgkill(Kind::Vcpu, own, kick), killed);
    assert_eq!(
        under(Kind::EventLoop, || call(libc::SYS_fdatasync, 1000, 0, 0)),
        killed,
        "it waits for no disk"
    );
}

#[test]
fn the_lists_are_as_short_as_they_are_said_to_be() {
    let calls = |kind| rules(kind).map(|a| a.call).collect::<BTreeSet<_>>();
    let kinds = [
        (Kind::Vcpu, 16),
        (Kind::Disk, 26),
        (Kind::Saver, 23),
        (Kind::EventLoop, 35),
    ];
    for (kind, most) in kinds {
        let calls = calls(kind);
        assert!(calls.len() <= most, "{kind:?}: {}", calls.len());
    }
}

fn park() -> ! {
    loop {
        thread::park();
    }
}

/// A tap whose descriptor is a socket: what is asked of it fails, and is asked of the kernel.
struct SocketTap(File);

impl Tap for SocketTap {
    fn read(&mut self, frame: &mut Vec<u8>) -> io::Result<usize> {
        crate::tap::read_into(&self.0, frame)
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut self.0, frame)
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        tap::set_offloads(&self.0, offloads)
    }
}

/// Connects every port to one listener.
struct OneHost(std::path::PathBuf);

impl Dialer for OneHost {
    fn dial(&mut self, _port: u32, _token: u32) -> io::Result<Box<dyn Stream>> {
        let stream = dial::connect_to(self.0.to_str().expect("a plain path"))?;
        Ok(Box::new(UnixEnd(stream)))
    }
}

/// The device on a thread of its own under `kind`; gives its registers and what wakes it.
fn device(kind: Kind, device: Box<dyn Device>, memory: &Memory) -> (Window, EventFd) {
    let interrupt = EventFd::new(libc::EFD_NONBLOCK).unwrap();
    let wake = EventFd::new(0).unwrap();
    let wires = Wires {
        acknowledged: interrupt.try_clone().unwrap(),
        interrupt,
        wake: wake.try_clone().unwrap(),
    };
    let (window, mut engine) = connect(device, memory.clone(), wires);
    let filter = filter(kind).unwrap();
    let heard = wake.try_clone().unwrap();
    thread::spawn(move || {
        apply(&filter).unwrap();
        loop {
            heard.read().unwrap();
            let _ = engine.receive();
            while engine.more() == Turn::More {}
        }
    });
    (window, wake)
}

#[test]
fn a_vcpus_thread_is_interrupted_and_stands_still_under_the_filters() {
    let Alone::Here = alone(concat!(
        module_path!(),
        "::a_vcpus_thread_is_interrupted_and_stands_still_under_the_filters"
    )) else {
        return;
    };
    kick::install().unwrap();
    let still = EventFd::new(0).unwrap();
    let gate = Arc::new(Gate::new(still.try_clone().unwrap()));
    let (filters, theirs) = (filter(Kind::Vcpu).unwrap(), gate.clone());
    let (begun, has_begun) = mpsc::channel();
    thread::spawn(move || {
        theirs.join(kick::Thread::this().unwrap());
        apply(&filters).unwrap();
        begun.send(()).unwrap();
        loop {
            // Waits as a vCPU does in the guest, until it is interrupted; nothing is ever written there.
            let mut forever = libc::timespec {
                tv_sec: 1000,
                tv_nsec: 0,
            };
            let word = 0_u32;
            // SAFETY: a wait for a change of a word on this stack, with a time that is there, too.
            let done = unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    &raw const word,
                    libc::FUTEX_WAIT,
                    0,
                    &raw mut forever,
                )
            };
            assert_eq!(done, -1, "interrupted");
            theirs.pass();
        }
    });
    has_begun.recv().unwrap();
    let (finished, end) = mpsc::channel();
    let filter = filter(Kind::EventLoop).unwrap();
    thread::spawn(move || {
        apply(&filter).unwrap();
        for _ in 0..3 {
            // It may not wait yet, and nothing but KVM remembers an interruption.
            while !gate.is_still() {
                gate.close();
                std::hint::spin_loop();
            }
            still.read().unwrap();
            gate.open();
            while gate.is_still() {
                std::hint::spin_loop();
            }
        }
        finished.send(()).unwrap();
        park()
    });
    end.recv().unwrap();
}

#[test]
fn every_device_is_started_and_reset_under_the_filter_of_a_vcpu_with_its_host_ends_open() {
    let Alone::Here = alone(concat!(
        module_path!(),
        "::every_device_is_started_and_reset_under_the_filter_of_a_vcpu_with_its_host_ends_open"
    )) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let tap = SocketTap(File::from(std::os::fd::OwnedFd::from(ours)));
    let memory = test_memory();
    let devices = [
        device(
            Kind::EventLoop,
            Box::new(Vsock::new(OneHost(path), 3)),
            &memory,
        ),
        device(
            Kind::Disk,
            Box::new(Block::new(file, 4096, false, "d")),
            &memory,
        ),
        device(
            Kind::EventLoop,
            Box::new(Net::new(tap, Mac([2, 0, 0, 0, 0, 1]), 1500)),
            &memory,
        ),
        device(Kind::EventLoop, Box::new(Rng), &memory),
        device(
            Kind::EventLoop,
            Box::new(Balloon::new(Account::of(1))),
            &memory,
        ),
    ];
    // A request to connect (operation 1) from port 7 of the guest with CID 3 to port 5000, as a stream (1).
    let request = Header {
        source_cid: 3,
        target_cid: 2,
        source_port: 7,
        target_port: 5000,
        kind: 1,
        operation: 1,
        ..Header::default()
    };
    memory
        .write_slice(&request.bytes(), GuestAddress(0xf000))
        .unwrap();
    let filter = filter(Kind::Vcpu).unwrap();
    let (finished, end) = mpsc::channel();
    thread::spawn(move || {
        apply(&filter).unwrap();
        for _ in 0..2 {
            for (window, wake) in &devices {
                let mut drivers = [0x1000, 0x5000].map(|at| Driver::at(&memory, 8, at));
                drivers[1].offer(&memory, &[(0xf000, 44, false)]);
                let set = |offset, value: u32| window.write(offset, &value.to_le_bytes());
                let [receive, transmit] = &drivers;
                start(0, &[receive, transmit], set);
                wake.write(1).unwrap();
                let mut status = [0; 4];
                window.read(0x70, &mut status);
                assert_eq!(status, [15, 0, 0, 0], "the driver is ready");
                let used = || memory.read_obj::<u16>(GuestAddress(0x7002)).unwrap();
                // The first is the sockets' device: its connection is open when it is reset.
                while std::ptr::eq(window, &devices[0].0) && used() == 0 {
                    std::hint::spin_loop();
                }
                set(0x70, 0);
                window.read(0x70, &mut status);
                assert_eq!(status, [0; 4]);
            }
        }
        finished.send(()).unwrap();
        park()
    });
    let (mut host, _) = listener.accept().unwrap();
    let mut nothing = [0];
    assert_eq!(
        host.read(&mut nothing).unwrap(),
        0,
        "the reset has closed it"
    );
    let (mut host, _) = listener.accept().unwrap();
    assert_eq!(host.read(&mut nothing).unwrap(), 0);
    end.recv().unwrap();
    drop(theirs); // until here the card had somebody to send to
}
