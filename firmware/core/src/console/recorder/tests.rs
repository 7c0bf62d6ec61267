// SPDX-License-Identifier: Apache-2.0
extern crate std;

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

const RING_SIZE: usize = SMALLEST - RING;

fn memory() -> Vec<u8> {
    // As after power-up: anything.
    (0..=255u8)
        .cycle()
        .map(|at| at ^ 0x5a)
        .take(SMALLEST)
        .collect()
}

/// The byte that a tray of these tests prints at an offset.
fn printed(offset: u64) -> u8 {
    offset.wrapping_mul(0x9e37_79b9).to_le_bytes()[2]
}

fn print(recorder: &mut Recorder<'_>, length: usize) {
    let bytes: Vec<u8> = (recorder.end()..).take(length).map(printed).collect();
    recorder.append(&bytes);
}

/// Everything for a reader up to now: its bytes are what was printed there, and none is passed over unsaid.
fn drain(
    recorder: &Recorder<'_>,
    reader: &mut Reader,
    at_a_time: usize,
) -> (u64, Vec<(u64, Event)>) {
    let (mut lost, mut events) = (0, Vec::new());
    let mut expected = reader.offset();
    let mut buffer = vec![0; at_a_time];
    loop {
        match recorder.read(reader, &mut buffer) {
            Next::Nothing => {
                assert_eq!(expected, recorder.end());
                return (lost, events);
            }
            Next::Bytes { offset, length } => {
                assert_eq!(offset, expected);
                let right = (offset..).take(length).map(printed);
                assert!(buffer[..length].iter().copied().eq(right), "at {offset}");
                expected += length as u64;
            }
            Next::Lost { from, to } => {
                assert_eq!(from, expected);
                lost += to - from;
                expected = to;
            }
            Next::Event { offset, event } => {
                assert!(offset <= expected);
                events.push((offset, event));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_reader_gets_each_byte_once_in_order_or_is_told_what_it_lost(
        steps in prop::collection::vec((0..3usize, 0..3000usize, 1..1500usize), 1..60)
    ) {
        let mut memory = memory();
        let (mut recorder, _) = Recorder::open(&mut memory, 1).unwrap();
        let mut readers = [recorder.attach(Since::Oldest); 3];
        let mut got = [0u64; 3];
        for (who, length, at_a_time) in steps {
            print(&mut recorder, length);
            let before = readers[who].offset();
            let (lost, _) = drain(&recorder, &mut readers[who], at_a_time);
            got[who] += recorder.end() - before;
            prop_assert!(lost <= recorder.oldest());
        }
        for (reader, got) in readers.iter().zip(got) {
            prop_assert_eq!(reader.offset(), got);
        }
    }

    #[test]
    fn a_reset_between_any_two_writes_keeps_what_was_printed(
        before in 0..9000usize, after in 0..9000usize, events in 0..100u32,
    ) {
        let mut memory = memory();
        let (mut recorder, _) = Recorder::open(&mut memory, 1).unwrap();
        print(&mut recorder, before);
        for count in 0..events {
            recorder.note(Event::Garbage(count));
        }
        let oldest = recorder.oldest();
        let (mut recorder, kept) = Recorder::open(&mut memory, 2).unwrap();
        prop_assert_eq!((kept, recorder.history(), recorder.end()), (Kept::History, 1, before as u64));
        recorder.note(Event::Restart);
        print(&mut recorder, after);
        let mut reader = recorder.attach(Since::At { history: 1, offset: oldest });
        let (lost, told) = drain(&recorder, &mut reader, 1000);
        prop_assert_eq!(lost, recorder.oldest() - oldest);
        let at = told.last().unwrap();
        prop_assert_eq!(at.1, Event::Restart);
        prop_assert_eq!(told.len(), (events as usize + 1).min(EVENTS_KEPT));
    }

    #[test]
    fn a_reset_within_the_writing_of_the_end_loses_the_last_piece_at_most(cut in 0..32usize) {
        let mut before = memory();
        let (mut recorder, _) = Recorder::open(&mut before, 1).unwrap();
        print(&mut recorder, 300);
        let mut after = before.clone();
        let (mut recorder, _) = Recorder::open(&mut after, 1).unwrap();
        print(&mut recorder, 5000);
        // The ends are written from their first byte to their last, behind the bytes that they are of.
        let mut torn = after.clone();
        torn[ENDS + cut..ENDS + 32].copy_from_slice(&before[ENDS + cut..ENDS + 32]);
        let (recorder, kept) = Recorder::open(&mut torn, 2).unwrap();
        prop_assert_eq!(kept, Kept::History);
        prop_assert!([300, 5300].contains(&recorder.end()), "{}", recorder.end());
    }

    #[test]
    fn memory_that_lost_power_is_no_history(noise in prop::collection::vec(any::<u8>(), RING), flip in 0..28usize) {
        let mut cold = noise;
        cold.resize(SMALLEST, 0x5a);
        let (_, kept) = Recorder::open(&mut cold, 1).unwrap();
        prop_assert_eq!(kept, Kept::Nothing);
        // A single bit of the fixed part is enough.
        cold[flip] ^= 1;
        let (recorder, kept) = Recorder::open(&mut cold, 9).unwrap();
        prop_assert_eq!((kept, recorder.history(), recorder.end()), (Kept::Nothing, 9, 0));
    }
}

#[test]
fn events_stand_between_the_bytes_between_which_they_happened() {
    let mut memory = memory();
    let (mut recorder, _) = Recorder::open(&mut memory, 1).unwrap();
    recorder.note(Event::LineHigh);
    print(&mut recorder, 10);
    recorder.note(Event::Break);
    print(&mut recorder, 5);
    let mut reader = recorder.attach(Since::Oldest);
    let mut buffer = [0; 100];
    let mut all = Vec::new();
    loop {
        match recorder.read(&mut reader, &mut buffer) {
            Next::Nothing => break,
            next => all.push(next),
        }
    }
    let event = |offset, event| Next::Event { offset, event };
    let bytes = |offset, length| Next::Bytes { offset, length };
    assert_eq!(
        all,
        [
            event(0, Event::LineHigh),
            bytes(0, 10),
            event(10, Event::Break),
            bytes(10, 5)
        ]
    );
    // Somebody who comes later and asks for less is not told of what he did not ask for.
    let mut reader = recorder.attach(Since::Last(3));
    assert_eq!(recorder.read(&mut reader, &mut buffer), bytes(12, 3));
    let mut reader = recorder.attach(Since::Now);
    assert_eq!(recorder.read(&mut reader, &mut buffer), Next::Nothing);
}

#[test]
fn an_offset_of_another_history_or_of_the_future_is_answered_with_what_is_there() {
    let mut memory = memory();
    let (mut recorder, _) = Recorder::open(&mut memory, 7).unwrap();
    print(&mut recorder, 100);
    let at = |history, offset| recorder.attach(Since::At { history, offset }).offset();
    assert_eq!(at(7, 60), 60);
    assert_eq!(at(7, u64::MAX), 100);
    assert_eq!(at(8, 60), 0);
    print(&mut recorder, RING_SIZE);
    let mut reader = recorder.attach(Since::At {
        history: 7,
        offset: 40,
    });
    assert_eq!(
        recorder.read(&mut reader, &mut []),
        Next::Lost { from: 40, to: 100 }
    );
}

#[test]
fn one_piece_larger_than_the_ring_leaves_its_end() {
    let mut memory = memory();
    let (mut recorder, _) = Recorder::open(&mut memory, 1).unwrap();
    print(&mut recorder, 3 * RING_SIZE + 17);
    let mut reader = recorder.attach(Since::Oldest);
    assert_eq!(drain(&recorder, &mut reader, 512).0, 0);
    assert_eq!(recorder.end() - recorder.oldest(), RING_SIZE as u64);
}
