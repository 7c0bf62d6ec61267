// SPDX-License-Identifier: Apache-2.0
//! The thread that saves: files may make it wait, as a disk's thread, and it is the only one that asks KVM for a machine's state. It
//! waits for an order, carries it out while all vCPUs stand still, and says so; it ends only with the process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Barrier, Condvar, Mutex, PoisonError};
use std::thread;

use kvm_ioctls::{VcpuFd, VmFd};
use racklet_api::vmm::SnapshotBytes;
use racklet_tell::error::chain;
use racklet_trust::digest::{Digest, Hex};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use seccompiler::BpfProgram;
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::file::{Base, MAX_STATE, State};
use super::memory;
use crate::arch;
use crate::bus::Bus;
use crate::confine::seccomp;
use crate::devices::rng;
use crate::lifecycle::Event;
use crate::lock::lock;
use crate::memory::Memory;
use crate::virtio::DeviceState;

/// Deep enough for every path below; a fault beyond it hits the guard page. JSON is written level by level, and has some ten.
const STACK: usize = 256 * 1024;

/// What a machine is saved from.
pub(crate) struct Sources {
    pub(crate) vm: Arc<VmFd>,
    pub(crate) vcpus: Vec<Arc<Mutex<VcpuFd>>>,
    pub(crate) memory: Memory,
    pub(crate) saver: arch::Saver,
    pub(crate) shown: arch::Cpus,
}

/// Where a snapshot goes.
pub(crate) struct Order {
    state: OwnedFd,
    memory: OwnedFd,
    /// The memory of what it is to be the difference to, and the digest of its state.
    base: Option<(OwnedFd, Digest)>,
}

impl Order {
    /// With these files, which came with the request: state and memory, and where it is a difference the other's memory. Nothing where
    /// they are more or fewer.
    pub(crate) fn new(files: Vec<OwnedFd>, since: Option<Digest>) -> Option<Order> {
        let mut files = files.into_iter();
        let (state, memory) = (files.next()?, files.next()?);
        let base = match since {
            Some(digest) => Some((files.next()?, digest)),
            None => None,
        };
        files.next().is_none().then_some(Order {
            state,
            memory,
            base,
        })
    }
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error(
        "a snapshot takes two plain files that are empty, not the same and not opened to append, for its state and its memory"
    )]
    Files,
    #[error(transparent)]
    Machine(#[from] arch::SaveError),
    #[error(
        "the third file is not the memory of a full snapshot of a machine with as much, open for reading"
    )]
    Base,
    #[error("write {0}")]
    Write(&'static str, #[source] io::Error),
    #[error("write down the state")]
    Json(#[from] serde_json::Error),
    #[error("the state has {0} bytes, more than is read again")]
    Large(usize),
    #[error("read random numbers")]
    Random(#[source] io::Error),
}

/// Between the event loop and the thread: one order at a time, and its outcome.
pub(crate) struct Desk {
    order: Mutex<Option<Order>>,
    ordered: Condvar,
    outcome: Mutex<Option<Result<SnapshotBytes, String>>>,
    /// Written with an outcome.
    done: EventFd,
}

impl Desk {
    /// `done` is written when an order was carried out.
    pub(crate) fn new(done: EventFd) -> Desk {
        Desk {
            order: Mutex::default(),
            ordered: Condvar::new(),
            outcome: Mutex::default(),
            done,
        }
    }

    /// Orders a snapshot. All vCPUs have to stand until the [`outcome`](Desk::outcome) is there.
    pub(crate) fn order(&self, order: Order) {
        *lock(&self.order) = Some(order);
        self.ordered.notify_one();
    }

    /// What came of the order, once.
    pub(crate) fn outcome(&self) -> Option<Result<SnapshotBytes, String>> {
        lock(&self.outcome).take()
    }

    fn wait(&self) -> Order {
        let mut order = lock(&self.order);
        loop {
            if let Some(order) = order.take() {
                return order;
            }
            order = self
                .ordered
                .wait(order)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&self, outcome: Result<SnapshotBytes, String>) {
        *lock(&self.outcome) = Some(outcome);
        // Fails only when 2^64 - 2 wake-ups wait.
        let _ = self.done.write(1);
    }
}

/// Starts the thread. It waits at the barrier, confined, before the guest's first instruction.
pub(crate) fn spawn(
    desk: Arc<Desk>,
    sources: Sources,
    bus: Arc<Bus>,
    filter: BpfProgram,
    start: Arc<Barrier>,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name("saver".to_owned())
        .stack_size(STACK)
        .spawn(move || {
            let confined = seccomp::apply(&filter);
            drop(filter);
            start.wait();
            if let Err(e) = confined {
                bus.end(Event::VcpuFailed(format!(
                    "the saver cannot be confined: {e}"
                )));
                loop {
                    thread::park();
                }
            }
            loop {
                let Order {
                    state,
                    memory,
                    base,
                } = desk.wait();
                let files = [state, memory].map(File::from);
                let base = base.map(|(file, digest)| (File::from(file), digest));
                let devices = bus.hold();
                let saved = save(&sources, &bus, devices, &files, base.as_ref());
                bus.go();
                drop((files, base));
                desk.tell(saved.map_err(|error| chain(&error)));
            }
        })
}

/// Everything stands still.
fn save(
    sources: &Sources,
    bus: &Bus,
    devices: Vec<DeviceState>,
    [state, memory]: &[File; 2],
    base: Option<&(File, Digest)>,
) -> Result<SnapshotBytes, SaveError> {
    check([state, memory])?;
    let since = base.map(|(file, digest)| {
        let id = memory::whose(file, sources.memory.size());
        let id = id.ok().flatten().ok_or(SaveError::Base)?;
        Ok::<_, SaveError>(Base { state: *digest, id })
    });
    let since = since.transpose()?;
    let guards: Vec<_> = sources.vcpus.iter().map(|vcpu| lock(vcpu)).collect();
    let vcpus: Vec<&VcpuFd> = guards.iter().map(|guard| &**guard).collect();
    let Sources {
        vm, saver, shown, ..
    } = sources;
    let machine = arch::save(saver, vm, &vcpus, &bus.parts, shown)?;
    let mut id = Hex([0; 16]);
    rng::fill(&mut id.0).map_err(SaveError::Random)?;
    let regions = sources.memory.iter();
    let bytes = State {
        architecture: std::env::consts::ARCH.to_owned(),
        id,
        base: since,
        ram: regions
            .map(|region| (region.start_addr().0, region.len()))
            .collect(),
        devices,
        machine: serde_json::to_value(machine)?,
    }
    .bytes()?;
    if bytes.len() as u64 > MAX_STATE {
        return Err(SaveError::Large(bytes.len()));
    }
    let written = memory::write(&sources.memory, &id, memory, base.map(|(file, _)| file));
    let memory = written.map_err(|error| SaveError::Write("the memory", error))?;
    // The state last: without it there is no snapshot.
    write_state(state, &bytes).map_err(|error| SaveError::Write("the state", error))?;
    Ok(SnapshotBytes {
        state: bytes.len() as u64,
        memory,
    })
}

/// Whether a snapshot may be written there. A file that is not empty is somebody's: a disk, another snapshot, or the very memory from
/// which this guest goes on, whose pages would be gone (SIGBUS) with its first `ftruncate`. What is opened to append is written at
/// its end, whatever the offset (pwrite(2), "BUGS").
fn check(files: [&File; 2]) -> Result<(), SaveError> {
    let mut places = [(0, 0); 2];
    for (file, place) in files.iter().zip(&mut places) {
        let look = |error: rustix::io::Errno| SaveError::Write("a file", error.into());
        let what = fstat(file).map_err(look)?;
        let empty = FileType::from_raw_mode(what.st_mode).is_file() && what.st_size == 0;
        if !empty || fcntl_getfl(file).map_err(look)?.contains(OFlags::APPEND) {
            return Err(SaveError::Files);
        }
        *place = (what.st_dev, what.st_ino);
    }
    if places[0] == places[1] {
        return Err(SaveError::Files);
    }
    Ok(())
}

fn write_state(file: &File, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    file.set_len(0)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}
