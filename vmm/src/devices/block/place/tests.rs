// SPDX-License-Identifier: Apache-2.0
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress};

use super::super::request::{DISCARD, FLUSH, GET_ID, READ, WRITE, WRITE_ZEROES};
use super::super::{F_DISCARD, F_READ_ONLY, F_WRITE_ZEROES};
use super::*;
use crate::memory::Memory;
use crate::rate::Meter;
use crate::testing::{Both, Driver, start, test_clock, test_memory};
use crate::virtio::{Device, Turn};

const HEAD: u64 = 0x8000;
const DATA: u64 = 0x9000;
const STATUS: u64 = 0x8100;
const GIVEN: u8 = 0x5a;

/// A spare place, driven by its registers.
struct Scene {
    memory: Memory,
    both: Both,
    driver: Driver,
    orders: Arc<Orders<File>>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Scene {
        let memory = test_memory();
        let orders = Arc::new(Orders::new(EventFd::new(0).unwrap()));
        let mut disk = Block::spare();
        disk.meter = Meter::unlimited(test_clock);
        disk.obeys(orders.clone());
        let features = disk.features();
        assert_eq!(features & F_READ_ONLY, 0, "whatever comes");
        let mut both = Both::new(Box::new(disk), &memory);
        let driver = Driver::new(&memory, 8);
        let accepted = u32::try_from(features & 0xffff).unwrap();
        start(accepted, &[&driver], |offset, value| {
            both.set(offset, value)
        });
        let folder = tempfile::tempdir().unwrap();
        Scene {
            memory,
            both,
            driver,
            orders,
            folder,
        }
    }

    /// A file of so many sectors, all of them `GIVEN`, opened in this way.
    fn file(&self, name: &str, sectors: usize, write: bool) -> File {
        let path = self.folder.path().join(name);
        if !path.exists() {
            std::fs::write(&path, vec![GIVEN; sectors * 512]).unwrap();
        }
        File::options().read(true).write(write).open(path).unwrap()
    }

    fn order(&mut self, order: Order<File>) -> Result<u64, String> {
        self.orders.ask(order).unwrap();
        self.both.engine.refresh();
        self.orders.wait().outcome
    }

    fn attach(&mut self, backend: File, read_only: bool, serial: &str) -> Result<u64, String> {
        let says = DiskAttach {
            read_only,
            serial: serial.to_owned(),
            ..DiskAttach::default()
        };
        let largest = 1 << 20;
        self.order(Order::Attach {
            backend,
            says,
            largest,
        })
    }

    /// Capacity as the driver reads it, and whether it was told to.
    fn sees(&mut self) -> (u32, bool) {
        let told = self.both.get(0x60) & 2 != 0;
        self.both.set(0x64, 2);
        (self.both.get(0x100), told)
    }

    /// Offers a request with 512 bytes of data, or without any.
    fn offer(&mut self, kind: u32, data: Option<bool>) {
        let memory = &self.memory;
        memory.write_obj(kind, GuestAddress(HEAD)).unwrap();
        memory.write_obj(0_u64, GuestAddress(HEAD + 8)).unwrap();
        memory.write_obj(0xff_u8, GuestAddress(STATUS)).unwrap();
        let parts = [
            (HEAD, 16, false),
            (DATA, 512, data == Some(true)),
            (STATUS, 1, true),
        ];
        let parts: Vec<_> = parts
            .into_iter()
            .filter(|(at, ..)| *at != DATA || data.is_some())
            .collect();
        self.driver.offer(memory, &parts);
    }

    fn status(&mut self) -> Option<u8> {
        self.driver.collect(&self.memory)?;
        Some(self.memory.read_obj(GuestAddress(STATUS)).unwrap())
    }

    fn request(&mut self, kind: u32, data: Option<bool>) -> u8 {
        self.offer(kind, data);
        while self.both.engine.notify(0) == Turn::More {}
        self.status().expect("it is answered")
    }

    fn data(&self) -> [u8; 512] {
        let mut data = [0; 512];
        self.memory
            .read_slice(&mut data, GuestAddress(DATA))
            .unwrap();
        data
    }
}

fn is_free(path: &Path) -> bool {
    let file = File::options().read(true).write(true).open(path).unwrap();
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_place_without_a_disk_has_no_sector_and_fails_what_it_is_asked() {
    let mut scene = Scene::new();
    assert_eq!(scene.sees(), (0, false));
    for (kind, data) in [(READ, Some(true)), (WRITE, Some(false)), (FLUSH, None)] {
        assert_eq!(scene.request(kind, data), 1, "{kind}");
    }
    assert_eq!(scene.request(DISCARD, Some(false)), 1);
    assert_eq!(scene.request(WRITE_ZEROES, Some(false)), 1);
    assert_eq!(scene.request(GET_ID, Some(true)), 0);
    assert_eq!(scene.data()[..20], [0; 20]);
    let counted = scene.both.window.counters();
    assert_eq!((counted.refused, counted.failed), (4, 1));
}

#[test]
fn a_disk_that_is_attached_is_told_of_read_and_written_and_when_it_goes_it_is_stable_and_free() {
    let mut scene = Scene::new();
    let path = scene.folder.path().join("a");
    let file = scene.file("a", 16, true);
    // Who gave it may keep it: the lock is given back all the same.
    let kept = file.try_clone().unwrap();
    assert_eq!(scene.attach(file, false, "serial-a"), Ok(16 * 512));
    assert_eq!(scene.sees(), (16, true));
    assert!(!is_free(&path));
    assert_eq!(scene.request(READ, Some(true)), 0);
    assert_eq!(scene.data(), [GIVEN; 512]);
    assert_eq!(scene.request(GET_ID, Some(true)), 0);
    assert_eq!(scene.data()[..9], *b"serial-a\0");
    scene
        .memory
        .write_slice(&[7; 512], GuestAddress(DATA))
        .unwrap();
    assert_eq!(scene.request(WRITE, Some(false)), 0);
    assert_eq!(scene.request(FLUSH, None), 0);

    assert_eq!(scene.order(Order::Detach), Ok(0));
    assert_eq!(scene.sees(), (0, true));
    assert!(is_free(&path));
    assert_eq!(
        std::fs::read(&path).unwrap()[..513],
        [&[7; 512][..], &[GIVEN]].concat()
    );
    assert_eq!(scene.request(WRITE, Some(false)), 1);
    assert_eq!(scene.request(READ, Some(true)), 1);
    assert_eq!(scene.both.window.counters().refused, 2);
    assert!(scene.order(Order::Detach).unwrap_err().contains("no disk"));
    assert!(scene.order(Order::Look).unwrap_err().contains("no disk"));
    drop(kept);

    // Another one in its place, and nothing of the first.
    let next = scene.file("b", 4, false);
    assert_eq!(scene.attach(next, true, ""), Ok(4 * 512));
    assert_eq!(scene.request(READ, Some(true)), 0);
    assert_eq!(scene.data(), [GIVEN; 512]);
    assert_eq!(scene.request(GET_ID, Some(true)), 0);
    assert_eq!(scene.data()[..20], [0; 20]);
}

#[test]
fn a_disk_that_is_only_read_fails_writes_although_its_place_offers_them() {
    let mut scene = Scene::new();
    let file = scene.file("a", 16, false);
    assert_eq!(scene.attach(file, true, ""), Ok(16 * 512));
    for kind in [WRITE, DISCARD, WRITE_ZEROES] {
        assert_eq!(scene.request(kind, Some(false)), 1, "{kind}");
    }
    assert_eq!(scene.request(FLUSH, None), 0);
    assert_eq!(scene.both.window.counters().refused, 3);
    // Another reader may have it, a writer not.
    scene.file("a", 16, false).try_lock_shared().unwrap();
    let path = scene.folder.path().join("a");
    assert!(!is_free(&path));
    assert_eq!(scene.order(Order::Detach), Ok(0));
    assert!(is_free(&path));
    assert_eq!(std::fs::read(&path).unwrap(), vec![GIVEN; 16 * 512]);
}

#[test]
fn what_was_opened_in_another_way_or_is_somebody_elses_is_refused_and_not_locked() {
    let mut scene = Scene::new();
    let path = scene.folder.path().join("a");
    let other = scene.file("a", 16, true);
    let open = |flags: i32, write: bool| {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(write).custom_flags(flags);
        options.open(&path).unwrap()
    };
    let writer = File::options().append(true).open(&path).unwrap();
    for (file, read_only) in [
        (open(0, true), true),
        (open(0, false), false),
        (writer, false),
        (open(libc::O_APPEND, true), false),
        (open(libc::O_PATH, false), true),
    ] {
        let refused = scene.attach(file, read_only, "").unwrap_err();
        assert!(refused.contains("not opened plainly"), "{refused}");
        assert!(is_free(&path), "{refused}");
    }
    other.try_lock_shared().unwrap();
    let refused = scene.attach(open(0, true), false, "").unwrap_err();
    assert!(refused.contains("belongs to one"), "{refused}");
    other.try_lock().unwrap();
    let refused = scene.attach(open(0, false), true, "").unwrap_err();
    assert!(refused.contains("writes to it"), "{refused}");
    assert_eq!(scene.sees(), (0, false), "nobody was told of anything");
}

#[test]
fn a_request_that_waits_for_its_rate_fails_with_its_disk_and_never_reaches_the_next_one() {
    let mut scene = Scene::new();
    let backend = scene.file("a", 16, true);
    let rate = r#"{"operations":{"per_second":1,"burst":1}}"#;
    let says = DiskAttach {
        rate: serde_json::from_str(rate).unwrap(),
        ..DiskAttach::default()
    };
    let largest = 1 << 20;
    let attach = Order::Attach {
        backend,
        says,
        largest,
    };
    assert_eq!(scene.order(attach), Ok(16 * 512));
    scene
        .memory
        .write_slice(&[7; 512], GuestAddress(DATA))
        .unwrap();
    assert_eq!(scene.request(WRITE, Some(false)), 0);
    scene.offer(WRITE, Some(false));
    assert!(matches!(scene.both.engine.notify(0), Turn::At(_)));
    assert_eq!(scene.order(Order::Detach), Ok(0));
    let next = scene.file("b", 16, true);
    assert_eq!(scene.attach(next, false, ""), Ok(16 * 512));
    assert_eq!(scene.both.engine.notify(0), Turn::More);
    assert_eq!(scene.status(), Some(1));
    let path = scene.folder.path().join("b");
    assert_eq!(std::fs::read(path).unwrap(), vec![GIVEN; 16 * 512]);
    assert_eq!(scene.both.window.counters().failed, 1);
    // And the limit went with its disk.
    for _ in 0..3 {
        assert_eq!(scene.request(WRITE, Some(false)), 0);
    }
}

#[test]
fn a_guest_whose_queue_is_never_empty_does_not_keep_its_disk() {
    let mut scene = Scene::new();
    let file = scene.file("a", 16, true);
    assert_eq!(scene.attach(file, false, ""), Ok(16 * 512));
    for _ in 0..4 {
        scene.offer(READ, Some(true));
    }
    assert_eq!(scene.both.engine.notify(0), Turn::More);
    scene.orders.ask(Order::Detach).unwrap();
    // Its thread does not refresh between two turns of which the first has more to do.
    assert_eq!(scene.both.engine.notify(0), Turn::More);
    assert_eq!(scene.orders.wait().outcome, Ok(0));
    assert_eq!(scene.sees(), (0, true));
    assert!(is_free(&scene.folder.path().join("a")));
}

#[test]
fn a_guest_that_was_saved_with_a_disk_goes_on_with_one_in_that_place_and_with_no_other() {
    let mut scene = Scene::new();
    let file = scene.file("a", 16, false);
    assert_eq!(scene.attach(file, true, ""), Ok(16 * 512));
    let engine = &mut scene.both.engine;
    let saved = scene.both.window.hold_through(|order| {
        let _ = engine.obey(order);
    });
    let restore = |disk: Block<File>| {
        let mut both = Both::new(Box::new(disk), &scene.memory);
        let restored = both.window.restore(&mut both.engine, &saved);
        restored
            .map(|()| both.get(0x100))
            .map_err(|e| e.to_string())
    };
    let disk = |read_only: bool| {
        let file = scene.file("a", 16, !read_only);
        Block::new(file, 16 * 512, read_only, "")
    };
    assert_eq!(restore(disk(true).into_spare()), Ok(16));
    let refused = restore(Block::spare()).unwrap_err();
    assert!(refused.contains("`spare`"), "{refused}");
    let refused = restore(disk(false)).unwrap_err();
    assert!(refused.contains("are not the same"), "{refused}");
    let refused = restore(disk(true)).unwrap_err();
    let offered = format!("{:#x}", F_DISCARD | F_WRITE_ZEROES);
    assert!(refused.contains(&offered), "{refused}");
}
