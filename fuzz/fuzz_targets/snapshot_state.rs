// SPDX-License-Identifier: Apache-2.0
//! A snapshot's state, written by anybody: the whole file, and a single device, which is put in the place of each kind. What is
//! refused leaves nothing behind that matters, what is taken is a device that serves, comes to an end and can be reset.
#![no_main]

#[path = "../shared/echo.rs"]
mod echo;

use std::io;

use echo::Echo;
use racklet_trust::digest::Digest;
use racklet_vmm::devices::block::Block;
use racklet_vmm::devices::rng::Rng;
use racklet_vmm::devices::vsock::{Dialer, Stream, Vsock};
use racklet_vmm::memory;
use racklet_vmm::snapshot::read_state;
use racklet_vmm::virtio::{Device, DeviceState, Turn, Wires, connect};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

impl Dialer for Echo {
    fn dial(&mut self, _port: u32, _token: u32) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(Echo(Vec::new())))
    }
}

fn devices() -> [Box<dyn Device>; 3] {
    let file = tempfile::tempfile().expect("a file");
    file.set_len(4096).expect("a size");
    [
        Box::new(Rng),
        Box::new(Vsock::new(Echo(Vec::new()), 3)),
        Box::new(Block::new(file, 4096, false, "fuzz")),
    ]
}

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let mut file = format!("racklet-snapshot 2 {}\n", Digest::of(body)).into_bytes();
    file.extend(body);
    let _ = read_state(&file);
    let _ = read_state(body);
    let Ok(state) = serde_json::from_slice::<DeviceState>(body) else {
        return;
    };
    for device in devices() {
        let memory = memory::map(&[(0, 0x2_0000)]).expect("128 KiB can be mapped");
        let event = || EventFd::new(EFD_NONBLOCK).expect("an event");
        let wires = Wires {
            interrupt: event(),
            wake: event(),
            acknowledged: event(),
        };
        let (window, mut engine) = connect(device, memory, wires);
        if window.restore(&mut engine, &state).is_err() {
            continue;
        }
        window.raise_again();
        let mut turns = 0;
        while engine.more() == Turn::More {
            turns += 1;
            assert!(turns < 1024, "a device that does not come to an end");
        }
        window.write_through(0x70, &[0; 4], |order| {
            let _ = engine.obey(order);
        });
        let mut status = [1; 4];
        window.read(0x70, &mut status);
        assert_eq!(status, [0; 4]);
    }
});
