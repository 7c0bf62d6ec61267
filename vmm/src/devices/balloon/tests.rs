// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;
use racklet_api::vmm::balloon::BalloonState;
use racklet_api::vmm::metrics::GuestMemory;
use vm_memory::Bytes;

use super::*;
use crate::testing::{Both, Driver, start, test_memory};

/// Where a driver writes its requests.
const REQUEST: u64 = 0xf000;
const FULL: u8 = 0xaa;
/// Pages of the memory that are full: behind the rings.
const PAGES: Range<u32> = 0x40..0x80;
const ALL: u32 = 0b100110;

struct Scene {
    memory: Memory,
    t: Both,
    account: Account,
    drivers: [Driver; 5],
}

/// A guest of 1 MiB, whose driver accepted these features.
fn scene(features: u32) -> Scene {
    let memory = test_memory();
    let account = Account::of(1);
    let mut scene = Scene {
        t: Both::new(Box::new(Balloon::new(account.clone())), &memory),
        account,
        drivers: std::array::from_fn(|n| Driver::small(&memory, 0x4000 * (n as u64 + 2))),
        memory,
    };
    for page in PAGES {
        scene.fill(page);
    }
    scene.begin(features);
    scene
}

impl Scene {
    fn begin(&mut self, features: u32) {
        let drivers: Vec<&Driver> = self.drivers.iter().collect();
        start(features, &drivers, |offset, value| {
            self.t.set(offset, value);
        });
        let _ = self.t.engine.more();
    }

    fn fill(&self, page: u32) {
        let at = GuestAddress(u64::from(page) * PAGE);
        self.memory.write_slice(&[FULL; 4096], at).unwrap();
    }

    /// Which of the pages are zeros.
    fn empty(&self) -> Vec<u32> {
        let byte = |page: &u32| -> u8 {
            let at = GuestAddress(u64::from(*page) * PAGE + 17);
            self.memory.read_obj(at).unwrap()
        };
        PAGES.filter(|page| byte(page) == 0).collect()
    }

    /// Sends page numbers to a queue; says whether they were refused.
    fn send(&mut self, queue: usize, numbers: &[u32]) -> bool {
        let raw: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let at = GuestAddress(REQUEST);
        self.memory.write_slice(&raw, at).unwrap();
        let len = u32::try_from(raw.len()).unwrap();
        self.offer(queue, &[(REQUEST, len, false)])
    }

    fn offer(&mut self, queue: usize, parts: &[(u64, u32, bool)]) -> bool {
        let before = self.t.window.counters();
        self.drivers[queue].offer(&self.memory, parts);
        let mut turn = self.t.engine.notify(queue);
        while turn == Turn::More {
            turn = self.t.engine.more();
        }
        let after = self.t.window.counters();
        assert_eq!(self.t.get(0x70), 0xf, "the device goes on");
        after.refused > before.refused
    }

    fn back(&mut self, queue: usize) -> usize {
        std::iter::from_fn(|| self.drivers[queue].collect(&self.memory)).count()
    }
}

#[test]
fn pages_in_the_balloon_are_zeros_and_the_others_are_what_they_were() {
    let mut s = scene(ALL);
    let numbers = [0x50, 0x44, 0x45, 0x44, 0x46, 0x7f];
    assert!(!s.send(INFLATE, &numbers));
    assert_eq!(s.empty(), [0x44, 0x45, 0x46, 0x50, 0x7f]);
    assert_eq!(s.account.metrics().given_back, 5 * PAGE);
    // Out again: nothing happens to them.
    s.fill(0x44);
    assert!(!s.send(DEFLATE, &numbers));
    assert_eq!(s.empty(), [0x45, 0x46, 0x50, 0x7f]);
    assert_eq!((s.back(INFLATE), s.back(DEFLATE)), (1, 1));
}

#[test]
fn requests_that_cannot_be_go_back_undone_and_are_counted() {
    let mut s = scene(ALL);
    for numbers in [
        &[0x44, 0x100][..], // the first page behind its memory
        &[u32::MAX, 0x44],
        &[0x44; MOST_NUMBERS + 1],
    ] {
        assert!(s.send(INFLATE, numbers), "{numbers:?}");
        assert!(s.send(DEFLATE, numbers), "{numbers:?}");
    }
    for parts in [
        &[(REQUEST, 5, false)][..],
        &[(REQUEST, 2, false)],
        &[(REQUEST, 4, true)],
        &[(REQUEST, 0xffff_fffc, false)],
        &[(0x4_0000, 0x2000, false); 2],
    ] {
        assert!(s.offer(INFLATE, parts), "{parts:?}");
    }
    assert!(s.offer(4, &[(0x4_0000, 4096, false)]), "not to be written");
    let most = 0x10_0000;
    let twice = [(0, most, true), (0x4_0000, 4096, true)];
    assert!(s.offer(4, &twice), "more than there is");
    assert!(s.empty().is_empty());
    assert_eq!(s.account.metrics().given_back, 0);
    let short = [(REQUEST, 2, false), (REQUEST + 2, 2, false)];
    s.send(INFLATE, &[0x44]);
    assert!(!s.offer(INFLATE, &short), "the same in two parts");
    assert_eq!(s.empty(), [0x44]);
}

#[test]
fn free_pages_that_are_reported_are_zeros_whichever_number_the_drivers_queue_has() {
    // By the specification; as Linux counts; without statistics as Linux counts.
    for (features, queue) in [(ALL, 4), (ALL, 3), (0b100100, 2)] {
        let mut s = scene(features);
        let parts = [(0x4_4000, 0x2000, true), (0x5_0000, 0x1000, true)];
        assert!(!s.offer(queue, &parts), "{queue}");
        assert_eq!(s.empty(), [0x44, 0x45, 0x50], "{queue}");
        assert_eq!(s.back(queue), 1);
    }
    let mut s = scene(0b110);
    assert!(s.offer(4, &[(0x4_4000, 0x1000, true)]), "not accepted");
    assert!(s.empty().is_empty());
}

#[test]
fn a_large_report_is_taken_in_turns_and_forgotten_with_its_queue() {
    let big = 64 << 20;
    let memory = crate::memory::map(&[(0, big)]).unwrap();
    let account = Account::default();
    let mut t = Both::new(Box::new(Balloon::new(account.clone())), &memory);
    for end in 0..3 {
        let mut drivers: [Driver; 5] =
            std::array::from_fn(|n| Driver::small(&memory, 0x4000 * (n as u64 + 2)));
        let each: Vec<&Driver> = drivers.iter().collect();
        start(ALL, &each, |offset, value| t.set(offset, value));
        let before = account.metrics().given_back;
        let given = || account.metrics().given_back - before;
        // All but the rings' own.
        let from = 1 << 20;
        let len = u32::try_from(big - from).unwrap();
        drivers[4].offer(&memory, &[(from, len, true)]);
        assert_eq!(t.engine.notify(4), Turn::More);
        assert!((TURN..TURN + PIECE).contains(&given()), "{}", given());
        assert_eq!(drivers[4].collect(&memory), None);
        match end {
            0 => {
                assert_eq!(t.engine.more(), Turn::Done);
                assert_eq!(
                    (given(), drivers[4].collect(&memory)),
                    (len.into(), Some((0, 0)))
                );
            }
            1 => {
                t.set(0x30, 4);
                t.set(0x44, 0);
                assert_eq!(t.engine.more(), Turn::Done);
                assert_eq!(given(), TURN);
            }
            _ => {}
        }
        t.set(0x70, 0);
        assert_eq!(t.engine.more(), Turn::Done);
        assert_eq!(drivers[4].collect(&memory), None);
    }
}

#[test]
fn a_guest_that_gives_back_what_it_needs_harms_itself_alone() {
    let mut s = scene(ALL);
    // The rings of the queue that this comes by, and everything else.
    s.drivers[4].offer(&s.memory, &[(0, 0x10_0000, true)]);
    let _ = s.t.engine.notify(4);
    let _ = s.t.engine.more();
    assert_eq!(s.empty().len(), PAGES.len());
    s.t.set(0x70, 0);
    assert_eq!(s.t.get(0x70), 0);
    s.drivers = std::array::from_fn(|n| Driver::small(&s.memory, 0x4000 * (n as u64 + 2)));
    s.begin(ALL);
    s.fill(0x44);
    assert!(!s.send(INFLATE, &[0x44]));
    assert_eq!(s.empty().len(), PAGES.len());
}

#[test]
fn a_target_reaches_the_driver_and_what_it_says_reaches_whoever_asks() {
    let mut s = scene(ALL);
    assert_eq!((s.t.get(0x100), s.t.get(0x104)), (256, 0));
    s.account.want(2);
    s.t.engine.refresh();
    assert_eq!((s.t.get(0x100), s.t.get(0x60)), (512, 2));
    s.t.set(0x104, 300);
    let state = |target_mib, actual_mib| BalloonState {
        target_mib,
        actual_mib,
    };
    assert_eq!(s.account.state(), state(2, 1));
    s.t.set(0x100, 7);
    assert_eq!(s.t.get(0x100), 512, "the target is not the driver's");
    s.t.set(0x104, u32::MAX);
    assert_eq!(s.account.state(), state(2, u32::MAX / 256), "a claim");
    s.t.set(0x70, 0);
    assert_eq!((s.t.get(0x100), s.t.get(0x104)), (512, 0));
    assert_eq!(s.account.state(), state(2, 0));
}

#[test]
fn statistics_are_what_the_driver_said_last_and_are_made_anew_when_asked_for() {
    let mut s = scene(ALL);
    let tell = |s: &mut Scene, tags: &[(u16, u64)]| {
        let raw: Vec<u8> = tags
            .iter()
            .flat_map(|(tag, value)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat())
            .chain([1, 2, 3])
            .collect();
        s.memory.write_slice(&raw, GuestAddress(REQUEST)).unwrap();
        let len = u32::try_from(raw.len()).unwrap();
        s.offer(STATISTICS, &[(REQUEST, len, false)])
    };
    let guest = |free, total, available| {
        Some(GuestMemory {
            total,
            free,
            available,
        })
    };
    assert!(!tell(&mut s, &[(4, 10), (9, 1), (5, 20), (6, u64::MAX)]));
    assert_eq!(s.account.metrics().guest, guest(10, 20, u64::MAX));
    assert_eq!(s.back(STATISTICS), 0, "kept until they are wanted");
    let _ = s.t.engine.host_event(ASK);
    assert_eq!(s.back(STATISTICS), 1);
    let _ = s.t.engine.host_event(ASK);
    assert_eq!(s.back(STATISTICS), 0, "there is none to give");
    tell(&mut s, &[(4, 11)]);
    assert_eq!(s.account.metrics().guest, guest(11, 0, 0));
    tell(&mut s, &[(4, 12)]);
    assert_eq!(s.back(STATISTICS), 1, "the one before");
    s.t.set(0x70, 0);
    assert_eq!(s.account.metrics().guest, None);
    let _ = s.t.engine.host_event(ASK);
}

proptest! {
    #[test]
    fn whatever_is_named_only_what_was_named_is_emptied(
        numbers in prop::collection::vec(prop_oneof![4 => PAGES, 1 => 0x100..0x110_u32], 1..40),
        reports in prop::collection::vec((0x4_0000..0x8_0000_u64, 1..0x3000_u32), 0..4)
    ) {
        let mut s = scene(ALL);
        let refused = s.send(INFLATE, &numbers);
        prop_assert_eq!(refused, numbers.iter().any(|n| *n >= 0x100));
        let mut named = vec![0_u8; PAGES.len()];
        if !refused {
            for number in &numbers {
                named[(number - PAGES.start) as usize] = 1;
            }
        }
        for (at, len) in reports {
            let len = len.min(u32::try_from(0x8_0000 - at).unwrap());
            prop_assert!(!s.offer(3, &[(at, len, true)]));
            for page in PAGES {
                let page = u64::from(page) * PAGE;
                if at <= page && page + PAGE <= at + u64::from(len) {
                    named[usize::try_from(page / PAGE).unwrap() - PAGES.start as usize] = 1;
                }
            }
        }
        let expected: Vec<u32> = PAGES.zip(named).filter(|(_, named)| *named == 1).map(|(page, _)| page).collect();
        prop_assert_eq!(s.empty(), expected);
    }
}
