// SPDX-License-Identifier: Apache-2.0
//! Opens a planned machine: memory, vCPUs, devices, kernel.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use racklet_api::vmm::{VmConfig, VmDisk, VmNetwork};
use racklet_linux::tap::TapError;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use super::plan::{Place, Plan, What, archives};
use crate::agent::Agent;
use crate::arch;
use crate::bus::Bus;
use crate::calls::Waiting;
use crate::devices::balloon::{Account, Balloon};
use crate::devices::block::{Backend, Block, Orders};
use crate::devices::net::{Net, TAP_READY};
use crate::devices::rng::{self, Rng};
use crate::devices::serial::Console;
use crate::devices::vsock::Vsock;
use crate::dial::HostDialer;
use crate::disk::Disk;
use crate::gate::Gate;
use crate::memory::{self, Memory};
use crate::places::Places;
use crate::poll::{Poll, Token};
use crate::rate::Knobs;
use crate::snapshot::{Desk, Snapshot, SnapshotError};
use crate::tap::HostTap;
use crate::virtio::{
    Device, Engine, INTERRUPT_ACK, Misfit, QUEUE_NOTIFY, USED_BUFFER, Window, Wires, connect,
};

/// Most bytes of one initramfs archive. Its length must fit into a segment's 32 bits; a guest's memory is the tighter bound.
const MAX_ARCHIVE: u64 = 1 << 30;

/// Why a machine cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "open /dev/kvm: virtualisation is off in this machine's firmware, or its kernel has no KVM for this processor"
    )]
    NoKvm(#[source] kvm_ioctls::Error),
    #[error("{0}")]
    Lacking(String),
    #[error("set up the virtual machine: {step}")]
    Kvm {
        step: &'static str,
        source: kvm_ioctls::Error,
    },
    #[error("open {what} {path}", path = path.display())]
    Open {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("load the kernel {path}", path = path.display())]
    Kernel {
        path: PathBuf,
        source: arch::KernelError,
    },
    #[error("load the initramfs {path}", path = path.display())]
    Initramfs { path: PathBuf, source: io::Error },
    #[error("prepare the guest's memory")]
    Boot(#[from] arch::BootError),
    #[error("restore the machine")]
    Snapshot(#[from] SnapshotError),
    #[error("restore the machine's processors")]
    Processors(#[from] arch::RestoreError),
    #[error("restore device {number}")]
    Device { number: u16, source: Misfit },
    #[error("attach to tap {name}: does netd have it?")]
    Tap { name: String, source: TapError },
    #[error("{step}")]
    Host {
        step: &'static str,
        source: io::Error,
    },
}

fn kvm<T>(step: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, OpenError> {
    result.map_err(|source| OpenError::Kvm { step, source })
}

fn host<T>(step: &'static str, result: io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|source| OpenError::Host { step, source })
}

fn event() -> Result<EventFd, OpenError> {
    host(
        "make an event descriptor",
        EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC),
    )
}

/// A machine that is ready to run.
pub(crate) struct Machine {
    /// Keeps the VM; the vCPUs and the events refer to it.
    pub(crate) vm: Arc<VmFd>,
    pub(crate) vcpus: Vec<Arc<Mutex<VcpuFd>>>,
    pub(crate) memory: Memory,
    pub(crate) bus: Bus,
    pub(crate) console: std::sync::Arc<Console>,
    pub(crate) agent: Agent,
    /// Those that want to reach the guest.
    pub(crate) calls: Waiting,
    pub(crate) vsock: u16,
    /// Number of the balloon, and what it is to have and has.
    pub(crate) balloon: (u16, Account),
    pub(crate) poll: Poll,
    /// The devices of the event loop, by number; none where a disk is.
    pub(crate) engines: Vec<Option<Engine>>,
    /// Each for a thread of its own.
    pub(crate) disks: Vec<Disk>,
    /// Queue events: KVM writes to them, epoll watches them while they are open.
    pub(crate) notifications: Vec<EventFd>,
    /// How fast disks and cards may be.
    pub(crate) knobs: Knobs,
    pub(crate) places: Places,
    /// Devices of the event loop that go on where they were: bit n for device n.
    pub(crate) unfinished: u32,
    /// For who saves the machine.
    pub(crate) desk: Desk,
    pub(crate) saver: arch::Saver,
    pub(crate) shown: arch::Cpus,
}

/// Opens everything that the plan names.
pub(crate) fn open(plan: &Plan<'_>) -> Result<Machine, OpenError> {
    let config = plan.config;
    let hypervisor = Kvm::new().map_err(OpenError::NoKvm)?;
    if hypervisor.get_api_version() != 12 {
        return Err(OpenError::Lacking(
            "KVM on this host has another version than 12".to_owned(),
        ));
    }
    if let Some(what) = arch::missing(&hypervisor) {
        return Err(OpenError::Lacking(what));
    }
    let snapshot = config.restore.as_deref().map(Snapshot::open).transpose()?;
    let vm = kvm("create it", hypervisor.create_vm())?;
    let memory = match &snapshot {
        Some(snapshot) => snapshot.map(&plan.ram, config.cpus, plan.devices.len())?,
        None => host("map the guest's memory", memory::map(&plan.ram))?,
    };
    give_memory(&vm, &memory)?;
    let (vcpus, hardware, controller) = kvm(
        "interrupt controllers, timer and vCPUs",
        arch::set_up(&vm, config.cpus),
    )?;

    let poll = host("make an epoll", Poll::new())?;
    let mut opening = Opening {
        vm,
        memory,
        poll,
        agent: Agent::default(),
        calls: Waiting::default(),
        account: Account::of(config.balloon_mib),
        engines: Vec::new(),
        disks: Vec::new(),
        notifications: Vec::new(),
        knobs: Knobs::default(),
        places: Places::default(),
        snapshot,
    };
    let wake = opening.event("watch the console", Token::Console)?;
    let console = Console::new(wake);
    let line = event()?;
    kvm(
        "the console's line",
        opening.vm.register_irqfd(&line, arch::CONSOLE_IRQ),
    )?;
    let parts = arch::Parts::new(console.clone(), line);
    let windows = plan.devices.iter().map(|place| opening.device(place));
    let windows = windows.collect::<Result<Vec<_>, _>>()?;

    let shown = kvm(
        "what the processors show",
        arch::Cpus::new(&hypervisor, config.cpus),
    )?;
    let saver = kvm(
        "what there is to save",
        arch::Saver::new(&hypervisor, controller),
    )?;
    if let Some(snapshot) = &opening.snapshot {
        arch::restore(&snapshot.machine, &opening.vm, &vcpus, &shown, &saver)?;
        // Only now is there what takes interrupts.
        parts.restore(&snapshot.machine)?;
        windows.iter().for_each(Window::raise_again);
    } else if let Some(kernel) = &config.kernel {
        let count = u32::try_from(windows.len()).expect("at most 14");
        let entry = load(config, kernel, &opening.memory, count, &hardware)?;
        for (number, vcpu) in (0..).zip(&vcpus) {
            kvm("set up a vCPU", shown.set_up(vcpu, number, entry))?;
        }
    }
    let desk = Desk::new(opening.event("watch for snapshots", Token::Saved)?);
    let active = |(n, engine): (usize, &Option<Engine>)| match engine {
        Some(engine) if engine.active() => 1 << n,
        _ => 0,
    };
    let unfinished = opening.engines.iter().enumerate().map(active).sum();
    let over = opening.event("watch the vCPUs", Token::Over)?;
    let gate = Gate::new(opening.event("watch vCPUs that stand still", Token::Still)?);
    let share = |vcpu| Arc::new(Mutex::new(vcpu));
    Ok(Machine {
        vm: Arc::new(opening.vm),
        vcpus: vcpus.into_iter().map(share).collect(),
        memory: opening.memory,
        bus: Bus::new(parts, windows, gate, over),
        console,
        agent: opening.agent,
        calls: opening.calls,
        vsock: plan.sockets,
        balloon: (plan.balloon, opening.account),
        poll: opening.poll,
        engines: opening.engines,
        disks: opening.disks,
        notifications: opening.notifications,
        knobs: opening.knobs,
        places: opening.places,
        unfinished,
        desk,
        saver,
        shown,
    })
}

/// What devices are connected to.
struct Opening {
    vm: VmFd,
    memory: Memory,
    poll: Poll,
    agent: Agent,
    calls: Waiting,
    account: Account,
    engines: Vec<Option<Engine>>,
    disks: Vec<Disk>,
    notifications: Vec<EventFd>,
    knobs: Knobs,
    places: Places,
    /// From which the machine goes on.
    snapshot: Option<Snapshot>,
}

impl Opening {
    /// An event that the event loop hears as `token`, as long as it is kept.
    fn event(&self, step: &'static str, token: Token) -> Result<EventFd, OpenError> {
        let event = event()?;
        host(step, self.poll.edges(&event, token))?;
        Ok(event)
    }

    /// Opens a device, connects its registers' line and its queues' events, and puts it to the thread that serves it.
    fn device(&mut self, place: &Place<'_>) -> Result<Window, OpenError> {
        let number = place.number;
        match place.what {
            What::Disk(disk) => self.disk(place, Some(disk)),
            What::Spare => self.disk(place, None),
            What::Card(network) => {
                let tap = self.tap(number, network)?;
                let mut card = Net::new(tap, network.mac, network.mtu);
                card.limit(&network.rate);
                self.knobs.cards.push((number, card.knob()));
                self.served_by_the_loop(place, Box::new(card))
            }
            What::Sockets(cid) => {
                let dialer = HostDialer {
                    agent: self.agent.clone(),
                    poll: self.poll.clone(),
                    device: number,
                    calls: self.calls.clone(),
                };
                self.served_by_the_loop(place, Box::new(Vsock::new(dialer, cid)))
            }
            What::Entropy => self.served_by_the_loop(place, Box::new(Rng)),
            What::Balloon => {
                let balloon = Balloon::new(self.account.clone());
                self.served_by_the_loop(place, Box::new(balloon))
            }
        }
    }

    fn served_by_the_loop(
        &mut self,
        place: &Place<'_>,
        device: Box<dyn Device>,
    ) -> Result<Window, OpenError> {
        let number = place.number;
        for queue in 0..u32::try_from(device.queue_sizes().len()).expect("at most 5") {
            let token = Token::Queue {
                device: number,
                queue,
            };
            let notification = self.event("watch a queue", token)?;
            self.notified(place, queue, &notification)?;
            self.notifications.push(notification);
        }
        let wake = self.event("watch for orders", Token::Order { device: number })?;
        let wires = self.wires(place, wake)?;
        let (window, mut engine) = connect(device, self.memory.clone(), wires);
        self.restore(place, &window, &mut engine)?;
        self.engines.push(Some(engine));
        Ok(window)
    }

    /// A disk's thread waits for one event only: its queue's notification and an order are both written to it.
    fn disk(&mut self, place: &Place<'_>, disk: Option<&VmDisk>) -> Result<Window, OpenError> {
        let mut device = match disk {
            Some(disk) => open_disk(disk)?,
            None => Block::spare(),
        };
        self.knobs.disks.push((place.number, device.knob()));
        let number = u16::try_from(self.places.count()).expect("at most 8");
        let done = self.event("watch a disk", Token::Disk { disk: number })?;
        let orders = Arc::new(Orders::new(done));
        device.obeys(orders.clone());
        let spare = disk.is_none_or(|disk| disk.spare);
        self.places
            .push(place.number, orders, spare, disk.is_some());
        let device = Box::new(device);
        let wake = host(
            "make a disk's event descriptor",
            EventFd::new(libc::EFD_CLOEXEC),
        )?;
        self.notified(place, 0, &wake)?;
        let heard = host("share a disk's event descriptor", wake.try_clone())?;
        let again = host("share a disk's event descriptor", wake.try_clone())?;
        let wires = self.wires(place, wake)?;
        let (window, mut engine) = connect(device, self.memory.clone(), wires);
        if self.restore(place, &window, &mut engine)? {
            // What its driver offered before is served without another word of it.
            host("wake a disk", again.write(1))?;
        }
        self.engines.push(None);
        self.disks.push(Disk {
            number: place.number,
            engine,
            wake: heard,
        });
        Ok(window)
    }

    /// Puts a saved device's state into the one that stands in its place, if the machine is restored; says whether.
    fn restore(
        &self,
        place: &Place<'_>,
        window: &Window,
        engine: &mut Engine,
    ) -> Result<bool, OpenError> {
        let saved = self.snapshot.as_ref().map(Snapshot::devices);
        let Some(saved) = saved.and_then(|all| all.get(usize::from(place.number))) else {
            return Ok(false);
        };
        window
            .restore(engine, saved)
            .map_err(|source| OpenError::Device {
                number: place.number,
                source,
            })?;
        Ok(true)
    }

    /// The guest's writes to the device's notification register, for this queue, become `event`.
    fn notified(&self, place: &Place<'_>, queue: u32, event: &EventFd) -> Result<(), OpenError> {
        let register = IoEventAddress::Mmio(place.registers + QUEUE_NOTIFY);
        kvm(
            "a queue's event",
            self.vm.register_ioevent(event, &register, queue),
        )
    }

    /// The interrupt line there, and its acknowledgement: one exit less per interrupt.
    fn wires(&self, place: &Place<'_>, wake: EventFd) -> Result<Wires, OpenError> {
        let (interrupt, acknowledged) = (event()?, event()?);
        kvm(
            "an interrupt line",
            self.vm.register_irqfd(&interrupt, place.line),
        )?;
        let register = IoEventAddress::Mmio(place.registers + INTERRUPT_ACK);
        kvm(
            "the acknowledgement of an interrupt",
            self.vm
                .register_ioevent(&acknowledged, &register, USED_BUFFER),
        )?;
        Ok(Wires {
            interrupt,
            wake,
            acknowledged,
        })
    }

    fn tap(&self, device: u16, network: &VmNetwork) -> Result<HostTap, OpenError> {
        let host_event = |token| Token::Host { device, token };
        let tap = HostTap::attach(&network.tap).map_err(|source| OpenError::Tap {
            name: network.tap.clone(),
            source,
        })?;
        host("watch a tap", self.poll.edges(&tap, host_event(TAP_READY)))?;
        Ok(tap)
    }
}

fn give_memory(vm: &VmFd, memory: &Memory) -> Result<(), OpenError> {
    for (slot, region) in memory.iter().enumerate() {
        let start = region.start_addr();
        let address = memory
            .get_host_address(start)
            .expect("a region's first byte is in it");
        let region = kvm_userspace_memory_region {
            slot: u32::try_from(slot).expect("two regions"),
            flags: 0,
            guest_phys_addr: start.0,
            memory_size: region.len(),
            userspace_addr: address as u64,
        };
        // SAFETY: the range is a mapping of this process owned by `memory`; clones of it live in the devices, which live
        // as long as the process. The regions do not overlap (`arch::ram`).
        kvm("guest memory", unsafe { vm.set_user_memory_region(region) })?;
    }
    Ok(())
}

fn open_disk(disk: &VmDisk) -> Result<Block<File>, OpenError> {
    let wrong = |source| OpenError::Open {
        what: "disk",
        path: disk.path.clone(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        .write(!disk.read_only)
        .open(&disk.path)
        .map_err(wrong)?;
    let claim = file.claim(disk.read_only).map_err(wrong)?;
    if let Some(expected) = disk.verity {
        let measured = racklet_linux::verity::measure(&file).map_err(wrong)?;
        sealed(expected.0, measured).map_err(wrong)?;
    }
    let mut device = Block::new(file, claim.bytes, disk.read_only, &disk.serial);
    if disk.spare {
        device = device.into_spare();
    }
    device.limit(&disk.rate);
    device.grows(claim.most(disk.grows_to));
    Ok(device)
}

/// Whether the file system verifies what was opened, and against this digest, which covers the size, too.
fn sealed(expected: [u8; 32], measured: Option<[u8; 32]>) -> io::Result<()> {
    let found = match measured {
        Some(found) if found == expected => return Ok(()),
        Some(_) => "it has another fs-verity digest",
        None => "it is not under fs-verity",
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("not the file that was verified before: {found}"),
    ))
}

fn open_file(what: &'static str, path: &Path) -> Result<File, OpenError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .and_then(|file| {
            if file.metadata()?.is_file() {
                Ok(file)
            } else {
                Err(io::Error::other("not a file"))
            }
        });
    opened.map_err(|source| OpenError::Open {
        what,
        path: path.to_owned(),
        source,
    })
}

/// Puts kernel, initramfs and boot tables into memory; gives where the first vCPU begins.
fn load(
    config: &VmConfig,
    kernel: &Path,
    memory: &Memory,
    devices: u32,
    hardware: &arch::Hardware,
) -> Result<u64, OpenError> {
    let kernel = arch::load_kernel(memory, open_file("kernel", kernel)?).map_err(|source| {
        OpenError::Kernel {
            path: kernel.to_owned(),
            source,
        }
    })?;
    let mut files = Vec::new();
    for path in &config.initramfs {
        let file = open_file("initramfs", path)?;
        let wrong = |source| OpenError::Initramfs {
            path: path.clone(),
            source,
        };
        let length = file.metadata().map_err(wrong)?.len();
        if length == 0 || length > MAX_ARCHIVE {
            return Err(wrong(io::Error::other(format!(
                "{length} bytes; 1 to {MAX_ARCHIVE} are accepted"
            ))));
        }
        files.push((path, file, length));
    }
    let (offsets, total) = archives(files.iter().map(|(_, _, length)| *length));
    let first = arch::initramfs_place(memory, &kernel, total)?;
    for ((path, file, length), offset) in files.iter().zip(offsets) {
        let at = GuestAddress(first + offset);
        memory::lay_file(memory, at, *length, file.as_fd(), 0).map_err(|source| {
            OpenError::Initramfs {
                path: (*path).clone(),
                source,
            }
        })?;
    }
    let mut seed = [0; arch::SEED_BYTES];
    host("read random numbers", rng::fill(&mut seed))?;
    let boot = arch::Boot {
        arguments: &config.arguments,
        devices,
        initramfs: (first, total),
        hardware,
        seed,
    };
    arch::prepare(memory, &kernel, &boot)?;
    Ok(kernel.entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_the_file_that_was_verified_or_none() {
        let disk = |verity: &str| -> VmDisk {
            let file = format!(r#"{{"path":"/proc/self/exe","read_only":true{verity}}}"#);
            serde_json::from_str(&file).expect("a disk")
        };
        assert!(open_disk(&disk("")).is_ok());
        let digest = format!(r#","verity":"{}""#, "ab".repeat(32));
        let refused = open_disk(&disk(&digest)).err().expect("is refused");
        let reason = racklet_tell::error::chain(&refused);
        assert!(reason.contains("it is not under fs-verity"), "{reason}");

        assert!(sealed([1; 32], Some([1; 32])).is_ok());
        let another = sealed([1; 32], Some([2; 32])).expect_err("is another");
        assert!(another.to_string().contains("another fs-verity digest"));
    }
}
