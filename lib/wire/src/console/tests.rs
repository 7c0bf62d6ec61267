// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

fn since() -> impl Strategy<Value = Since> {
    prop_oneof![
        Just(Since::Oldest),
        Just(Since::Now),
        any::<u64>().prop_map(Since::Last),
        any::<(u64, u64)>().prop_map(|(history, offset)| Since::At { history, offset }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    (0..6u8, any::<u32>()).prop_map(|(code, count)| {
        Event::of_code(code, count)
            .or(Event::of_code(code, 0))
            .unwrap()
    })
}

/// One frame, and what follows it in the buffer is not looked at.
fn sent<'a>(buffer: &'a [u8], taken: usize) -> Frame<'a> {
    let (frame, length) = Frame::first(buffer).unwrap().unwrap();
    assert_eq!(length, taken);
    assert!(Frame::first(&buffer[..taken - 1]).unwrap().is_none());
    frame
}

proptest! {
    #[test]
    fn what_a_reader_asks_arrives_as_it_was_asked(
        since in since(), bytes in prop::collection::vec(any::<u8>(), 1..=MOST_BYTES), time: u16,
    ) {
        let all = [Ask::Attach { since }, Ask::Input(&bytes), Ask::Take, Ask::Release, Ask::Break(time), Ask::Alive];
        for ask in all {
            let mut buffer = [0xff; ROOM];
            let taken = ask.write(&mut buffer).unwrap();
            prop_assert_eq!(Ask::read(sent(&buffer, taken)), Ok(ask));
            prop_assert!(matches!(Tell::read(sent(&buffer, taken)), Err(Unclear::Kind(_))));
        }
    }

    #[test]
    fn what_a_bmc_tells_arrives_as_it_was_told(
        numbers: [u64; 4], flag: bool, bytes in prop::collection::vec(any::<u8>(), 0..=MOST_BYTES), event in event(), name in "[a-zä]{0,32}",
    ) {
        let [history, oldest, end, begins] = numbers;
        let all = [
            Tell::Welcome { history, oldest, end, begins, may_type: flag },
            Tell::Output { offset: end, bytes: &bytes },
            Tell::Lost { from: oldest, to: end },
            Tell::Event { offset: end, event },
            Tell::Holder { yours: flag, name: &name },
            Tell::Alive,
            Tell::End(Reason::Silent),
        ];
        for tell in all {
            let mut buffer = [0xff; ROOM];
            let taken = tell.write(&mut buffer).unwrap();
            prop_assert_eq!(Tell::read(sent(&buffer, taken)), Ok(tell));
            prop_assert!(matches!(Ask::read(sent(&buffer, taken)), Err(Unclear::Kind(_))));
        }
    }

    #[test]
    fn a_frame_that_is_read_is_written_as_it_came(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let Ok(Some((frame, length))) = Frame::first(&bytes) else { return Ok(()) };
        let mut out = [0; ROOM];
        if let Ok(ask) = Ask::read(frame) {
            let taken = ask.write(&mut out).unwrap();
            prop_assert_eq!(&out[..taken], &bytes[..length]);
        }
        if let Ok(tell) = Tell::read(frame) {
            let taken = tell.write(&mut out).unwrap();
            prop_assert_eq!(&out[..taken], &bytes[..length]);
        }
    }
}

#[test]
fn a_frame_that_claims_more_than_is_allowed_is_refused_by_its_head() {
    assert!(Frame::first(&[2, 0x00, 0x04]).unwrap().is_none());
    assert_eq!(Frame::first(&[2, 0x01, 0x04]), Err(frame::TooLong(1025)));
}

#[test]
fn more_than_a_frame_holds_is_not_written() {
    let mut out = [0; 2 * ROOM];
    let bytes = [0; MOST_BYTES + 1];
    assert_eq!(
        Tell::Output {
            offset: 0,
            bytes: &bytes
        }
        .write(&mut out),
        None
    );
    assert_eq!(Ask::Alive.write(&mut out[..2]), None);
}

#[test]
fn input_of_no_bytes_makes_no_sense() {
    let frame = Frame {
        kind: kind::INPUT,
        body: &[],
    };
    assert_eq!(Ask::read(frame), Err(Unclear::Body(kind::INPUT)));
}
