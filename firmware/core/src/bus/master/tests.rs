// SPDX-License-Identifier: Apache-2.0
//! Single turns; the whole rack is in `firmware/model/tests/bus.rs`.

extern crate std;

use std::vec::Vec;

use racklet_wire::bus::time_on_line;

use super::*;
use crate::bus::Node;

const SLOT: Slot = Slot::ALL[1];

fn hello(slot: Slot) -> Hello {
    Hello {
        chip: u64::from(slot.number()),
        firmware: 1,
        powered: false,
    }
}

fn node(slot: Slot, session: u16) -> Node {
    Node::new(Station::Slot(slot), session, hello(slot))
}

/// The master, who answers it, and the time.
struct Bench {
    master: Master,
    nodes: Vec<(Slot, Node)>,
    now: Duration,
    news: Vec<(Duration, News)>,
    /// What somebody sends at the end of each question, out of turn.
    intruder: Vec<u8>,
}

impl Bench {
    fn new(slots: &[Slot]) -> Self {
        let mut master = Master::new(1, Duration::ZERO);
        master.present(slots.iter().map(|it| 1 << it.index()).sum(), Duration::ZERO);
        Self {
            master,
            nodes: slots.iter().map(|&it| (it, node(it, 7))).collect(),
            now: Duration::ZERO,
            news: Vec::new(),
            intruder: Vec::new(),
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            match self.master.step(self.now) {
                Step::News(news) => {
                    if let News::Packet(slot) = news {
                        assert!(self.master.packet(slot).is_some());
                    }
                    self.news.push((self.now, news));
                }
                Step::Until(moment) => self.now = moment.max(self.now + Duration::from_micros(1)),
                Step::Send(line) => self.turn(&line),
            }
        }
    }

    fn turn(&mut self, line: &[u8]) {
        self.now += time_on_line(line.len());
        self.master.sent(self.now);
        let mut said = self.intruder.clone();
        for (_, node) in &mut self.nodes {
            for &byte in line {
                if let Some(answer) = node.take(byte) {
                    said.extend_from_slice(&answer);
                }
            }
            while node.packet().is_some() {}
        }
        for byte in said {
            self.now += time_on_line(1);
            self.master.take(byte, self.now);
        }
    }

    fn told(&self) -> Vec<News> {
        self.news.iter().map(|(_, news)| *news).collect()
    }
}

#[test]
fn a_tray_that_is_in_is_known_after_its_first_turn() {
    let mut bench = Bench::new(&[SLOT]);
    bench.run(Duration::from_millis(5));
    assert_eq!(bench.told(), [News::Joined(SLOT, hello(SLOT))]);
}

#[test]
fn a_tray_with_a_dirty_presence_contact_is_found_within_two_seconds() {
    let mut bench = Bench::new(&[SLOT]);
    bench.run(Duration::from_millis(500));
    bench.master.present(0, bench.now);
    bench.run(Duration::from_secs(1));
    assert_eq!(bench.told(), [News::Joined(SLOT, hello(SLOT))]);
    let mut bench = Bench::new(&[SLOT]);
    bench.master.present(0, bench.now);
    bench.run(Duration::from_secs(2));
    assert_eq!(bench.told(), [News::Joined(SLOT, hello(SLOT))]);
}

#[test]
fn a_tray_pulled_out_is_told_at_once_and_one_that_erases_its_flash_is_not() {
    for (present, silent, told) in [(false, 100, true), (true, 450, false), (true, 1100, true)] {
        let mut bench = Bench::new(&[SLOT, Slot::ALL[0]]);
        bench.run(Duration::from_millis(5));
        let gone = bench.nodes.remove(0);
        bench.news.clear();
        if !present {
            bench.master.present(1, bench.now);
        }
        bench.run(Duration::from_millis(silent));
        let lost = bench.told().contains(&News::Lost(SLOT));
        assert_eq!(lost, told, "{present} {silent}: {:?}", bench.news);
        bench.nodes.push(gone);
    }
}

#[test]
fn a_tray_that_started_anew_says_who_it_is_again() {
    let mut bench = Bench::new(&[SLOT]);
    bench.run(Duration::from_millis(5));
    bench.nodes[0].1 = node(SLOT, 8);
    bench.news.clear();
    bench.run(Duration::from_millis(5));
    assert_eq!(bench.told(), [News::Joined(SLOT, hello(SLOT))]);
}

#[test]
fn a_silent_tray_costs_the_others_its_turn_and_no_more() {
    let turns = |slots: &[Slot], silent: usize| {
        let mut bench = Bench::new(slots);
        bench.nodes.truncate(slots.len() - silent);
        bench.run(Duration::from_secs(1));
        (bench.master.counts(slots[0]).answered, bench)
    };
    let (alone, _) = turns(&Slot::ALL[..4], 0);
    let (beside, bench) = turns(&Slot::ALL, 1);
    let rounds = bench.master.counts(Slot::ALL[4]).silent;
    let round = Duration::from_secs(1) / u32::try_from(beside).unwrap();
    let without = Duration::from_secs(1) / u32::try_from(alone).unwrap();
    assert!(rounds >= beside - 2);
    // 16 bytes and the wait for an answer.
    let cost = time_on_line(17) + ANSWER_WITHIN + TURNAROUND * 2;
    assert!(round - without < cost, "{round:?} {without:?}");
}

#[test]
fn one_that_answers_in_another_s_name_is_named() {
    let mut bench = Bench::new(&Slot::ALL[..3]);
    bench.run(Duration::from_millis(20));
    bench.news.clear();
    let frame = Frame {
        to: Station::Rack,
        from: Station::Slot(SLOT),
        session: 7,
        sequence: 0,
        acknowledge: 0,
        content: Content::Answer(None),
    };
    bench.intruder = frame.encode().unwrap().to_vec();
    bench.run(Duration::from_millis(50));
    let (when, News::Babbles(babbler)) = bench.news[0] else {
        panic!("{:?}", bench.news);
    };
    assert!(babbler.slot == SLOT && babbler.certain);
    assert!(when < Duration::from_millis(40) && babbler.since <= when);
    // And when it stops that is told, too.
    bench.intruder.clear();
    bench.news.clear();
    bench.run(Duration::from_millis(1100));
    assert_eq!(bench.told(), [News::Quiet]);
}

#[test]
fn one_whose_driver_stays_on_is_named_as_the_last_that_was_heard() {
    let mut bench = Bench::new(&Slot::ALL);
    bench.run(Duration::from_millis(20));
    while bench.master.heard.unwrap().0 != SLOT {
        bench.run(Duration::from_micros(10));
    }
    bench.news.clear();
    let since = bench.master.heard.unwrap().1;
    let nodes = core::mem::take(&mut bench.nodes);
    bench.run(Duration::from_millis(110));
    let suspect = Babbler {
        slot: SLOT,
        certain: false,
        since,
    };
    assert_eq!(bench.told(), [News::Babbles(suspect)]);
    // Its watchdog bites and the others are heard again.
    bench.nodes = nodes;
    bench.news.clear();
    bench.run(Duration::from_millis(20));
    assert_eq!(bench.told(), [News::Quiet]);
}

#[test]
fn an_answer_that_comes_late_is_nobody_s_babble() {
    let mut bench = Bench::new(&Slot::ALL[..2]);
    bench.run(Duration::from_millis(20));
    bench.news.clear();
    let frame = Frame {
        to: Station::Rack,
        from: Station::Slot(SLOT),
        session: 7,
        sequence: 0,
        acknowledge: 0,
        content: Content::Answer(None),
    };
    bench.intruder = frame.encode().unwrap().to_vec();
    bench.run(Duration::from_micros(300));
    bench.intruder.clear();
    bench.run(Duration::from_secs(1));
    assert_eq!(bench.told(), []);
}
