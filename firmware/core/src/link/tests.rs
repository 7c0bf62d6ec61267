// SPDX-License-Identifier: Apache-2.0
//! Both ends on a line that loses frames.

extern crate std;

use std::{vec, vec::Vec};

use proptest::prelude::*;
use racklet_wire::link::tray::{self, Tray, Without};

use super::*;

const IDENTITY: Identity = Identity {
    chip: 7,
    slot: 3,
    firmware: 2,
    root: [9; 32],
};
const NOW: u64 = 1_800_000_000;

struct Line {
    tray: Tray,
    controller: Controller,
    floors: Floors,
    now: Duration,
    /// Which frames get lost, from the back; then none.
    lost: Vec<bool>,
    heard: Vec<tray::News>,
    told: Vec<News>,
    cut: bool,
    keeps: bool,
}

impl Line {
    fn new(lost: Vec<bool>) -> Self {
        Self {
            tray: Tray::new(Stage::System, Duration::ZERO),
            controller: Controller::new(IDENTITY),
            floors: Floors::default(),
            now: Duration::ZERO,
            lost,
            heard: vec![],
            told: vec![],
            cut: false,
            keeps: true,
        }
    }

    fn say_to_controller(&mut self, line: Option<OnLine>) {
        let Some(line) = line else { return };
        if self.cut || self.lost.pop() == Some(true) {
            return;
        }
        for &byte in line.iter() {
            let (answers, news) = self.controller.take(byte, &self.floors, Some(NOW));
            self.told.extend(news);
            if let Some(News::Raise(floors)) = news {
                self.floors.raise(&floors);
                let kept = self.controller.kept().filter(|_| self.keeps);
                self.say_to_tray(kept);
            }
            for answer in answers {
                self.say_to_tray(answer);
            }
        }
    }

    fn say_to_tray(&mut self, line: Option<OnLine>) {
        let Some(line) = line else { return };
        if self.cut || self.lost.pop() == Some(true) {
            return;
        }
        for &byte in line.iter() {
            let (answer, news) = self.tray.take(byte);
            self.heard.extend(news);
            if let Some(tray::News::Shutdown(_)) = news {
                let answer = self.tray.answer(true);
                self.say_to_controller(answer);
            }
            self.say_to_controller(answer);
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.now += Duration::from_millis(10);
            let (line, news) = self.tray.due(self.now);
            self.heard.extend(news);
            self.say_to_controller(line);
            let line = self.controller.due(self.now);
            self.say_to_tray(line);
        }
    }
}

#[test]
fn a_tray_learns_who_controls_it_and_below_what_it_may_not_go() {
    let mut line = Line::new(vec![]);
    line.floors.generation = 12;
    line.run(1);
    assert_eq!(line.heard, [tray::News::Linked(IDENTITY, line.floors)]);
    assert_eq!(line.told, [News::Stage(Stage::System), News::Alive]);
}

#[test]
fn a_controller_that_is_not_there_is_absent_after_a_second_and_heard_when_it_comes() {
    let mut line = Line::new(vec![]);
    line.cut = true;
    line.run(2);
    assert_eq!(line.heard, [tray::News::Absent]);
    line.cut = false;
    line.run(6);
    assert_eq!(
        line.heard.last(),
        Some(&tray::News::Linked(IDENTITY, line.floors))
    );
    // And missed when it goes.
    line.cut = true;
    line.run(30);
    assert_eq!(line.heard.last(), Some(&tray::News::Gone));
}

#[test]
fn a_controller_that_was_there_once_and_is_gone_is_a_fault() {
    for (required, known, expected) in [
        (false, false, Without::GoOn),
        (false, true, Without::Fault),
        (true, false, Without::Fault),
        (true, true, Without::Fault),
    ] {
        assert_eq!(tray::without(required, known), expected);
    }
}

#[test]
fn floors_that_flash_did_not_take_are_never_said_to_be_kept() {
    let mut line = Line::new(vec![]);
    line.keeps = false;
    line.run(1);
    line.tray.raise(
        Floors {
            generation: 3,
            ..Floors::default()
        },
        line.now,
    );
    line.run(5);
    assert_eq!(line.heard.last(), Some(&tray::News::NotKept));
}

#[test]
fn a_tray_cannot_raise_the_time_far_beyond_the_controller_s_own() {
    let mut line = Line::new(vec![]);
    line.run(1);
    line.tray.raise(
        Floors {
            time: u64::MAX,
            ..Floors::default()
        },
        line.now,
    );
    line.run(1);
    assert_eq!(line.floors.time, NOW + AHEAD.as_secs());
    // Without a clock it raises nothing.
    let mut controller = Controller::new(IDENTITY);
    let raise = Message::Raise(Floors {
        time: 5,
        ..Floors::default()
    })
    .encode(1)
    .unwrap();
    let told = raise
        .iter()
        .find_map(|&byte| controller.take(byte, &Floors::default(), None).1);
    assert_eq!(told, Some(News::Raise(Floors::default())));
}

#[test]
fn an_answer_to_an_older_wish_is_not_taken_for_the_last_one_s() {
    let mut controller = Controller::new(IDENTITY);
    controller.shut_down(Duration::from_secs(60), Duration::ZERO);
    controller.shut_down(Duration::from_secs(60), Duration::ZERO);
    let mut say = |number| {
        let line = Message::Shutting(true).encode(number).unwrap();
        line.iter()
            .find_map(|&byte| controller.take(byte, &Floors::default(), None).1)
    };
    assert_eq!(say(1), None);
    assert_eq!(say(2), Some(News::Shutting(true)));
}

proptest! {
    #[test]
    fn what_is_asked_is_answered_once_whatever_frames_get_lost(lost in proptest::collection::vec(any::<bool>(), 0..12)) {
        let mut line = Line::new(lost);
        line.run(8);
        prop_assert!(line.heard.iter().any(|it| matches!(it, tray::News::Linked(..))));
        line.tray.raise(Floors { generation: 4, trust_root: 2, ..Floors::default() }, line.now);
        line.controller.shut_down(Duration::from_secs(60), line.now);
        line.run(16);
        let count = |wanted: fn(&tray::News) -> bool| line.heard.iter().filter(|it| wanted(it)).count();
        prop_assert_eq!(count(|it| *it == tray::News::Kept), 1);
        prop_assert_eq!(count(|it| matches!(it, tray::News::Shutdown(_))), 1);
        prop_assert_eq!(line.told.iter().filter(|it| **it == News::Shutting(true)).count(), 1);
        prop_assert_eq!(line.floors.generation, 4);
    }
}
