// SPDX-License-Identifier: Apache-2.0
//! A queue's arithmetic at every number it can meet, against what the numbers mean: counters that only grow, of which the rings show
//! the low 16 bits (virtio 1.2, 2.7). A proof by cases, and not by samples.

use super::*;
use crate::testing::{Desc, Driver, table, test_memory};
use crate::virtio::Turn;

const ALL: u32 = 1 << 16;

fn low(count: u32) -> u16 {
    u16::try_from(count % ALL).expect("the low bits")
}

#[test]
fn an_interrupt_is_due_exactly_when_the_wished_index_was_left_behind() {
    // Every start, wish and end of a model whose indices have 8 bits: its index is the upper byte of ours. 16,711,680 cases.
    for old in 0..256_u32 {
        for wish in 0..256_u32 {
            let mut seen = false;
            for n in 0..255 {
                seen |= (old + n) % 256 == wish;
                let new = old + n + 1;
                // The last of the indices that ours stands for.
                let wish = Wrapping(low(wish << 8 | 0xff));
                let shown = passed(wish, Wrapping(low(old << 8)), Wrapping(low(new << 8)));
                assert_eq!(shown, seen);
            }
        }
    }
    // All 16 bits, around each place where something wraps: every end for these starts and wishes.
    for old in [0_u32, 1, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        for wish in [0_u16, 1, 0x7fff, 0x8000, 0xfffe, 0xffff] {
            let mut seen = false;
            for new in old + 1..old + ALL {
                seen |= low(new - 1) == wish;
                let shown = passed(Wrapping(wish), Wrapping(low(old)), Wrapping(low(new)));
                assert_eq!(shown, seen, "from {old} to {new}, {wish}");
            }
        }
    }
}

#[test]
fn what_waits_is_what_was_made_available_and_not_taken_at_every_index() {
    let memory = test_memory();
    for size in [1, 8, 128] {
        let driver = Driver::new(&memory, size);
        let mut queue = driver.queue(&memory);
        for taken in [0, 0x7fff, 0xff80, 0xffff_u16] {
            queue.go_on_from((taken, taken, None));
            for index in 0..ALL {
                driver.set_available_index(&memory, low(index));
                // What the driver has made available in all, of which it shows the low bits: not less than was taken.
                let taken = u32::from(taken);
                let made = if index < taken { index + ALL } else { index };
                let waiting = made - taken;
                let expected = if waiting <= u32::from(size) {
                    Ok(low(waiting))
                } else {
                    Err(Fault::Runaway(low(waiting)))
                };
                assert_eq!(
                    queue.available(&memory),
                    expected,
                    "{size}, {taken}, {index}"
                );
            }
        }
    }
}

#[test]
fn a_request_comes_and_goes_through_its_own_slots_at_every_place_of_the_rings() {
    let memory = test_memory();
    for size in [1_u16, 8] {
        let driver = Driver::new(&memory, size);
        let [descriptors, available, used] = driver.rings();
        let mut queue = driver.queue(&memory);
        for place in 0..ALL {
            let slot = u64::from(place % u32::from(size));
            let head = low(place / 3) % size;
            let neighbours = [
                used + 4 + 8 * ((slot + 1) % u64::from(size)),
                used + 4 + 8 * u64::from(size),
            ];
            for at in neighbours {
                memory.write_obj(u64::MAX, GuestAddress(at)).unwrap();
            }
            let request = Desc {
                address: 0x8000,
                len: 4,
                flags: 0,
                next: 0,
            };
            table(&memory, descriptors + 16 * u64::from(head), &[request]);
            memory
                .write_obj(head, GuestAddress(available + 4 + 2 * slot))
                .unwrap();
            driver.set_available_index(&memory, low(place + 1));
            queue.go_on_from((low(place), low(place), None));
            let chain = queue.pop(&memory, &mut Budget::new(1, 1)).unwrap().unwrap();
            assert_eq!(chain.head(), head);
            assert!(
                queue
                    .pop(&memory, &mut Budget::new(1, 1))
                    .unwrap()
                    .is_none()
            );
            queue.push(&memory, chain, place).unwrap();
            let read = |at| memory.read_obj::<u32>(GuestAddress(at)).unwrap();
            let entry = used + 4 + 8 * slot;
            assert_eq!((read(entry), read(entry + 4)), (u32::from(head), place));
            let index: u16 = memory.read_obj(GuestAddress(used + 2)).unwrap();
            assert_eq!(index, low(place + 1));
            for at in neighbours.into_iter().filter(|at| *at != entry) {
                assert_eq!(memory.read_obj::<u64>(GuestAddress(at)).unwrap(), u64::MAX);
            }
        }
    }
}

#[test]
fn a_turn_takes_what_its_budget_says_for_every_small_budget_and_cost() {
    for requests in 0..16_u32 {
        for bytes in 0..48_u64 {
            for cost in 0..16_u64 {
                for offered in 0..20_u32 {
                    let mut budget = Budget::new(requests, bytes);
                    let mut taken = 0;
                    while taken < offered && budget.request() {
                        budget.bytes(cost);
                        taken += 1;
                    }
                    // The request that overdraws is the last.
                    let paid = if bytes == 0 {
                        0
                    } else {
                        bytes.div_ceil(cost.max(1))
                    };
                    let paid = if cost == 0 && bytes > 0 {
                        u64::MAX
                    } else {
                        paid
                    };
                    let most = u64::from(requests).min(paid);
                    assert_eq!(u64::from(taken), most.min(u64::from(offered)));
                    let more = u64::from(offered) > most;
                    assert_eq!(budget.turn() == Turn::More, more);
                }
            }
        }
    }
}
