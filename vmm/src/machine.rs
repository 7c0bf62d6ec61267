// SPDX-License-Identifier: Apache-2.0
//! Builds the machine: memory, kernel, devices, vCPUs. Everything is opened here, while the process still may.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use racklet_api::vmm::{VmConfig, VmDisk};
use racklet_linux::tap::TapError;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::agent::Agent;
use crate::arch;
use crate::bus::Bus;
use crate::devices::block::Block;
use crate::devices::net::{MORE, Net, TAP_READY};
use crate::devices::rng::{self, Rng};
use crate::devices::serial::Console;
use crate::devices::vsock::Vsock;
use crate::dial::HostDialer;
use crate::memory::{self, Memory, Segment};
use crate::poll::{Poll, Token};
use crate::tap::HostTap;
use crate::virtio::{Device, QUEUE_NOTIFY, Transport};

/// Largest initramfs archive.
const MAX_ARCHIVE: u64 = 1 << 30;

/// Why a machine cannot be built.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
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
    #[error("attach to tap {name}: does netd have it?")]
    Tap { name: String, source: TapError },
    #[error("{step}")]
    Host {
        step: &'static str,
        source: io::Error,
    },
}

fn kvm<T>(step: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, BuildError> {
    result.map_err(|source| BuildError::Kvm { step, source })
}

fn host<T>(step: &'static str, result: io::Result<T>) -> Result<T, BuildError> {
    result.map_err(|source| BuildError::Host { step, source })
}

fn event() -> Result<EventFd, BuildError> {
    host(
        "make an event descriptor",
        EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC),
    )
}

fn copy(event: &EventFd) -> Result<EventFd, BuildError> {
    host("copy an event descriptor", event.try_clone())
}

/// A machine that is ready to run.
pub(crate) struct Machine {
    /// Keeps the VM; the vCPUs and the events refer to it.
    pub(crate) vm: VmFd,
    pub(crate) vcpus: Vec<VcpuFd>,
    pub(crate) bus: Bus,
    pub(crate) console: std::sync::Arc<Console>,
    pub(crate) agent: Agent,
    pub(crate) vsock: u16,
    pub(crate) poll: Poll,
    /// Queue events: KVM writes to them, epoll watches them.
    pub(crate) notifications: Vec<EventFd>,
}

/// Adds devices one by one: each gets its registers' place, its line and its queues' events.
struct Places<'a> {
    vm: &'a VmFd,
    memory: &'a Memory,
    poll: &'a Poll,
    transports: Vec<Transport>,
    notifications: Vec<EventFd>,
}

impl Places<'_> {
    fn next(&self) -> u16 {
        u16::try_from(self.transports.len()).expect("at most 14 devices")
    }

    fn add(&mut self, device: Box<dyn Device>) -> Result<(), BuildError> {
        let number = self.next();
        let (registers, irq) = arch::device_place(u32::from(number));
        let interrupt = event()?;
        kvm("an interrupt line", self.vm.register_irqfd(&interrupt, irq))?;
        for queue in 0..u32::try_from(device.queue_sizes().len()).expect("at most 3") {
            let notification = event()?;
            let place = IoEventAddress::Mmio(registers + QUEUE_NOTIFY);
            kvm(
                "a queue's event",
                self.vm.register_ioevent(&notification, &place, queue),
            )?;
            let token = Token::Queue {
                device: number,
                queue,
            };
            host("watch a queue", self.poll.edges(&notification, token))?;
            self.notifications.push(notification);
        }
        self.transports
            .push(Transport::new(device, self.memory.clone(), interrupt));
        Ok(())
    }
}

/// Builds the machine.
pub(crate) fn build(config: &VmConfig) -> Result<Machine, BuildError> {
    let hypervisor = Kvm::new().map_err(BuildError::NoKvm)?;
    if hypervisor.get_api_version() != 12 {
        return Err(BuildError::Lacking(
            "KVM on this host has another version than 12".to_owned(),
        ));
    }
    if let Some(what) = arch::missing(&hypervisor) {
        return Err(BuildError::Lacking(what));
    }
    let vm = kvm("create it", hypervisor.create_vm())?;
    let memory = host(
        "map the guest's memory",
        memory::map(&arch::ram(config.memory_mib)),
    )?;
    give_memory(&vm, &memory)?;
    let vcpus = kvm(
        "interrupt controllers, timer and vCPUs",
        arch::set_up(&vm, config.cpus),
    )?;

    let poll = host("make an epoll", Poll::new())?;
    let wake = event()?;
    host("watch the console", poll.edges(&wake, Token::Console))?;
    let console = Console::new(copy(&wake)?);
    let line = event()?;
    kvm(
        "the console's line",
        vm.register_irqfd(&line, arch::CONSOLE_IRQ),
    )?;
    let parts = arch::Parts::new(console.clone(), line);

    let agent = Agent::default();
    let mut places = Places {
        vm: &vm,
        memory: &memory,
        poll: &poll,
        transports: Vec::new(),
        notifications: vec![wake],
    };
    for disk in &config.disks {
        places.add(Box::new(open_disk(disk)?))?;
    }
    for network in &config.networks {
        let again = event()?;
        let device = places.next();
        let tap =
            HostTap::attach(&network.tap, copy(&again)?).map_err(|source| BuildError::Tap {
                name: network.tap.clone(),
                source,
            })?;
        host(
            "watch a tap",
            poll.edges(
                &tap,
                Token::Host {
                    device,
                    token: TAP_READY,
                },
            ),
        )?;
        host(
            "watch a tap",
            poll.edges(
                &again,
                Token::Host {
                    device,
                    token: MORE,
                },
            ),
        )?;
        places.notifications.push(again);
        places.add(Box::new(Net::new(tap, network.mac, network.mtu)))?;
    }
    let vsock = places.next();
    let dialer = HostDialer {
        agent: agent.clone(),
        poll: poll.clone(),
        device: vsock,
    };
    places.add(Box::new(Vsock::new(dialer, config.vsock_cid)))?;
    places.add(Box::new(Rng))?;
    let Places {
        transports,
        mut notifications,
        ..
    } = places;

    let entry = load(
        config,
        &memory,
        u32::try_from(transports.len()).expect("at most 14"),
    )?;
    let cpus = kvm(
        "what the processors show",
        arch::Cpus::new(&hypervisor, config.cpus),
    )?;
    for (number, vcpu) in (0..).zip(&vcpus) {
        kvm("set up a vCPU", cpus.set_up(vcpu, number, entry))?;
    }
    let over = event()?;
    host("watch the vCPUs", poll.edges(&over, Token::Over))?;
    notifications.push(copy(&over)?);
    let bus = Bus::new(parts, transports, over);
    Ok(Machine {
        vm,
        vcpus,
        bus,
        console,
        agent,
        vsock,
        poll,
        notifications,
    })
}

fn give_memory(vm: &VmFd, memory: &Memory) -> Result<(), BuildError> {
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

fn open_disk(disk: &VmDisk) -> Result<Block, BuildError> {
    let wrong = |source| BuildError::Open {
        what: "disk",
        path: disk.path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(!disk.read_only)
        .open(&disk.path)
        .map_err(wrong)?;
    let kind = file.metadata().map_err(wrong)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(wrong(io::Error::new(
            io::ErrorKind::InvalidInput,
            "neither a file nor a block device",
        )));
    }
    // A block device's size is where its end is.
    let size = file.seek(SeekFrom::End(0)).map_err(wrong)?;
    if size < 512 {
        return Err(wrong(io::Error::new(
            io::ErrorKind::InvalidData,
            "smaller than a sector",
        )));
    }
    Ok(Block::new(file, size, disk.read_only, &disk.serial))
}

fn open(what: &'static str, path: &Path) -> Result<File, BuildError> {
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
    opened.map_err(|source| BuildError::Open {
        what,
        path: path.to_owned(),
        source,
    })
}

/// Puts kernel, initramfs and boot tables into memory; gives where the first vCPU begins.
fn load(config: &VmConfig, memory: &Memory, devices: u32) -> Result<u64, BuildError> {
    let kernel = arch::load_kernel(memory, open("kernel", &config.kernel)?).map_err(|source| {
        BuildError::Kernel {
            path: config.kernel.clone(),
            source,
        }
    })?;
    let mut archives = Vec::new();
    let mut total = 0;
    for path in &config.initramfs {
        let file = open("initramfs", path)?;
        let wrong = |source| BuildError::Initramfs {
            path: path.clone(),
            source,
        };
        let len = file.metadata().map_err(wrong)?.len();
        if len == 0 || len > MAX_ARCHIVE {
            return Err(wrong(io::Error::other(format!(
                "{len} bytes; 1 to {MAX_ARCHIVE} are accepted"
            ))));
        }
        archives.push((file, total, len, path));
        total += len.next_multiple_of(4); // each archive begins at a multiple of 4 for the kernel
    }
    let place = arch::initramfs_place(memory, &kernel, total)?;
    for (file, offset, len, path) in archives {
        let segment = Segment {
            address: GuestAddress(place + offset),
            len: u32::try_from(len).expect("at most MAX_ARCHIVE"),
        };
        memory::read_file(memory, &[segment], file.as_fd(), 0).map_err(|source| {
            BuildError::Initramfs {
                path: path.clone(),
                source,
            }
        })?;
    }
    let mut seed = [0; 32];
    host("read random numbers", rng::fill(&mut seed))?;
    let boot = arch::Boot {
        arguments: &config.arguments,
        devices,
        initramfs: (place, total),
        cpus: config.cpus,
        seed,
    };
    arch::prepare(memory, &kernel, &boot)?;
    Ok(kernel.entry)
}
