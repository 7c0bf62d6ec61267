// SPDX-License-Identifier: Apache-2.0
//! Messages there and back.

extern crate std;

use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::serial::Receiver;

fn body(message: &Message, number: u8) -> Vec<u8> {
    let mut receiver = Receiver::new();
    let line = message.encode(number).unwrap();
    let body = line
        .iter()
        .find_map(|&byte| Some(receiver.take(byte)?.unwrap().to_vec()));
    body.unwrap()
}

fn messages() -> impl Strategy<Value = Message> {
    let floors = || {
        any::<(u64, u64, [u8; 32], u64)>().prop_map(|(trust_root, generation, head, time)| Floors {
            trust_root,
            generation,
            head,
            time,
        })
    };
    let stages = std::vec![Stage::Bootloader, Stage::Bootstrap, Stage::System];
    prop_oneof![
        proptest::sample::select(stages).prop_map(Message::Hello),
        Just(Message::Alive),
        any::<(u16, u32)>().prop_map(|(code, since)| Message::Post { code, since }),
        floors().prop_map(Message::Raise),
        any::<bool>().prop_map(Message::Shutting),
        any::<bool>().prop_map(|off| Message::Leaving { off }),
        any::<(u64, u8, u32, [u8; 32])>().prop_map(|(chip, slot, firmware, root)| {
            Message::Identity(Identity {
                chip,
                slot,
                firmware,
                root,
            })
        }),
        floors().prop_map(Message::Floors),
        any::<u16>().prop_map(|seconds| Message::Shutdown { seconds }),
        Just(Message::Kept),
    ]
}

proptest! {
    #[test]
    fn messages_come_back_as_they_were(message in messages(), number: u8) {
        prop_assert_eq!(Message::decode(&body(&message, number)), Ok((message, number)));
    }

    #[test]
    fn a_message_cut_short_or_with_more_behind_it_is_refused(message in messages()) {
        let mut whole = body(&message, 1);
        for length in 0..whole.len() {
            prop_assert_eq!(Message::decode(&whole[..length]), Err(Unknown));
        }
        whole.push(0);
        prop_assert_eq!(Message::decode(&whole), Err(Unknown));
    }

    #[test]
    fn floors_never_sink(one in any::<(u64, u64, u64)>(), other in any::<(u64, u64, u64)>()) {
        let floors = |(trust_root, generation, time)| Floors { trust_root, generation, time, head: [1; 32] };
        let before = floors(one);
        let mut raised = before;
        raised.raise(&floors(other));
        prop_assert!(raised.trust_root >= before.trust_root && raised.time >= before.time);
        prop_assert!(raised.generation >= before.generation);
        prop_assert!(!raised.clone().raise(&before) && !raised.clone().raise(&floors(other)));
    }
}

#[test]
fn a_head_is_replaced_only_by_one_of_a_higher_generation() {
    let mut floors = Floors {
        generation: 5,
        head: [5; 32],
        ..Floors::default()
    };
    assert!(!floors.raise(&Floors {
        head: [9; 32],
        ..floors
    }));
    assert!(floors.raise(&Floors {
        generation: 6,
        head: [6; 32],
        ..floors
    }));
    assert_eq!(floors.head, [6; 32]);
}

#[test]
fn what_is_neither_true_nor_false_is_refused() {
    let mut shutting = body(&Message::Shutting(true), 0);
    shutting[2] = 2;
    assert_eq!(Message::decode(&shutting), Err(Unknown));
}
