// SPDX-License-Identifier: Apache-2.0
//! What is kept in flash, with power cut in every operation.

use std::time::Duration;

use proptest::prelude::*;
use racklet_firmware_core::{
    events::{Cause, Entry, Event, Limit, Log, MESSAGE, message},
    floors::Keeper,
    kept::Ring,
    nor::{Failed, Flash, SECTOR},
    power,
};
use racklet_firmware_model::flash::Nor;
use racklet_wire::{bus::Slot, link::Floors};

fn floors(generation: u64) -> Floors {
    Floors {
        trust_root: generation / 7,
        generation,
        head: [generation.to_le_bytes()[0]; 32],
        time: 1_800_000_000 + generation,
    }
}

/// Raises floors one by one until power is cut, in a flash that holds both copies. What is found afterwards, and what was said to be kept.
fn raise_until_cut(after: u32, noise: u32) -> (u64, u64) {
    let mut flash = Nor::new(4);
    let mut kept = 0;
    flash.cut(after, noise);
    let shared = std::cell::RefCell::new(flash);
    let open = || Keeper::open(Half(&shared, 0), Half(&shared, 2 * SECTOR));
    let mut keeper = open().expect("power is on");
    for generation in 1..200 {
        if keeper.raise(&floors(generation)).is_err() {
            break;
        }
        // One copy is enough to count as kept.
        kept = generation;
    }
    shared.borrow_mut().power();
    let mut keeper = open().expect("power is on");
    let found = keeper.floors();
    assert_eq!(
        found,
        if found.generation == 0 {
            Floors::default()
        } else {
            floors(found.generation)
        }
    );
    // And it goes on.
    keeper.raise(&floors(1000)).expect("power is on");
    assert_eq!(open().expect("power is on").floors(), floors(1000));
    (found.generation, kept)
}

/// A part of a flash.
struct Half<'a>(&'a std::cell::RefCell<Nor>, u32);

impl Flash for Half<'_> {
    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Failed> {
        self.0.borrow_mut().read(self.1 + at, into)
    }

    fn erase(&mut self, at: u32) -> Result<(), Failed> {
        self.0.borrow_mut().erase(self.1 + at)
    }

    fn program(&mut self, at: u32, bytes: &[u8]) -> Result<(), Failed> {
        self.0.borrow_mut().program(self.1 + at, bytes)
    }
}

#[test]
fn power_cut_in_any_operation_loses_no_floor_that_was_said_to_be_kept() {
    // Three rounds of both rings: 32 records and an erase, twice, in each.
    for after in 0..400 {
        for noise in [1, 77, 0xdead_beef] {
            let (found, kept) = raise_until_cut(after, noise);
            assert!(
                found == kept || found == kept + 1,
                "cut {after}: {found}, {kept} kept"
            );
        }
    }
}

#[test]
fn a_copy_that_rots_does_not_lower_a_floor() {
    let mut flash = Nor::new(4);
    for (copy, kept) in [(0, 40), (1, 40), (0, 70), (1, 31)] {
        let shared = std::cell::RefCell::new(std::mem::replace(&mut flash, Nor::new(4)));
        let mut keeper = Keeper::open(Half(&shared, 0), Half(&shared, 2 * SECTOR)).unwrap();
        for generation in 1..=kept {
            keeper.raise(&floors(generation)).unwrap();
        }
        for sector in 0..2 {
            for place in 0..32 {
                shared
                    .borrow_mut()
                    .rot(((copy * 2 + sector) * 4096 + place * 128 + 20) * 8 + place);
            }
        }
        let keeper = Keeper::open(Half(&shared, 0), Half(&shared, 2 * SECTOR)).unwrap();
        assert_eq!(keeper.floors(), floors(kept));
    }
}

#[test]
fn floors_that_are_there_already_cost_no_write() {
    let shared = std::cell::RefCell::new(Nor::new(4));
    let mut keeper = Keeper::open(Half(&shared, 0), Half(&shared, 2 * SECTOR)).unwrap();
    keeper.raise(&floors(9)).unwrap();
    let before = shared.borrow().operations();
    keeper.raise(&floors(9)).unwrap();
    keeper.raise(&floors(3)).unwrap();
    assert_eq!(shared.borrow().operations(), before);
}

#[test]
fn a_ring_wears_all_of_its_sectors_alike() {
    let mut flash = Nor::new(4);
    let (mut ring, _) = Ring::open(&mut flash, 4).unwrap();
    for record in 0..12_800_u32 {
        ring.add(&record.to_le_bytes()).unwrap();
    }
    // 32 records a sector: 100 rounds.
    assert_eq!(flash.wear(), 100);
}

fn events() -> impl Strategy<Value = Event> {
    let power = prop_oneof![
        any::<bool>().prop_map(|fault| power::Event::Tripped { fault }),
        any::<u8>().prop_map(power::Event::Starting),
        any::<u16>().prop_map(power::Event::FedFromElsewhere),
        proptest::sample::select(vec![
            power::Event::TakenOver,
            power::Event::On,
            power::Event::Off,
            power::Event::NeedsPerson,
            power::Event::Cleared,
            power::Event::Asked,
            power::Event::Refused,
            power::Event::Overdue,
            power::Event::HostSilent,
            power::Event::HostGivenUp,
        ]),
    ];
    let causes = vec![
        Cause::Power,
        Cause::Run,
        Cause::Watchdog,
        Cause::Software,
        Cause::Unknown,
    ];
    prop_oneof![
        proptest::sample::select(causes).prop_map(Event::Started),
        ".*".prop_map(|text| Event::Panicked(message(&text))),
        power.prop_map(Event::Power),
        any::<u32>().prop_map(Event::Missed),
        (0..5_usize, any::<bool>()).prop_map(|(slot, certain)| Event::Babbles {
            slot: Slot::ALL[slot],
            certain
        }),
        Just(Event::BusQuiet),
        any::<(u8, u16)>().prop_map(|(fan, rpm)| Event::FanSlow { fan, rpm }),
        any::<u8>().prop_map(|address| Event::SensorLost { address }),
    ]
}

proptest! {
    #[test]
    fn entries_come_back_as_they_were(start: u16, millis: u32, time in proptest::option::of(1..u64::MAX), event in events()) {
        let since = Duration::from_millis(millis.into());
        let entry = Entry { start, since, time, event };
        prop_assert_eq!(Entry::decode(&entry.encode()), Some(entry));
    }

    #[test]
    fn power_cut_in_any_operation_loses_the_last_entry_at_most(after in 0..150_u32, noise: u32) {
        let mut flash = Nor::new(3);
        flash.cut(after, noise);
        let (mut ring, _) = Ring::open(&mut flash, 3).unwrap();
        let mut written = 0_u32;
        while ring.add(&(written + 1).to_le_bytes()).is_ok() {
            written += 1;
        }
        flash.power();
        let (mut ring, newest) = Ring::open(&mut flash, 3).unwrap();
        let number = |record: &[u8]| u32::from_le_bytes(record.try_into().unwrap());
        let newest = newest.map_or(0, |it| number(&it));
        prop_assert!(newest == written || newest == written + 1);
        // All but the sector that is written over are still there, in a row.
        let there = (0..).map_while(|back| ring.back(back).unwrap()).map(|it| number(&it));
        let there: Vec<_> = there.collect();
        prop_assert!(there.iter().copied().eq((1..=newest).rev().take(there.len())));
        prop_assert!(there.len() >= newest.min(62) as usize, "{} of {newest}", there.len());
        ring.add(&[1]).unwrap();
    }
}

#[test]
fn a_start_and_a_panic_are_found_after_the_next_start() {
    let mut flash = Nor::new(4);
    let mut log = Log::open(&mut flash, 4).unwrap();
    let text = format!("panicked at bus.rs: {}", "ä".repeat(100));
    let now = Duration::from_millis(1500);
    log.write(Event::Started(Cause::Watchdog), Duration::ZERO, None)
        .unwrap();
    log.write(Event::Panicked(message(&text)), now, Some(1_800_000_000))
        .unwrap();
    let mut log = Log::open(&mut flash, 4).unwrap();
    assert_eq!(log.start(), 2);
    let entry = log.back(0).unwrap().unwrap();
    assert_eq!(
        (entry.start, entry.since, entry.time),
        (1, now, Some(1_800_000_000))
    );
    let Event::Panicked(kept) = entry.event else {
        panic!("{entry:?}")
    };
    // Cut off between two characters.
    let kept = std::str::from_utf8(&kept).unwrap();
    assert!(text.starts_with(kept) && (MESSAGE - 1..=MESSAGE).contains(&kept.len()));
    assert_eq!(
        log.back(1).unwrap().unwrap().event,
        Event::Started(Cause::Watchdog)
    );
    assert_eq!(log.back(2), Ok(None));
}

#[test]
fn a_fault_that_repeats_itself_pushes_nothing_out_and_is_counted() {
    let mut flash = Nor::new(4);
    let mut log = Log::open(&mut flash, 4).unwrap();
    log.write(Event::Started(Cause::Power), Duration::ZERO, None)
        .unwrap();
    let sensor = Event::SensorLost { address: 0x48 };
    for millis in 0..60_000 {
        log.write(sensor, Duration::from_millis(millis), None)
            .unwrap();
    }
    let there: Vec<_> = (0..).map_while(|back| log.back(back).unwrap()).collect();
    assert_eq!(there.last().unwrap().event, Event::Started(Cause::Power));
    let missed = there.iter().map(|it| match it.event {
        Event::Missed(count) => count,
        _ => 1,
    });
    // All but those behind the last one that was let in.
    let counted: u32 = missed.sum();
    assert!((50_000..=60_001).contains(&counted), "{counted}");
    assert!(there.len() < 2 * Limit::BURST as usize);
}
