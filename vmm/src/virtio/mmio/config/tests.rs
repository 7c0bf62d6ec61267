// SPDX-License-Identifier: Apache-2.0
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use serde_json::Value;

use crate::memory::Memory;
use crate::testing::{Both, Driver, start, test_memory};
use crate::virtio::{Device, Fault, Queue, Turn};

const GENERATION: u64 = 0xfc;
const CONFIG_CHANGE: u32 = 2;

/// A device whose configuration is the host's value twice, and 4 bytes of the driver.
struct Gauge {
    value: Arc<AtomicU32>,
    config: [u8; 12],
    configured: Arc<AtomicU32>,
}

impl Device for Gauge {
    fn id(&self) -> u32 {
        42
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[8]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn writable(&self) -> Range<usize> {
        8..12
    }

    fn configure(&mut self, at: usize, bytes: &[u8]) {
        self.config[at..at + bytes.len()].copy_from_slice(bytes);
        self.configured.fetch_add(1, Ordering::SeqCst);
    }

    fn refresh(&mut self) {
        let value = self.value.load(Ordering::SeqCst).to_le_bytes();
        self.config[..8].copy_from_slice(&[value, value].concat());
    }

    fn notify(&mut self, _: usize, queues: &mut [Queue], memory: &Memory) -> Result<Turn, Fault> {
        self.more(queues, memory)
    }

    fn save(&mut self, _: &mut [Queue]) -> Value {
        Value::Null
    }

    fn restore(&mut self, _: &Value) -> Result<(), String> {
        Ok(())
    }

    fn more(&mut self, _: &mut [Queue], _: &Memory) -> Result<Turn, Fault> {
        self.refresh();
        Ok(Turn::Done)
    }
}

struct Scene {
    t: Both,
    value: Arc<AtomicU32>,
    configured: Arc<AtomicU32>,
    memory: Memory,
}

impl Scene {
    fn new() -> Scene {
        let (memory, value, configured) = (test_memory(), Arc::default(), Arc::default());
        let gauge = Gauge {
            value: Arc::clone(&value),
            config: [0; 12],
            configured: Arc::clone(&configured),
        };
        let t = Both::new(Box::new(gauge), &memory);
        Scene {
            t,
            value,
            configured,
            memory,
        }
    }

    /// The host's side changes.
    fn change(&mut self, value: u32) {
        self.value.store(value, Ordering::SeqCst);
        self.t.engine.refresh();
    }

    fn begin(&mut self) {
        let driver = Driver::new(&self.memory, 8);
        start(0, &[&driver], |offset, value| self.t.set(offset, value));
    }

    /// The value as the driver reads it, and its version.
    fn read(&self) -> (u32, u32) {
        (self.t.get(0x100), self.t.get(GENERATION))
    }

    fn interrupts(&self) -> u64 {
        self.t.window.counters().interrupts
    }
}

#[test]
fn a_driver_is_told_once_of_a_configuration_that_has_changed_and_reads_another_version() {
    let mut s = Scene::new();
    s.begin();
    assert_eq!((s.read(), s.t.get(0x60)), ((0, 0), 0));
    s.change(7);
    assert_eq!((s.read(), s.t.get(0x60)), ((7, 1), CONFIG_CHANGE));
    s.change(7);
    assert_eq!((s.read(), s.interrupts()), ((7, 1), 1), "nothing is new");
    s.t.set(0x64, CONFIG_CHANGE);
    assert_eq!(s.t.get(0x60), 0);
    s.value.store(8, Ordering::SeqCst);
    let _ = s.t.engine.notify(0);
    assert_eq!((s.read(), s.t.get(0x60)), ((8, 2), CONFIG_CHANGE), "a turn");
    let mut all = [9; 8];
    s.t.window.read(0x104, &mut all);
    assert_eq!(all, [8, 0, 0, 0, 0, 0, 0, 0]);
    s.t.window.read(0x10a, &mut all);
    assert_eq!(all, [0; 8], "nothing is behind the end");
}

#[test]
fn a_change_while_no_driver_is_ready_is_told_to_the_one_that_may_have_read_what_was_before() {
    let mut s = Scene::new();
    s.change(1);
    s.t.set(0x70, 0);
    s.begin();
    assert_eq!((s.read().0, s.t.get(0x60)), (1, 0), "it came later");
    s.t.set(0x70, 0);
    s.t.set(0x70, 1);
    assert_eq!(s.read().0, 1);
    s.change(2);
    assert_eq!((s.t.get(0x60), s.interrupts()), (0, 0), "not ready yet");
    s.t.set(0x70, 0);
    s.t.set(0x70, 1);
    s.change(3);
    // The rest of the start, from the driver's bit on.
    let driver = Driver::new(&s.memory, 8);
    start(0, &[&driver], |offset, value| s.t.set(offset, value));
    assert_eq!((s.read().0, s.t.get(0x60)), (3, CONFIG_CHANGE));
}

#[test]
fn a_driver_writes_only_what_is_its_own_and_is_not_told_of_that() {
    let mut s = Scene::new();
    let write = |s: &mut Scene, offset, data: &[u8]| {
        s.t.write(0x100 + offset, data);
        s.configured.load(Ordering::SeqCst)
    };
    assert_eq!(write(&mut s, 8, &[1]), 0, "before it has said what it can");
    s.begin();
    for (offset, data) in [
        (0, &[1; 4][..]),
        (7, &[1]),
        (6, &[1; 4]),
        (9, &[1; 4]),
        (8, &[1; 8]),
        (12, &[1]),
        (u64::MAX - 0x200, &[1]),
        (8, &[]),
    ] {
        assert_eq!(write(&mut s, offset, data), 0, "{offset} {data:?}");
    }
    assert_eq!(s.read(), (0, 0));
    assert_eq!(write(&mut s, 8, &[1, 2, 3, 4]), 1);
    assert_eq!(write(&mut s, 11, &[9]), 2);
    assert_eq!(s.t.get(0x108), 0x0903_0201);
    assert_eq!((s.t.get(0x60), s.interrupts()), (0, 0));
}

#[test]
fn what_a_driver_reads_between_two_looks_at_the_same_version_is_of_one_version() {
    let Scene {
        t,
        value,
        configured,
        memory,
    } = Scene::new();
    let (window, mut engine) = (t.window, t.engine);
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let changes = thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            value.fetch_add(1, Ordering::SeqCst);
            engine.refresh();
        }
    });
    let get = |offset| {
        let mut data = [0; 4];
        window.read(offset, &mut data);
        u32::from_le_bytes(data)
    };
    let (mut whole, mut torn) = (0, 0);
    // Until both have been seen: halves of one version and of two.
    while whole < 1000 || torn == 0 {
        let before = get(GENERATION);
        let halves = [get(0x100), get(0x104)];
        if get(GENERATION) != before {
            torn += 1;
            continue;
        }
        assert_eq!(halves[0], halves[1]);
        whole += 1;
        thread::yield_now();
    }
    over.store(true, Ordering::Relaxed);
    changes.join().unwrap();
    drop((configured, memory));
}
