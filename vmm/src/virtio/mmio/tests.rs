// SPDX-License-Identifier: Apache-2.0
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use racklet_api::vmm::Mac;
use racklet_api::vmm::metrics::FaultCounts;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::devices::balloon::{Account, Balloon};
use crate::devices::block::Block;
use crate::devices::net::Net;
use crate::devices::rng::Rng;
use crate::devices::vsock::Vsock;
use crate::testing::{Both, Driver, TestHost, TestTap, test_memory};
use crate::virtio::{Fault, Turn};

fn transport() -> (Memory, Both) {
    let memory = test_memory();
    let both = Both::new(Box::new(Rng), &memory);
    (memory, both)
}

/// As [`Both::start`], with a size of the queue of its own.
fn start(t: &mut Both, driver: &Driver, size: u32) {
    crate::testing::start(0, &[driver], |offset, value| {
        let value = if offset == 0x38 { size } else { value };
        t.set(offset, value);
    });
}

#[test]
fn a_driver_that_keeps_the_order_is_served_and_interrupted() {
    let (memory, mut t) = transport();
    let mut driver = Driver::new(&memory, 8);
    assert_eq!((t.get(0), t.get(4), t.get(8)), (MAGIC, 2, 4));
    start(&mut t, &driver, 8);
    assert_eq!(t.get(0x70), 0xf);
    driver.offer(&memory, &[(0x8000, 64, true)]);
    let _ = t.engine.notify(0);
    assert_eq!(driver.collect(&memory), Some((0, 64)));
    assert_eq!(t.get(0x60), USED_BUFFER);
    assert_eq!(t.interrupt.read().unwrap(), 1);
    t.set(0x64, 1);
    assert_eq!(t.get(0x60), 0);
}

/// KVM takes the acknowledgement and tells nobody: what it was for is what had been read before.
#[test]
fn an_interrupt_between_a_drivers_look_and_its_acknowledgement_is_not_lost() {
    let (memory, mut t) = transport();
    let mut driver = Driver::new(&memory, 8);
    start(&mut t, &driver, 8);
    let mut serve = |t: &mut Both| {
        driver.offer(&memory, &[(0x8000, 64, true)]);
        let _ = t.engine.notify(0);
        assert!(driver.collect(&memory).is_some());
    };
    serve(&mut t);
    assert_eq!(t.get(0x60), USED_BUFFER);
    assert_eq!(t.get(0x60), USED_BUFFER, "reading does not acknowledge");
    serve(&mut t);
    t.acknowledged.write(1).unwrap();
    assert_eq!(t.get(0x60), USED_BUFFER, "the second");
    t.acknowledged.write(1).unwrap();
    assert_eq!(t.get(0x60), 0);
    serve(&mut t);
    assert_eq!(t.get(0x60), USED_BUFFER);
    t.set(0x64, CONFIG_CHANGE);
    assert_eq!(t.get(0x60), USED_BUFFER, "not what was acknowledged");
    t.acknowledged.write(1).unwrap();
    t.set(0x70, 0);
    start(&mut t, &Driver::new(&memory, 8), 8);
    assert_eq!(t.get(0x60), 0, "forgotten in the reset");
}

#[test]
fn a_broken_index_stops_the_device_until_reset() {
    let (memory, mut t) = transport();
    let mut driver = Driver::new(&memory, 8);
    start(&mut t, &driver, 8);
    driver.set_available_index(&memory, 9);
    let _ = t.engine.notify(0);
    assert_eq!(t.get(0x70) & NEEDS_RESET, NEEDS_RESET);
    assert_eq!(t.get(0x60), CONFIG_CHANGE);
    assert_eq!(t.engine.last_fault(), Some(Fault::Runaway(9)));
    driver.set_available_index(&memory, 0);
    driver.offer(&memory, &[(0x8000, 64, true)]);
    let _ = t.engine.notify(0);
    assert_eq!(driver.collect(&memory), None, "a faulty device is quiet");
    t.set(0x70, 0);
    let mut driver = Driver::new(&memory, 8);
    start(&mut t, &driver, 8);
    driver.offer(&memory, &[(0x8000, 64, true)]);
    let _ = t.engine.notify(0);
    assert_eq!(driver.collect(&memory), Some((0, 64)));
    let counted = Counters {
        returned: 1,
        interrupts: 2,
        resets: 1,
        faults: FaultCounts {
            runaway: 1,
            ..FaultCounts::default()
        },
        ..Counters::default()
    };
    assert_eq!(t.window.counters(), counted, "a reset does not forget it");
}

#[test]
fn a_request_of_a_wrong_form_is_counted_and_the_device_goes_on() {
    let (memory, mut t) = transport();
    let mut driver = Driver::new(&memory, 8);
    start(&mut t, &driver, 8);
    driver.offer(&memory, &[(1 << 40, 64, true)]);
    driver.offer(&memory, &[(0x8000, 64, false)]);
    driver.offer(&memory, &[(0x8000, 64, true)]);
    let _ = t.engine.notify(0);
    for back in [(0, 0), (1, 0), (2, 64)] {
        assert_eq!(driver.collect(&memory), Some(back));
    }
    assert_eq!((t.get(0x70), t.get(0x60)), (0xf, USED_BUFFER));
    let counted = Counters {
        returned: 3,
        refused: 2,
        interrupts: 1,
        ..Counters::default()
    };
    assert_eq!(t.window.counters(), counted);
}

#[test]
fn features_that_were_not_offered_are_not_accepted() {
    let (_, mut t) = transport();
    for status in [1, 3] {
        t.set(0x70, status);
    }
    t.set(0x24, 1);
    t.set(0x20, 1 | 1 << 20);
    t.set(0x70, 0xb);
    assert_eq!(t.get(0x70), 3, "FEATURES_OK stays away");
}

#[test]
fn a_wrong_size_is_a_fault_not_a_panic() {
    for size in [0, 3, 1 << 15, 1 << 16, u32::MAX] {
        let (memory, mut t) = transport();
        start(&mut t, &Driver::new(&memory, 8), size);
        assert_eq!(t.get(0x70) & NEEDS_RESET, NEEDS_RESET, "{size}");
        assert_eq!(t.get(0x44), 0, "{size}");
        let _ = t.engine.notify(0);
    }
}

proptest! {
    #[test]
    fn no_sequence_of_register_accesses_panics(
        ops in prop::collection::vec((any::<bool>(), 0u64..0x120, prop_oneof![Just(0u32), Just(1), Just(3), Just(0xb), Just(0xf), any::<u32>()], 0usize..9), 0..80)
    ) {
        let (_, mut t) = transport();
        for (write, offset, value, len) in ops {
            let mut data = [0; 8];
            data[..4].copy_from_slice(&value.to_le_bytes());
            if write {
                t.write(offset & !3, &data[..4]);
                t.write(offset, &data[..len]);
            } else {
                t.window.read(offset, &mut data[..len]);
            }
            let _ = t.engine.notify(value as usize);
            let _ = t.engine.host_event(value);
                let _ = t.engine.more();
        }
    }
}

/// A device of each kind, with host ends that answer.
fn device_of_kind(kind: u8) -> Box<dyn Device> {
    let host = TestHost::default();
    {
        let mut host = host.0.lock().unwrap();
        host.room = 1 << 16;
        host.to_guest = vec![1; 5000];
    }
    let tap = TestTap::default();
    let frames = [vec![0; 60], vec![0; 2000]];
    tap.0.lock().unwrap().incoming.extend(frames);
    match kind {
        0 => Box::new(Rng),
        1 => Box::new(Net::new(tap, Mac([2; 6]), 1500)),
        2 => Box::new(Vsock::new(host, 3)),
        5 => Box::new(Balloon::new(Account::of(1))),
        _ => {
            let file = tempfile::tempfile().unwrap();
            file.set_len(4096).unwrap();
            Box::new(Block::new(file, 4096, kind == 3, "d"))
        }
    }
}

proptest! {
    /// As the fuzz target `virtio_devices` does it, without a memory of what was interesting.
    #[test]
    fn no_registers_and_no_memory_of_a_guest_keep_a_device_busy_or_panic(
        kind in 0u8..6,
        features in any::<u32>(),
        steps in prop::collection::vec((0u8..6, 0u64..0x120, 0u64..0x1000, any::<u32>(), prop::collection::vec(any::<u8>(), 0..60)), 0..60)
    ) {
        let memory = test_memory();
        let mut t = Both::new(device_of_kind(kind), &memory);
        let drivers = [0, 0x400, 0x800].map(|at| Driver::small(&memory, at));
        let features = features & u32::try_from(t.window.features & 0xffff_ffff).unwrap();
        crate::testing::start(features, &[&drivers[0], &drivers[1], &drivers[2]], |offset, value| t.set(offset, value));
        for (what, register, at, value, bytes) in steps {
            match what {
                0 => t.set(register & !3, value),
                1 => memory.write_slice(&bytes, GuestAddress(at)).unwrap(),
                2 => {
                    // Mostly what a driver could mean: a small number.
                    let index = u16::try_from(value % 12).unwrap();
                    memory.write_obj(index, GuestAddress(at & !1)).unwrap();
                }
                3 => {
                    let _ = t.engine.notify(usize::try_from(register % 4).unwrap());
                },
                4 => {
                    let _ = t.engine.host_event(value);
                }
                _ => {
                    t.get(register & !3);
                }
            }
            let mut turns = 0;
            while t.engine.more() == Turn::More {
                turns += 1;
                prop_assert!(turns < 1024, "kind {kind} does not come to an end");
            }
        }
        t.set(0x70, 0);
        prop_assert_eq!(t.get(0x70), 0);
        prop_assert_eq!(t.engine.more(), Turn::Done);
    }
}

/// A guest's processor that makes requests available as fast as they are served, until it is dropped.
struct Hog(Arc<AtomicBool>);

impl Hog {
    fn of(memory: &Memory, [_, available, used]: [u64; 3], size: u16) -> Hog {
        let (memory, go_on) = (memory.clone(), Arc::new(AtomicBool::new(true)));
        let hog = Hog(go_on.clone());
        std::thread::spawn(move || {
            while go_on.load(Ordering::Relaxed) {
                let served: u16 = memory.read_obj(GuestAddress(used + 2)).unwrap();
                let ahead = served.wrapping_add(size - 8);
                memory
                    .write_obj(ahead, GuestAddress(available + 2))
                    .unwrap();
            }
        });
        hog
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[test]
fn a_guest_that_keeps_a_queue_busy_is_left_after_a_turn_and_can_be_reset() {
    let disk = || {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        Box::new(Block::new(file, 4096, false, "d"))
    };
    let card = || Box::new(Net::new(TestTap::default(), Mac([2; 6]), 1500));
    // A read of the disk's first sector is all zeros; so is a frame, and a packet from nobody.
    let cases: [(Box<dyn Device>, usize, &[_]); 5] = [
        (disk(), 0, &[(0x9000, 16, false), (0xa000, 513, true)]),
        (card(), 1, &[(0x9000, 60, false)]),
        (
            Box::new(Vsock::new(TestHost::default(), 3)),
            1,
            &[(0x9000, 44, false)],
        ),
        (Box::new(Rng), 0, &[(0xa000, 64, true)]),
        // Out of the balloon, so that it goes on for ever: page 0 would be one of its rings otherwise.
        (
            Box::new(Balloon::new(Account::of(1))),
            1,
            &[(0x9000, 4, false)],
        ),
    ];
    for (device, queue, request) in cases {
        let memory = test_memory();
        let mut t = Both::new(device, &memory);
        let id = t.get(8);
        let mut drivers = [0x1000, 0x5000].map(|at| Driver::at(&memory, 128, at));
        let rings = drivers[queue].rings();
        let size: u16 = if matches!(id, 4 | 5) { 64 } else { 128 };
        crate::testing::start(0, &[&drivers[0], &drivers[1]], |offset, value| {
            let size = u32::from(size);
            t.set(offset, if offset == 0x38 { size } else { value });
        });
        // Every entry of the ring names this one.
        drivers[queue].offer(&memory, request);
        let hog = Hog::of(&memory, rings, size);
        let used = || memory.read_obj::<u16>(GuestAddress(rings[2] + 2)).unwrap();
        while used() == 0 {
            let _ = t.engine.notify(queue);
            assert_eq!(t.engine.last_fault(), None, "device {id}");
        }
        for _ in 0..20 {
            let before = used();
            let _ = t.engine.more();
            let served = used().wrapping_sub(before);
            assert!(served <= 128, "device {id}: {served} in a turn");
        }
        assert_eq!(t.engine.last_fault(), None, "device {id}");
        t.set(0x70, 0);
        assert_eq!(t.engine.more(), Turn::Done, "device {id}");
        drop(hog);
    }
}

#[test]
fn a_turn_that_its_budget_ended_is_counted_where_others_waited_for_it() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let disk = Box::new(Block::new(file, 4096, false, "d"));
    let card = Box::new(Net::new(TestTap::default(), Mac([2; 6]), 1500));
    let cases: [(Box<dyn Device>, usize, u16, u64); 2] = [
        // 200 frames: a turn is 128 of them.
        (card, 1, 256, 1),
        // Each request is a turn of a thread for which nobody waits.
        (disk, 0, 128, 0),
    ];
    for (device, queue, size, cut) in cases {
        let memory = test_memory();
        let mut t = Both::new(device, &memory);
        let mut drivers = [0x1000, 0x5000].map(|at| Driver::at(&memory, size, at));
        let [receive, transmit] = &drivers;
        crate::testing::start(0, &[receive, transmit], |at, value| t.set(at, value));
        for _ in 0..200 {
            drivers[queue].offer(&memory, &[(0x9000, 64, false)]);
            if queue == 0 {
                let _ = t.engine.notify(0);
            }
        }
        while t.engine.more() == Turn::More {}
        let counted = t.window.counters();
        assert_eq!((counted.returned, counted.cut_turns), (200, cut));
    }
}

#[test]
fn a_queue_that_is_switched_off_is_left_alone() {
    let (memory, mut t) = transport();
    let mut driver = Driver::new(&memory, 8);
    start(&mut t, &driver, 8);
    driver.offer(&memory, &[(0x8000, 64, true)]);
    t.set(0x44, 0);
    assert_eq!(t.get(0x44), 0);
    assert_eq!(t.engine.notify(0), Turn::Done);
    assert_eq!(driver.collect(&memory), None);
    t.set(0x44, 1);
    assert_eq!(t.get(0x44), 0, "only a reset brings it back");
}
