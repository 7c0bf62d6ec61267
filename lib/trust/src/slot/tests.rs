// SPDX-License-Identifier: Apache-2.0
//! Tests of the slot record: the decisions, and every place where a write can be cut.

extern crate std;
use super::*;
use proptest::prelude::*;
use std::{string::ToString, vec, vec::Vec};

/// Two sectors in memory; the power can fail at a chosen write.
#[derive(Clone)]
struct Disk {
    sectors: [Option<[u8; SIZE]>; 2],
    cut: Option<Cut>,
}

/// What a sector holds when the power fails while it is written.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// The first bytes are new, the rest old.
    Front(usize),
    /// The last bytes are new, the rest old.
    Back(usize),
    /// The first bytes are new, the rest is what the disk made of it.
    Noise(usize, u8),
    /// The sector can no longer be read.
    Unreadable,
}

impl Cut {
    fn every() -> impl Iterator<Item = Self> {
        (0..=SIZE)
            .flat_map(|at| {
                [
                    Self::Front(at),
                    Self::Back(at),
                    Self::Noise(at, 0),
                    Self::Noise(at, 0xff),
                ]
            })
            .chain([Self::Unreadable])
    }

    fn apply(self, old: Option<[u8; SIZE]>, new: &[u8; SIZE]) -> Option<[u8; SIZE]> {
        let mut sector = old.unwrap_or([0; SIZE]);
        match self {
            Self::Front(at) => sector[..at].copy_from_slice(&new[..at]),
            Self::Back(at) => sector[SIZE - at..].copy_from_slice(&new[SIZE - at..]),
            Self::Noise(at, noise) => {
                sector[..at].copy_from_slice(&new[..at]);
                sector[at..].fill(noise);
            }
            Self::Unreadable => return None,
        }
        Some(sector)
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Dead;

impl Copies for Disk {
    type Error = Dead;

    fn read(&mut self, copy: usize) -> Result<[u8; SIZE], Dead> {
        self.sectors[copy].ok_or(Dead)
    }

    fn write(&mut self, copy: usize, bytes: &[u8; SIZE]) -> Result<(), Dead> {
        if let Some(cut) = self.cut.take() {
            self.sectors[copy] = cut.apply(self.sectors[copy], bytes);
            return Err(Dead);
        }
        self.sectors[copy] = Some(*bytes);
        Ok(())
    }
}

fn disk(record: SlotRecord) -> Disk {
    Disk {
        sectors: [Some(record.encode(0)), Some(record.encode(1))],
        cut: None,
    }
}

fn keep(disk: &mut Disk, record: SlotRecord) {
    let loaded = load(disk);
    store(disk, &loaded, record).unwrap();
}

/// One boot up to the start of the slot: the try is counted, then the slot is used.
fn boot(disk: &mut Disk) -> Choice {
    let choice = load(disk).record.choose(&[]).unwrap();
    keep(disk, choice.record);
    choice
}

/// Everything that ever happens to a record, in an order that reaches every state of both slots.
fn life() -> Vec<SlotRecord> {
    let mut records = vec![SlotRecord::new(Some(1), None)];
    let mut step = |change: &dyn Fn(&SlotRecord) -> SlotRecord| {
        let next = change(records.last().unwrap());
        records.push(next);
    };
    let tried = |record: &SlotRecord| record.choose(&[]).unwrap().record;
    step(&tried);
    step(&|record| record.mark_good(Slot::A, 1));
    step(&|record| record.prepare(Slot::B, 2).unwrap());
    step(&|record| record.install(Slot::B, 2).unwrap());
    for _ in 0..8 {
        step(&tried);
    }
    step(&|record| record.mark_good(Slot::B, 2));
    step(&|record| record.prepare(Slot::A, 3).unwrap());
    step(&|record| record.install(Slot::A, 3).unwrap());
    step(&tried);
    step(&|record| record.mark_good(Slot::A, 3));
    records
}

#[test]
fn a_write_cut_at_any_byte_leaves_the_record_as_it_was_or_as_it_was_to_be() {
    let records = life();
    let mut before = disk(records[0]);
    for step in records.windows(2) {
        for cut in Cut::every() {
            let mut disk = before.clone();
            disk.cut = Some(cut);
            let loaded = load(&mut disk);
            store(&mut disk, &loaded, step[1]).unwrap_err();
            let found = load(&mut disk);
            assert!(!found.lost(), "{cut:?}");
            assert!(
                found.record == step[0] || found.record == step[1],
                "{cut:?}"
            );
            assert!(found.record.choose(&[]).is_some(), "{cut:?}");
        }
        keep(&mut before, step[1]);
        assert_eq!(load(&mut before).record, step[1]);
    }
}

#[test]
fn a_second_cut_while_the_first_is_repaired_still_leaves_a_bootable_choice() {
    let record = SlotRecord::new(Some(1), Some(1)).mark_good(Slot::A, 1);
    let next = record.choose(&[]).unwrap().record;
    for first in Cut::every() {
        let mut torn = disk(record);
        torn.cut = Some(first);
        let loaded = load(&mut torn);
        store(&mut torn, &loaded, next).unwrap_err();
        for second in [0, 1, 17, 33, 64, 507, 509, 511, 512]
            .into_iter()
            .flat_map(|at| [Cut::Front(at), Cut::Back(at), Cut::Noise(at, 0xff)])
        {
            let mut disk = torn.clone();
            disk.cut = Some(second);
            let loaded = load(&mut disk);
            let after = loaded.record.choose(&[]).unwrap().record;
            store(&mut disk, &loaded, after).unwrap_err();
            let found = load(&mut disk);
            assert!(!found.lost(), "{first:?}, {second:?}");
            assert!([record, next, after].contains(&found.record));
        }
    }
}

#[test]
fn a_flipped_bit_in_either_copy_is_noticed_and_the_other_copy_is_used() {
    let record = SlotRecord::new(Some(3), None);
    for copy in 0..2 {
        for bit in 0..SIZE * 8 {
            let mut disk = disk(record);
            disk.sectors[copy].as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
            let found = load(&mut disk);
            assert!(found.damage[copy].is_some(), "copy {copy}, bit {bit}");
            assert_eq!(found.record, record);
        }
    }
}

#[test]
fn after_three_starts_without_a_report_the_other_slot_is_used() {
    let mut disk = disk(SlotRecord::new(Some(1), Some(1)));
    let slots: Vec<_> = (0..6).map(|_| boot(&mut disk)).collect();
    let names: Vec<_> = slots.iter().map(|c| (c.slot.name(), c.attempt)).collect();
    assert_eq!(
        names,
        [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]
    );
}

#[test]
fn a_report_gives_the_slot_its_tries_back_and_keeps_it_first() {
    let mut disk = disk(SlotRecord::new(Some(1), Some(1)));
    for _ in 0..10 {
        assert_eq!(boot(&mut disk).slot, Slot::A);
        let record = load(&mut disk).record;
        keep(&mut disk, record.mark_good(Slot::A, 1));
    }
}

#[test]
fn a_tray_whose_slots_all_failed_tries_again_with_the_one_that_once_worked() {
    let record = SlotRecord::new(Some(1), None).mark_good(Slot::A, 1);
    let mut disk = disk(record.install(Slot::B, 2).unwrap());
    for _ in 0..6 {
        assert!(!boot(&mut disk).renewed);
    }
    let choice = boot(&mut disk);
    assert_eq!(
        (choice.slot, choice.attempt, choice.renewed),
        (Slot::A, 1, true)
    );
}

#[test]
fn when_no_try_can_be_counted_the_slot_that_once_worked_is_used() {
    let record = SlotRecord::new(Some(1), None).mark_good(Slot::A, 1);
    let trial = record.install(Slot::B, 2).unwrap();
    assert_eq!(trial.choose_uncounted(&[]), Some(Slot::A));
    assert_eq!(trial.choose_uncounted(&[Slot::A]), Some(Slot::B));
    assert_eq!(trial.choose_uncounted(&[Slot::A, Slot::B]), None);
    assert_eq!(record.choose_uncounted(&[Slot::A]), None, "b is empty");
}

#[test]
fn refused_and_empty_slots_are_not_chosen() {
    let both = SlotRecord::new(Some(1), Some(1));
    assert_eq!(both.choose(&[Slot::A]).unwrap().slot, Slot::B);
    assert_eq!(both.choose(&[Slot::A, Slot::B]), None);
    let only_a = SlotRecord::new(Some(1), None);
    assert_eq!(only_a.choose(&[Slot::A]), None);
    assert_eq!(
        SlotRecord::new(None, Some(1)).choose(&[]).unwrap().slot,
        Slot::B
    );
    assert_eq!(SlotRecord::new(None, None).choose(&[]), None);
}

#[test]
fn both_copies_lost_means_a_then_b_with_their_tries_counted_anew() {
    let mut disk = Disk {
        sectors: [None, Some([0; SIZE])],
        cut: None,
    };
    let loaded = load(&mut disk);
    assert!(loaded.lost());
    assert_eq!(
        loaded.damage,
        [Some(Damage::Unreadable), Some(Damage::NotARecord)]
    );
    let slots: Vec<_> = (0..4).map(|_| boot(&mut disk).slot).collect();
    assert_eq!(slots, [Slot::A, Slot::A, Slot::A, Slot::B]);
}

#[test]
fn an_older_version_is_refused_unless_it_is_the_slot_that_worked() {
    let record = SlotRecord::new(Some(1), None)
        .mark_good(Slot::A, 1)
        .install(Slot::B, 2)
        .unwrap()
        .mark_good(Slot::B, 2);
    assert_eq!(record.floor(), 2);
    assert_eq!(
        record.admits(Slot::A, 1),
        Ok(()),
        "the slot to fall back to"
    );
    assert!(
        record.admits(Slot::B, 1).is_err(),
        "an old release copied over it"
    );
    assert!(record.admits(Slot::A, 0).is_err());
    assert_eq!(record.admits(Slot::A, 3), Ok(()));
    let refused = record.install(Slot::A, 1).unwrap_err();
    assert!(
        refused.to_string().contains("install 2 or newer"),
        "{refused}"
    );
}

#[test]
fn the_only_slot_that_is_known_to_work_is_not_overwritten() {
    let record = SlotRecord::new(Some(1), None).mark_good(Slot::A, 1);
    let trial = record.install(Slot::B, 2).unwrap();
    assert_eq!(
        trial.prepare(Slot::A, 3),
        Err(InstallError::OtherNotGood(Slot::B))
    );
    assert!(trial.mark_good(Slot::B, 2).prepare(Slot::A, 3).is_ok());
}

#[test]
fn a_slot_that_is_being_written_is_not_chosen() {
    let record = SlotRecord::new(Some(1), Some(1)).mark_good(Slot::A, 1);
    let writing = record.prepare(Slot::B, 2).unwrap();
    assert_eq!(writing.choose(&[]).unwrap().slot, Slot::A);
    assert_eq!(writing.choose(&[Slot::A]), None);
}

#[test]
fn what_was_installed_and_never_tried_can_be_taken_back_and_nothing_else_can() {
    let good = SlotRecord::new(Some(1), Some(1)).mark_good(Slot::A, 1);
    let installed = good.install(Slot::B, 2).unwrap();
    let withdrawn = installed.withdraw(Slot::B);
    assert_eq!(withdrawn.preferred(), Slot::A);
    assert_eq!(withdrawn.slot(Slot::B), installed.slot(Slot::B));
    assert_eq!(withdrawn.withdraw(Slot::B), withdrawn);
    let tried = installed.choose(&[]).unwrap().record;
    assert_eq!(tried.withdraw(Slot::B), tried, "it may be running");
    let bought = installed.mark_good(Slot::B, 2);
    assert_eq!(bought.withdraw(Slot::B), bought);
    let new = SlotRecord::new(None, Some(1));
    assert_eq!(new.withdraw(Slot::B), new, "there is no other");
}

#[test]
fn what_was_written_into_a_file_with_room_ends_where_the_zeros_begin() {
    assert_eq!(written(b"{}\n\0\0\0"), b"{}\n");
    assert_eq!(written(b"a\0b\0"), b"a\0b");
    assert_eq!(written(&[0; 9]), b"");
    assert_eq!(written(b""), b"");
}

#[test]
fn the_counters_maximum_is_a_number_like_any_other() {
    let record = SlotRecord::new(Some(u64::MAX), Some(1));
    let mut disk = Disk {
        sectors: [
            Some(record.encode(u64::MAX - 1)),
            Some(record.encode(u64::MAX)),
        ],
        cut: None,
    };
    for attempt in 1..=3 {
        assert_eq!(boot(&mut disk).attempt, attempt);
    }
    keep(&mut disk, record.mark_good(Slot::A, u64::MAX));
    assert_eq!(load(&mut disk).record.floor(), u64::MAX);
    assert_eq!(load(&mut disk).record.admits(Slot::A, u64::MAX), Ok(()));
}

#[test]
fn a_disk_that_only_says_it_wrote_is_noticed() {
    struct Liar(Disk);
    impl Copies for Liar {
        type Error = Dead;
        fn read(&mut self, copy: usize) -> Result<[u8; SIZE], Dead> {
            self.0.read(copy)
        }
        fn write(&mut self, _: usize, _: &[u8; SIZE]) -> Result<(), Dead> {
            Ok(())
        }
    }
    let mut liar = Liar(disk(SlotRecord::new(Some(1), None)));
    let loaded = load(&mut liar);
    let next = loaded.record.choose(&[]).unwrap().record;
    assert_eq!(store(&mut liar, &loaded, next), Err(StoreError::NotKept));
}

fn record() -> impl Strategy<Value = SlotRecord> {
    let slot = || {
        (0..3u8, 0..=TRIES, any::<u64>()).prop_map(|(state, tries_left, version)| SlotState {
            state: [State::Empty, State::Trial, State::Good][usize::from(state)],
            tries_left,
            version,
        })
    };
    (any::<bool>(), slot(), slot(), any::<u64>()).prop_map(|(b, first, second, floor)| SlotRecord {
        preferred: if b { Slot::B } else { Slot::A },
        slots: [first, second],
        floor,
    })
}

proptest! {
    #[test]
    fn what_is_written_is_what_is_read(record in record(), generation: u64) {
        prop_assert_eq!(SlotRecord::decode(&record.encode(generation)), Ok((generation, record)));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), SIZE)) {
        let mut sector: [u8; SIZE] = bytes.try_into().unwrap();
        prop_assert!(SlotRecord::decode(&sector).is_err());
        sector[..8].copy_from_slice(&MAGIC);
        let checksum = crc32fast::hash(&sector[..CHECKSUM]);
        sector[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        prop_assert!(SlotRecord::decode(&sector).is_err());
    }

    #[test]
    fn a_choice_is_counted_usable_and_never_refused(record in record(), refuse_a: bool, refuse_b: bool) {
        let refused: Vec<_> = [(refuse_a, Slot::A), (refuse_b, Slot::B)]
            .into_iter().filter(|(no, _)| *no).map(|(_, slot)| slot).collect();
        let usable = Slot::ALL.into_iter()
            .filter(|slot| !refused.contains(slot) && record.slot(*slot).state != State::Empty).count();
        match record.choose(&refused) {
            None => prop_assert_eq!(usable, 0),
            Some(choice) => {
                prop_assert!(!refused.contains(&choice.slot));
                prop_assert!(record.slot(choice.slot).state != State::Empty);
                let before = if choice.renewed { TRIES } else { record.slot(choice.slot).tries_left };
                prop_assert_eq!(choice.record.slot(choice.slot).tries_left, before - 1);
                prop_assert_eq!(choice.record.floor(), record.floor());
            }
        }
    }

    #[test]
    fn the_floor_never_goes_down(record in record(), version: u64, b: bool) {
        let slot = if b { Slot::B } else { Slot::A };
        let marked = record.mark_good(slot, version);
        prop_assert!(marked.floor() >= record.floor() && marked.floor() >= version);
        if let Ok(installed) = record.install(slot, version) {
            prop_assert_eq!(installed.floor(), record.floor());
            prop_assert!(installed.choose(&[]).is_some_and(|choice| choice.slot == slot));
        }
    }
}
