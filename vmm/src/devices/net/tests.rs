// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::{Driver, TestTap, set_clock, test_clock, test_memory};

struct Rig {
    memory: Memory,
    rx: Driver,
    tx: Driver,
    queues: [Queue; 2],
    wire: TestTap,
    card: Net<TestTap>,
}

fn rig(features: u64) -> Rig {
    let memory = test_memory();
    let (rx, tx) = (
        Driver::at(&memory, 8, 0x1000),
        Driver::at(&memory, 8, 0x5000),
    );
    let queues = [rx.queue(&memory), tx.queue(&memory)];
    let wire = TestTap::default();
    let mut card = Net::new(wire.clone(), Mac([2, 0, 0, 0, 0, 1]), 1500);
    card.activate(features);
    Rig {
        memory,
        rx,
        tx,
        queues,
        wire,
        card,
    }
}

impl Rig {
    /// Frames wait at the tap.
    fn look(&mut self) {
        let turn = self
            .card
            .host_event(TAP_READY, &mut self.queues, &self.memory);
        assert_eq!(turn, Ok(Turn::Done));
    }

    /// The guest has offered buffers.
    fn refilled(&mut self) {
        let turn = self.card.notify(RX, &mut self.queues, &self.memory);
        assert_eq!(turn, Ok(Turn::Done));
    }

    /// The guest has offered frames.
    fn send(&mut self) {
        let turn = self.card.notify(TX, &mut self.queues, &self.memory);
        assert_eq!(turn, Ok(Turn::Done));
    }
}

fn frame(len: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    frame.extend((0..=250).cycle().take(len));
    frame
}

#[test]
fn a_frame_goes_out_whole() {
    let mut rig = rig(0);
    let bytes = frame(100);
    rig.memory
        .write_slice(&bytes[..12], GuestAddress(0x10000))
        .unwrap();
    rig.memory
        .write_slice(&bytes[12..], GuestAddress(0x11000))
        .unwrap();
    rig.tx
        .offer(&rig.memory, &[(0x10000, 12, false), (0x11000, 100, false)]);
    rig.send();
    assert_eq!(rig.wire.0.lock().unwrap().sent, [bytes]);
    assert_eq!(rig.tx.collect(&rig.memory), Some((0, 0)));
}

#[test]
fn a_frame_that_asks_for_what_was_not_agreed_on_goes_back_and_the_next_is_sent() {
    let mut rig = rig(F_CSUM);
    // Its checksum, which was agreed on; to be cut, which was not; whole, with a header full of what means nothing.
    for (at, header) in [
        (0x10000, [1, 0, 0, 0, 0, 0, 14, 0, 16, 0, 0, 0]),
        (0x11000, [1, 1, 54, 0, 100, 0, 14, 0, 16, 0, 0, 0]),
        (0x12000, [6, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
    ] {
        rig.memory.write_slice(&header, GuestAddress(at)).unwrap();
        rig.tx.offer(&rig.memory, &[(at, 72, false)]);
    }
    rig.send();
    for head in 0..3 {
        assert_eq!(rig.tx.collect(&rig.memory), Some((head, 0)));
    }
    let wire = rig.wire.0.lock().unwrap();
    let headers: Vec<_> = wire.sent.iter().map(|frame| &frame[..HEADER]).collect();
    let checksum = [1, 0, 0, 0, 0, 0, 14, 0, 16, 0, 0, 0];
    assert_eq!(headers, [checksum, [0; HEADER]]);
    assert!(format!("{:?}", rig.queues[TX]).contains("refused: 1"));
}

#[test]
fn a_frame_that_the_tap_kept_for_another_driver_is_lost() {
    let mut rig = rig(0);
    let mut large = frame(3000);
    large[..HEADER].copy_from_slice(&[1, 1, 54, 0, 100, 0, 34, 0, 16, 0, 0, 0]);
    rig.wire
        .0
        .lock()
        .unwrap()
        .incoming
        .extend([large, frame(50)]);
    rig.rx.offer(&rig.memory, &[(0x10000, 4000, true)]);
    rig.look();
    assert_eq!(rig.rx.collect(&rig.memory), Some((0, 62)));
    assert!(format!("{:?}", rig.queues[RX]).contains("failed: 1"));
}

#[test]
fn a_frame_waits_for_room_and_is_spread_over_buffers() {
    let mut rig = rig(F_MRG_RXBUF | F_GUEST_CSUM);
    let push = |rig: &Rig, len| rig.wire.0.lock().unwrap().incoming.push_back(frame(len));
    // The driver has had two buffers on offer, so that two are waited for.
    push(&rig, 50);
    rig.rx.offer(&rig.memory, &[(0x12000, 128, true)]);
    rig.rx.offer(&rig.memory, &[(0x10000, 128, true)]);
    rig.look();
    assert_eq!(rig.rx.collect(&rig.memory), Some((0, 62)));
    push(&rig, 200);
    rig.look();
    assert_eq!(
        rig.rx.collect(&rig.memory),
        None,
        "128 bytes are not enough"
    );
    rig.rx.offer(&rig.memory, &[(0x11000, 128, true)]);
    rig.refilled();
    assert_eq!(rig.rx.collect(&rig.memory), Some((1, 128)));
    assert_eq!(rig.rx.collect(&rig.memory), Some((2, 84)));
    let mut bytes = [0; 212];
    rig.memory
        .read_slice(&mut bytes[..128], GuestAddress(0x10000))
        .unwrap();
    rig.memory
        .read_slice(&mut bytes[128..], GuestAddress(0x11000))
        .unwrap();
    assert_eq!(bytes[10..12], [2, 0], "two buffers");
    assert_eq!(bytes[12..], frame(200)[12..]);
    let offloads = rig.wire.0.lock().unwrap().offloads;
    assert_eq!(
        offloads,
        Some(Offloads {
            checksum: true,
            tso4: false,
            tso6: false
        })
    );
}

#[test]
fn without_merging_a_frame_that_does_not_fit_is_dropped_and_the_next_delivered() {
    let mut rig = rig(0);
    rig.wire
        .0
        .lock()
        .unwrap()
        .incoming
        .extend([frame(200), frame(50)]);
    rig.rx.offer(&rig.memory, &[(0x10000, 128, true)]);
    rig.look();
    assert_eq!(rig.rx.collect(&rig.memory), Some((0, 62)));
}

#[test]
fn a_frame_that_all_buffers_together_cannot_hold_is_lost_and_the_next_delivered() {
    let mut rig = rig(F_MRG_RXBUF);
    for at in 0..8 {
        let address = 0x10000 + 0x1000 * at;
        rig.rx.offer(&rig.memory, &[(address, 128, true)]);
    }
    let frames = [frame(2000), frame(50)];
    rig.wire.0.lock().unwrap().incoming.extend(frames);
    rig.look();
    assert_eq!(rig.rx.collect(&rig.memory), Some((0, 62)));
    // With all eight on offer again, the largest that fits is delivered.
    rig.rx.offer(&rig.memory, &[(0x10000, 128, true)]);
    let largest = frame(8 * 128 - HEADER);
    rig.wire.0.lock().unwrap().incoming.push_back(largest);
    rig.look();
    let filled: Vec<_> = std::iter::from_fn(|| rig.rx.collect(&rig.memory)).collect();
    assert_eq!(filled.len(), 8);
}

#[test]
fn a_flood_yields_after_a_batch() {
    let mut rig = rig(0);
    rig.wire
        .0
        .lock()
        .unwrap()
        .incoming
        .extend((0..BATCH + 1).map(|_| frame(2000)));
    rig.rx.offer(&rig.memory, &[(0x10000, 128, true)]);
    let turn = rig.card.host_event(TAP_READY, &mut rig.queues, &rig.memory);
    assert_eq!(turn, Ok(Turn::More));
    assert_eq!(rig.wire.0.lock().unwrap().incoming.len(), 1);
    assert_eq!(rig.card.more(&mut rig.queues, &rig.memory), Ok(Turn::Done));
    assert!(rig.wire.0.lock().unwrap().incoming.is_empty());
}

#[test]
fn impossible_frames_go_back_and_the_next_is_sent() {
    for len in [12, 1, u32::try_from(FRAME).unwrap() + 1] {
        let mut rig = rig(0);
        rig.tx.offer(&rig.memory, &[(0x10000, len, false)]);
        rig.tx.offer(&rig.memory, &[(0x10000, 60, false)]);
        rig.send();
        assert_eq!(rig.tx.collect(&rig.memory), Some((0, 0)));
        assert_eq!(rig.tx.collect(&rig.memory), Some((1, 0)));
        let wire = rig.wire.0.lock().unwrap();
        assert_eq!(wire.sent.len(), 1, "{len}");
        assert_eq!(wire.sent[0].len(), 60, "{len}");
    }
}

#[test]
fn a_buffer_without_room_for_a_header_goes_back_and_the_next_is_filled() {
    for features in [0, F_MRG_RXBUF] {
        let mut rig = rig(features);
        rig.wire.0.lock().unwrap().incoming.push_back(frame(50));
        for len in [11, 128] {
            rig.rx.offer(&rig.memory, &[(0x10000, len, true)]);
        }
        rig.look();
        assert_eq!(rig.rx.collect(&rig.memory), Some((0, 0)));
        assert_eq!(rig.rx.collect(&rig.memory), Some((1, 62)));
    }
}

fn rate(text: &str) -> CardRate {
    serde_json::from_str(text).unwrap()
}

fn throttled(queue: &Queue) -> bool {
    !format!("{queue:?}").contains("throttled: 0")
}

#[test]
fn a_card_is_as_slow_as_it_is_to_be_in_each_direction_and_loses_nothing_for_it() {
    let mut rig = rig(F_MRG_RXBUF);
    rig.card.sent = Meter::unlimited(test_clock);
    rig.card.received = Meter::unlimited(test_clock);
    rig.card.limit(&rate(
        r#"{"sent":{"packets":{"per_second":10,"burst":2}},"received":{"packets":{"per_second":4,"burst":1}}}"#,
    ));
    for n in 0..3 {
        rig.tx.offer(&rig.memory, &[(0x10000, 60 + n, false)]);
        rig.rx.offer(&rig.memory, &[(0x11000, 1000, true)]);
    }
    let sent = |rig: &Rig| rig.wire.0.lock().unwrap().sent.len();
    let waiting = |rig: &Rig| rig.wire.0.lock().unwrap().incoming.len();
    let turn = |rig: &mut Rig, queue| rig.card.notify(queue, &mut rig.queues, &rig.memory);
    const TENTH: u64 = 100_000_000;
    assert_eq!(turn(&mut rig, TX), Ok(Turn::At(TENTH)));
    assert_eq!(sent(&rig), 2);
    assert_eq!(
        turn(&mut rig, TX),
        Ok(Turn::At(TENTH)),
        "told twice, waits once"
    );
    assert!(throttled(&rig.queues[TX]) && !throttled(&rig.queues[RX]));
    let frames = [frame(100), frame(200), frame(300)];
    rig.wire.0.lock().unwrap().incoming.extend(frames);
    // Who waits in one direction does not hold up the other; the earlier one counts.
    let all = rig.card.more(&mut rig.queues, &rig.memory);
    assert_eq!(all, Ok(Turn::At(TENTH)));
    assert_eq!(rig.rx.collect(&rig.memory), Some((0, 112)));
    assert_eq!(waiting(&rig), 1, "one is held here, the rest wait there");
    set_clock(TENTH);
    let all = rig.card.more(&mut rig.queues, &rig.memory);
    assert_eq!((all, sent(&rig)), (Ok(Turn::At(2 * TENTH + TENTH / 2)), 3));
    for (n, at) in [(1, 5), (2, 10)] {
        assert_eq!(rig.rx.collect(&rig.memory), None);
        set_clock(at * TENTH / 2);
        let _ = rig.card.more(&mut rig.queues, &rig.memory).unwrap();
        assert_eq!(
            rig.rx.collect(&rig.memory),
            Some((n, 112 + 100 * u32::from(n)))
        );
    }
    for n in 0..3 {
        assert_eq!(rig.tx.collect(&rig.memory), Some((n, 0)), "in their order");
    }
}

#[test]
fn a_frame_that_was_paid_for_waits_for_room_without_paying_again() {
    let mut rig = rig(0);
    rig.card.received = Meter::unlimited(test_clock);
    rig.card
        .limit(&rate(r#"{"received":{"bytes":{"per_second":1}}}"#));
    let most = || frame(65_536);
    rig.wire.0.lock().unwrap().incoming.extend([most(), most()]);
    for _ in 0..3 {
        rig.look();
    }
    rig.rx.offer(&rig.memory, &[(0x10000, 0x1_1000, true)]);
    rig.refilled();
    assert_eq!(rig.rx.collect(&rig.memory), Some((0, 65_548)));
    rig.rx.offer(&rig.memory, &[(0x10000, 0x1_1000, true)]);
    rig.refilled();
    assert_eq!(rig.rx.collect(&rig.memory), Some((1, 65_548)));
    // A burst of 131,072 bytes is spent; a reset forgets the frame that waits, and not what was spent.
    rig.wire.0.lock().unwrap().incoming.push_back(frame(60));
    let turn = rig.card.host_event(TAP_READY, &mut rig.queues, &rig.memory);
    assert_eq!(turn, Ok(Turn::At(60_000_000_000)));
    rig.card.reset();
    rig.wire.0.lock().unwrap().incoming.push_back(frame(61));
    let turn = rig.card.host_event(TAP_READY, &mut rig.queues, &rig.memory);
    assert_eq!(turn, Ok(Turn::At(61_000_000_000)));
    rig.card.knob().set(CardRate::default());
    rig.card.refresh();
    rig.look();
    rig.rx.offer(&rig.memory, &[(0x10000, 0x1000, true)]);
    rig.refilled();
    assert_eq!(rig.rx.collect(&rig.memory), Some((2, 73)));
}

proptest! {
    #[test]
    fn every_frame_arrives_as_it_was(len in 1usize..3000, rooms in prop::collection::vec(12u32..1000, 1..8)) {
        let mut rig = rig(F_MRG_RXBUF);
        rig.wire.0.lock().unwrap().incoming.push_back(frame(len));
        for (i, room) in rooms.iter().enumerate() {
            rig.rx.offer(&rig.memory, &[(0x10000 + 0x1000 * i as u64, *room, true)]);
        }
        rig.look();
        let mut bytes = Vec::new();
        while let Some((head, len)) = rig.rx.collect(&rig.memory) {
            let mut part = vec![0; len as usize];
            rig.memory.read_slice(&mut part, GuestAddress(0x10000 + 0x1000 * u64::from(head))).unwrap();
            bytes.extend(part);
        }
        if rooms.iter().sum::<u32>() as usize >= len + HEADER {
            prop_assert_eq!(&bytes[HEADER..], &frame(len)[HEADER..]);
        } else {
            prop_assert!(bytes.is_empty());
        }
    }
}
