// SPDX-License-Identifier: Apache-2.0
//! Packets of a hostile guest to the vsock device, through its registers and queues: whatever they claim, the host's ends see bytes of
//! open connections only, and what goes back is addressed to the guest.
#![no_main]

#[path = "../shared/echo.rs"]
mod echo;

use std::io;

use echo::Echo;
use racklet_vmm::devices::vsock::{Dialer, Stream, Vsock};
use racklet_vmm::memory::{self, Memory};
use racklet_vmm::virtio::{Engine, Window, Wires, connect};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

impl Dialer for Echo {
    fn dial(&mut self, port: u32, _token: u32) -> io::Result<Box<dyn Stream>> {
        match port {
            1 => Ok(Box::new(Echo(Vec::new()))),
            _ => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// The host wants a connection as often as it is asked whether it does, to a few ports.
    fn call(&mut self, token: u32) -> Option<(u32, Box<dyn Stream>)> {
        let wanted = self.0.pop()?;
        Some((u32::from(wanted) + token % 2, Box::new(Echo(vec![1; 8]))))
    }
}

const SIZE: u16 = 64;
const HEADER: u32 = 44;
/// Where the rings of a queue are: descriptors, available, used.
const fn rings(queue: u64) -> [u64; 3] {
    let base = 0x1_0000 * (queue + 1);
    [base, base + 0x1000, base + 0x2000]
}
/// Buffers of the receive queue, and the one packet that is being sent.
const RECEIVED: u64 = 0x4_0000;
const EACH: u64 = 0x2000;
const SENT: u64 = 0x2_8000;

/// The device with both its sides on this thread.
struct Device {
    window: Window,
    engine: Engine,
}

fn set(device: &mut Device, register: u64, value: u32) {
    let engine = &mut device.engine;
    device
        .window
        .write_through(register, &value.to_le_bytes(), |order| {
            let _ = engine.obey(order);
        });
}

/// What a driver does once (virtio 1.2, 3.1.1 and 4.2.3.1).
fn switch_on(device: &mut Device) {
    set(device, 0x70, 1);
    set(device, 0x70, 1 | 2);
    // VERSION_1, in the upper half.
    set(device, 0x24, 1);
    set(device, 0x20, 1);
    set(device, 0x70, 1 | 2 | 8);
    for queue in 0..2 {
        set(device, 0x30, queue);
        set(device, 0x38, u32::from(SIZE));
        for (register, address) in [0x80, 0x90, 0xa0].into_iter().zip(rings(u64::from(queue))) {
            set(
                device,
                register,
                u32::try_from(address).expect("below 4 GiB"),
            );
        }
        set(device, 0x44, 1);
    }
    set(device, 0x70, 1 | 2 | 8 | 4);
}

/// Makes descriptor `id`, a buffer, available as the `nth` of its queue.
fn offer(memory: &Memory, queue: u64, (nth, id): (u16, u16), address: u64, len: u32, flags: u16) {
    let [descriptors, available, _] = rings(queue);
    let mut raw = address.to_le_bytes().to_vec();
    raw.extend(len.to_le_bytes());
    raw.extend(flags.to_le_bytes());
    raw.extend([0; 2]);
    let entry = GuestAddress(descriptors + 16 * u64::from(id));
    memory.write_slice(&raw, entry).expect("inside");
    let entry = GuestAddress(available + 4 + 2 * u64::from(nth % SIZE));
    memory.write_obj(id.to_le(), entry).expect("inside");
    let index = nth.wrapping_add(1);
    memory
        .write_obj(index.to_le(), GuestAddress(available + 2))
        .expect("inside");
}

type Packet<'a> = (u16, u8, u8, u8, u32, u32, u8, &'a [u8]);

libfuzzer_sys::fuzz_target!(|packets: Vec<Packet<'_>>| {
    let memory = memory::map(&[(0, 0x10_0000)]).expect("a MiB can be mapped");
    let event = || EventFd::new(EFD_NONBLOCK).expect("an event");
    let wires = Wires {
        interrupt: event(),
        wake: event(),
        acknowledged: event(),
    };
    let sockets = Box::new(Vsock::new(Echo(vec![1; 16]), 3));
    let (window, engine) = connect(sockets, memory.clone(), wires);
    let mut device = Device { window, engine };
    switch_on(&mut device);
    let len = u32::try_from(EACH).expect("small");
    for nth in 0..SIZE {
        offer(
            &memory,
            0,
            (nth, nth),
            RECEIVED + EACH * u64::from(nth),
            len,
            2,
        );
    }
    let _ = device.engine.notify(0);
    let (mut seen, mut sent) = (0_u16, 0_u16);
    for (operation, flags, source, target, buffer, forwarded, lie, data) in packets {
        let data = &data[..data.len().min(4096)];
        let own = u32::try_from(data.len()).expect("small");
        let mut raw = Vec::new();
        // Mostly the truth, so that more than refusals are tried.
        raw.extend(if lie & 1 == 0 { 3_u64 } else { 4 }.to_le_bytes());
        raw.extend(2_u64.to_le_bytes());
        raw.extend(u32::from(source % 4).to_le_bytes());
        // The host's ports of the connections that it wants itself begin here.
        let own_port = u32::from(lie & 8 != 0) << 30;
        raw.extend((own_port + u32::from(target % 3)).to_le_bytes());
        raw.extend((own + u32::from(lie >> 6)).to_le_bytes());
        raw.extend(u16::from(lie & 6 != 6).to_le_bytes());
        raw.extend((operation % 9).to_le_bytes());
        raw.extend(u32::from(flags % 4).to_le_bytes());
        raw.extend(buffer.to_le_bytes());
        raw.extend(forwarded.to_le_bytes());
        raw.extend(data);
        memory
            .write_slice(&raw, GuestAddress(SENT))
            .expect("inside");
        offer(&memory, 1, (sent, 0), SENT, HEADER + own, 0);
        sent = sent.wrapping_add(1);
        let _ = device.engine.notify(1);
        let used = rings(0)[2];
        let index: u16 = memory.read_obj(GuestAddress(used + 2)).expect("inside");
        while seen != index {
            let entry = GuestAddress(used + 4 + 8 * u64::from(seen % SIZE));
            let [id, written]: [u32; 2] = memory.read_obj(entry).expect("inside");
            assert!(id < u32::from(SIZE) && (HEADER..=len).contains(&written));
            let at = RECEIVED + EACH * u64::from(id);
            let [from, to]: [u64; 2] = memory.read_obj(GuestAddress(at)).expect("inside");
            assert_eq!((from, to), (2, 3), "from the host, to this guest");
            let stated: u32 = memory.read_obj(GuestAddress(at + 24)).expect("inside");
            assert_eq!(stated, written - HEADER);
            let id = u16::try_from(id).expect("looked at above");
            offer(&memory, 0, (seen.wrapping_add(SIZE), id), at, len, 2);
            seen = seen.wrapping_add(1);
        }
        let _ = device.engine.notify(0);
        if device.engine.last_fault().is_some() {
            return;
        }
    }
});
