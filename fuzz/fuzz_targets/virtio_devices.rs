// SPDX-License-Identifier: Apache-2.0
//! Each device behind its registers and queues, with a hostile guest that writes registers and memory as it likes: nothing panics,
//! every turn ends, and a reset brings the device back to where a driver can begin.
#![no_main]

#[path = "../shared/echo.rs"]
mod echo;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};

use echo::Echo;
use racklet_api::vmm::Mac;
use racklet_api::vmm::disk::DiskAttach;
use racklet_linux::tap::Offloads;
use racklet_vmm::devices::balloon::{Account, Balloon};
use racklet_vmm::devices::block::{Block, Order, Orders};
use racklet_vmm::devices::net::{Net, Tap};
use racklet_vmm::devices::rng::Rng;
use racklet_vmm::devices::vsock::{Dialer, Stream, Vsock};
use racklet_vmm::memory::{self, Memory};
use racklet_vmm::virtio::{Device, Engine, Turn, Wires, connect};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const MEMORY: u64 = 0x2_0000;
const DISK: u64 = 0x1000;
/// Turns after which a device must have found that there is nothing more to do: the guest stands still meanwhile, and its queues
/// hold at most 256 requests, of which a turn serves at least one.
const TURNS: usize = 4 * 256;

/// Sends every frame back.
#[derive(Default)]
struct Loop(VecDeque<Vec<u8>>);

impl Tap for Loop {
    fn read(&mut self, frame: &mut Vec<u8>) -> io::Result<usize> {
        let next = self.0.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        frame.extend_from_slice(&next);
        Ok(next.len())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        if self.0.len() < 16 {
            self.0.push_back(frame.to_vec());
        }
        Ok(frame.len())
    }

    fn set_offloads(&mut self, _: Offloads) -> io::Result<()> {
        Ok(())
    }
}

impl Dialer for Echo {
    fn dial(&mut self, _port: u32, _token: u32) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(Echo(Vec::new())))
    }
}

/// A descriptor of the one disk there is.
fn disk() -> File {
    static FILE: OnceLock<File> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(DISK).expect("a size");
        file
    });
    file.try_clone().expect("a descriptor")
}

fn device(which: u8, orders: &Arc<Orders<File>>) -> Box<dyn Device> {
    match which % 7 {
        0 => Box::new(Rng),
        1 => Box::new(Net::new(Loop::default(), Mac([2; 6]), 1500)),
        2 => Box::new(Vsock::new(Echo(Vec::new()), 3)),
        5 => Box::new(Balloon::new(Account::of(1))),
        6 => {
            let mut place = Block::spare();
            place.obeys(orders.clone());
            Box::new(place)
        }
        read_only => Box::new(Block::new(disk(), DISK, read_only == 3, "fuzz")),
    }
}

/// What the host may do with a disk's place at any time, by a number.
fn order(value: u32) -> Order<File> {
    match value % 4 {
        0 => Order::Look,
        1 => Order::Detach,
        _ => Order::Attach {
            backend: disk(),
            says: DiskAttach {
                read_only: value & 4 != 0,
                grows_to: Some(u64::from(value >> 3)),
                ..DiskAttach::default()
            },
            // What its file may come to have may be more.
            largest: 8 * DISK,
        },
    }
}

/// Which of its registers and addresses the guest means: mostly those that exist.
type Step<'a> = (u8, u8, u16, u32, &'a [u8]);

libfuzzer_sys::fuzz_target!(|input: (u8, u32, Vec<Step<'_>>)| {
    let (which, features, steps) = input;
    let memory = memory::map(&[(0, MEMORY)]).expect("128 KiB can be mapped");
    let event = || EventFd::new(EFD_NONBLOCK).expect("an event");
    let wires = Wires {
        interrupt: event(),
        wake: event(),
        acknowledged: event(),
    };
    let orders = Arc::new(Orders::new(event()));
    let (window, mut engine) = connect(device(which, &orders), memory.clone(), wires);
    let set = |engine: &mut Engine, register: u64, value: u32| {
        window.write_through(register, &value.to_le_bytes(), |order| {
            let _ = engine.obey(order);
        });
    };
    // A start as a driver does it, with rings where the steps write; a step may undo all of it.
    for (register, value) in [
        (0x70, 1),
        (0x70, 3),
        (0x20, features),
        (0x24, 1),
        (0x20, 1),
        (0x70, 11),
    ] {
        set(&mut engine, register, value);
    }
    for queue in 0..5 {
        for (register, value) in [
            (0x30, queue),
            (0x38, 8),
            (0x80, queue * 0x400),
            (0x90, queue * 0x400 + 0x100),
            (0xa0, queue * 0x400 + 0x200),
            (0x44, 1),
        ] {
            set(&mut engine, register, value);
        }
    }
    set(&mut engine, 0x70, 15);
    // Where the rings are that the device looks at.
    let rings = if which % 7 == 5 { 0x1400 } else { 0x800 };
    for (what, register, at, value, bytes) in steps {
        match what % 6 {
            // The last of them are the configuration's first.
            0 => {
                let beyond = if register >= 0xf0 { 0x10 } else { 0 };
                set(&mut engine, u64::from(register) + beyond, value);
            }
            1 => write(&memory, u64::from(at), bytes),
            2 => write(&memory, u64::from(at % rings), &value.to_le_bytes()),
            3 => {
                let _ = engine.notify(usize::from(register % 5));
            }
            // The others' devices never look for an order.
            4 if which % 7 == 6 => {
                assert!(orders.ask(order(value)).is_ok());
                engine.refresh();
            }
            4 => {
                let _ = engine.host_event(value);
            }
            _ => {
                let mut data = [0; 8];
                let length = usize::from(register % 9);
                window.read(u64::from(at), &mut data[..length]);
            }
        }
        let mut turns = 0;
        while engine.more() == Turn::More {
            turns += 1;
            assert!(turns < TURNS, "a device that does not come to an end");
        }
        // An order is answered at once, whatever the queue holds.
        let asked = what % 6 == 4 && which % 7 == 6;
        assert_eq!(orders.outcome().is_some(), asked);
    }
    set(&mut engine, 0x70, 0);
    let mut status = [1; 4];
    window.read(0x70, &mut status);
    assert_eq!(status, [0; 4]);
    assert_eq!(engine.more(), Turn::Done);
});

fn write(memory: &Memory, at: u64, bytes: &[u8]) {
    // What lies beyond its memory, a guest cannot write.
    let _ = memory.write_slice(bytes, GuestAddress(at));
}
