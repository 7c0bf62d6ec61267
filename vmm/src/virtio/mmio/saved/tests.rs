// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;
use racklet_api::vmm::Mac;
use serde_json::json;
use vm_memory::{Bytes, GuestAddress};

use super::super::{CONFIG_CHANGE, USED_BUFFER};
use super::*;
use crate::devices::balloon::{ASK, Account, Balloon};
use crate::devices::block::Block;
use crate::devices::net::Net;
use crate::devices::rng::Rng;
use crate::devices::vsock::Vsock;
use crate::memory::Memory;
use crate::testing::{Both, Driver, TestHost, TestTap, test_memory};
use crate::virtio::{Device, Turn};

fn hold(t: &mut Both) -> DeviceState {
    let engine = &mut t.engine;
    t.window.hold_through(|order| {
        let _ = engine.obey(order);
    })
}

/// The device as another monitor has it, by way of the file.
fn moved(state: &DeviceState, device: Box<dyn Device>, memory: &Memory) -> Both {
    let text = serde_json::to_string(state).unwrap();
    let read: DeviceState = serde_json::from_str(&text).unwrap();
    assert_eq!(read, *state);
    let mut t = Both::new(device, memory);
    t.window.restore(&mut t.engine, &read).unwrap();
    t
}

fn disk(sectors: u64, read_only: bool) -> Box<dyn Device> {
    let file = tempfile::tempfile().unwrap();
    file.set_len(sectors * 512).unwrap();
    Box::new(Block::new(file, sectors * 512, read_only, "d"))
}

fn card() -> Box<dyn Device> {
    Box::new(Net::new(TestTap::default(), Mac([2; 6]), 1500))
}

#[test]
fn what_was_served_stays_served_and_the_rest_is_served_after_the_move() {
    let memory = test_memory();
    let mut t = Both::new(Box::new(Rng), &memory);
    let mut driver = Driver::new(&memory, 8);
    crate::testing::start(0, &[&driver], |offset, value| t.set(offset, value));
    driver.offer(&memory, &[(0x8000, 64, true)]);
    let _ = t.engine.notify(0);
    assert_eq!(driver.collect(&memory), Some((0, 64)));
    driver.offer(&memory, &[(0x9000, 32, true)]);
    let state = hold(&mut t);
    assert_eq!(t.engine.notify(0), Turn::Done);
    assert_eq!(t.engine.more(), Turn::Done);
    assert_eq!(driver.collect(&memory), None, "it stands still");
    let mut other = moved(&state, Box::new(Rng), &memory);
    assert_eq!(other.get(0x70), 0xf);
    assert_eq!(other.get(0x44), 1);
    assert!(other.engine.active());
    let _ = other.engine.more();
    assert_eq!(driver.collect(&memory), Some((1, 32)));
    assert_eq!(driver.collect(&memory), None, "once");
}

#[test]
fn a_device_that_goes_on_after_it_was_saved_has_missed_nothing() {
    let memory = test_memory();
    let mut t = Both::new(Box::new(Rng), &memory);
    let mut driver = Driver::new(&memory, 8);
    crate::testing::start(0, &[&driver], |offset, value| t.set(offset, value));
    let _ = hold(&mut t);
    driver.offer(&memory, &[(0x8000, 64, true)]);
    let _ = t.engine.notify(0);
    assert_eq!(driver.collect(&memory), None);
    assert_eq!(t.engine.obey(Order::Go), Turn::More);
    let _ = t.engine.more();
    assert_eq!(driver.collect(&memory), Some((0, 64)));
}

#[test]
fn an_interrupt_that_its_driver_has_not_acknowledged_is_raised_again_and_no_other() {
    let memory = test_memory();
    let mut t = Both::new(Box::new(Rng), &memory);
    let mut driver = Driver::new(&memory, 8);
    crate::testing::start(0, &[&driver], |offset, value| t.set(offset, value));
    driver.offer(&memory, &[(0x8000, 64, true)]);
    let _ = t.engine.notify(0);
    let raised = |t: &Both| t.interrupt.read().is_ok();
    assert!(raised(&t));
    let other = moved(&hold(&mut t), Box::new(Rng), &memory);
    other.window.raise_again();
    assert!(raised(&other));
    assert_eq!(other.get(0x60), USED_BUFFER);
    // Seen here, acknowledged there: the write comes behind the move.
    let _ = t.get(0x60);
    let mut other = moved(&hold(&mut t), Box::new(Rng), &memory);
    other.acknowledged.write(1).unwrap();
    assert_eq!(other.get(0x60), 0);
    let state = hold(&mut other);
    let other = moved(&state, Box::new(Rng), &memory);
    other.window.raise_again();
    assert!(!raised(&other), "it was acknowledged");
    let mut changed = state;
    changed.configuration_changed = true;
    let other = moved(&changed, Box::new(Rng), &memory);
    other.window.raise_again();
    assert!(raised(&other));
    assert_eq!(other.get(0x60), CONFIG_CHANGE);
}

#[test]
fn buffers_that_a_card_or_the_sockets_had_taken_and_not_used_are_the_drivers_again() {
    let memory = test_memory();
    // Room for 64 bytes at a time, and a frame of 100 waits.
    let tap = TestTap::default();
    let mut frame = vec![0; 112];
    frame[12..].fill(5);
    tap.0.lock().unwrap().incoming.push_back(frame);
    let mut t = Both::new(Box::new(Net::new(tap, Mac([2; 6]), 1500)), &memory);
    let mut drivers = [0x1000, 0x5000].map(|at| Driver::at(&memory, 128, at));
    let merge = 1 << 15;
    let [receive, transmit] = &drivers;
    crate::testing::start(merge, &[receive, transmit], |at, value| t.set(at, value));
    drivers[0].offer(&memory, &[(0x9000, 64, true)]);
    let _ = t.engine.more();
    assert_eq!(drivers[0].collect(&memory), None, "not enough room");
    // The frame is lost on the way; the buffer is there for the next.
    let state = hold(&mut t);
    let tap = TestTap::default();
    tap.0.lock().unwrap().incoming.push_back(vec![0; 60]);
    let mut other = moved(&state, Box::new(Net::new(tap, Mac([4; 6]), 1500)), &memory);
    let _ = other.engine.more();
    assert_eq!(drivers[0].collect(&memory), Some((0, 60)));
    let mut address = [0; 6];
    other.window.read(0x100, &mut address);
    assert_eq!(address, [4; 6], "it has the new machine's address");

    let memory = test_memory();
    let mut t = Both::new(Box::new(Vsock::new(TestHost::default(), 3)), &memory);
    let mut drivers = [0, 0x400, 0x800].map(|at| Driver::small(&memory, at));
    let [receive, transmit, events] = &drivers;
    crate::testing::start(0, &[receive, transmit, events], |at, value| {
        t.set(at, value)
    });
    drivers[0].offer(&memory, &[(0x9000, 256, true)]);
    drivers[2].offer(&memory, &[(0xa000, 4, true)]);
    memory.write_obj(u32::MAX, GuestAddress(0xa000)).unwrap();
    let _ = t.engine.more();
    assert_eq!(drivers[2].collect(&memory), None, "nothing has happened");
    let mut other = moved(
        &hold(&mut t),
        Box::new(Vsock::new(TestHost::default(), 77)),
        &memory,
    );
    let _ = other.engine.more();
    assert_eq!(drivers[2].collect(&memory), Some((0, 4)));
    let event: u32 = memory.read_obj(GuestAddress(0xa000)).unwrap();
    assert_eq!(event, 0, "its connections are gone (virtio 1.2, 5.10.6.7)");
    assert_eq!(other.get(0x100), 77);
    assert_eq!(drivers[0].collect(&memory), None);
    assert_eq!(other.engine.more(), Turn::Done, "said once");
}

#[test]
fn a_request_that_waits_for_the_disks_rate_is_served_where_the_disk_goes_on() {
    let memory = test_memory();
    let file = tempfile::tempfile().unwrap();
    file.set_len(4096).unwrap();
    let mut slow = Block::new(file, 4096, false, "d");
    let rate = r#"{"operations":{"per_second":1,"burst":1}}"#;
    slow.limit(&serde_json::from_str(rate).unwrap());
    let mut t = Both::new(Box::new(slow), &memory);
    let mut driver = Driver::new(&memory, 8);
    crate::testing::start(0, &[&driver], |offset, value| t.set(offset, value));
    // Reads of the first sector: a header of zeros.
    for _ in 0..2 {
        driver.offer(&memory, &[(0x9000, 16, false), (0xa000, 513, true)]);
    }
    let mut turns = 0;
    while t.engine.notify(0) == Turn::More {
        turns += 1;
        assert!(turns < 10, "it waits");
    }
    assert_eq!(driver.collect(&memory), Some((0, 513)));
    let mut other = moved(&hold(&mut t), disk(8, false), &memory);
    while other.engine.more() == Turn::More {}
    assert_eq!(driver.collect(&memory), Some((2, 513)));
}

#[test]
fn a_balloon_keeps_what_its_driver_said_and_the_buffer_for_statistics() {
    let memory = test_memory();
    let balloon = || Box::new(Balloon::new(Account::of(1)));
    let mut t = Both::new(balloon(), &memory);
    let place = |n| Driver::small(&memory, 0x4000 * (n as u64 + 2));
    let mut drivers: [Driver; 5] = std::array::from_fn(place);
    let all: Vec<&Driver> = drivers.iter().collect();
    crate::testing::start(0b100110, &all, |at, value| t.set(at, value));
    t.write(0x104, &7_u32.to_le_bytes());
    drivers[2].offer(&memory, &[(0xf000, 10, false)]);
    let _ = t.engine.more();
    assert_eq!(drivers[2].collect(&memory), None, "kept until it is wanted");
    let mut other = moved(&hold(&mut t), balloon(), &memory);
    assert_eq!(other.get(0x104), 7);
    let _ = other.engine.more();
    let _ = other.engine.host_event(ASK);
    assert_eq!(drivers[2].collect(&memory), Some((0, 0)));
}

#[test]
fn a_driver_whose_disk_has_grown_meanwhile_is_told() {
    let memory = test_memory();
    let mut t = Both::new(disk(8, false), &memory);
    let driver = Driver::new(&memory, 8);
    crate::testing::start(0, &[&driver], |offset, value| t.set(offset, value));
    let state = hold(&mut t);
    for (sectors, told) in [(8, 0), (9, CONFIG_CHANGE)] {
        let other = moved(&state, disk(sectors, false), &memory);
        other.window.raise_again();
        assert_eq!(other.get(0x60), told);
        assert_eq!(other.interrupt.read().is_ok(), told != 0);
        assert_eq!(u64::from(other.get(0x100)), sectors);
    }
}

#[test]
fn a_device_in_whose_place_another_stands_is_refused_with_the_reason() {
    let memory = test_memory();
    let mut t = Both::new(disk(8, false), &memory);
    let driver = Driver::new(&memory, 8);
    crate::testing::start(1 << 9, &[&driver], |offset, value| t.set(offset, value));
    let state = serde_json::to_value(hold(&mut t)).unwrap();
    let refused = |device: Box<dyn Device>, change: &dyn Fn(&mut Value)| {
        let mut t = Both::new(device, &memory);
        let mut state = state.clone();
        change(&mut state);
        let state: DeviceState = serde_json::from_value(state).unwrap();
        let restored = t.window.restore(&mut t.engine, &state);
        restored.err().map(|misfit| misfit.to_string())
    };
    let same = |_: &mut Value| {};
    assert_eq!(refused(disk(8, false), &same), None);
    assert_eq!(refused(disk(9, false), &same), None, "it has grown");
    let says = |said: Option<String>, why: &str| {
        assert!(said.as_ref().is_some_and(|s| s.contains(why)), "{said:?}");
    };
    says(refused(disk(7, false), &same), "8");
    says(refused(disk(8, true), &same), "only read");
    says(refused(card(), &same), "another kind");
    says(refused(Box::new(Rng), &same), "another kind");
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 7] = [
        ("features 0x8000000000", |s| {
            s["driver_features"] = json!(0x81_0000_0200_u64)
        }),
        ("features", |s| s["driver_features"] = json!(0x200)),
        ("status 0x7", |s| s["status"] = json!(7)),
        ("queue 0", |s| s["queues"][0]["size"] = json!(7)),
        ("queue 0", |s| s["queues"][0]["used"] = json!(1_u64 << 40)),
        ("another kind", |s| s["queues"] = json!([])),
        ("no disk", |s| s["device"] = json!({"sectors": -1})),
    ];
    for (why, change) in cases {
        says(refused(disk(8, false), &change), why);
    }
}

proptest! {
    /// Whatever a driver has done by then: what is saved of the restored device is what it was restored from.
    #[test]
    fn registers_come_back_as_any_driver_left_them(
        features in any::<u32>(),
        steps in prop::collection::vec((prop::sample::select(vec![0x14_u64, 0x20, 0x24, 0x30, 0x38, 0x44, 0x64, 0x70, 0x80, 0x90, 0xa0]), 0u32..0x2000), 0..40)
    ) {
        let memory = test_memory();
        let mut t = Both::new(disk(8, false), &memory);
        let driver = Driver::new(&memory, 8);
        crate::testing::start(features & 0x206, &[&driver], |offset, value| t.set(offset, value));
        for (register, value) in steps {
            t.set(register, value);
        }
        let state = hold(&mut t);
        let mut other = moved(&state, disk(8, false), &memory);
        prop_assert_eq!(&hold(&mut other), &state);
        for register in [0x34, 0x44, 0x60, 0x70] {
            prop_assert_eq!(t.get(register), other.get(register), "{:#x}", register);
        }
    }
}
