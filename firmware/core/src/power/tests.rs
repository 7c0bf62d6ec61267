// SPDX-License-Identifier: Apache-2.0
//! The sequencer with a tray that has power 5 ms after it is switched on, stepped every 10 ms.

extern crate std;

use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy {
    restore: Restore::Last,
    stagger: Duration::from_secs(2),
    patience: Duration::from_secs(60),
    host_silence: None,
    host_cycles: 2,
};

struct Tray {
    sequencer: Sequencer,
    policy: Policy,
    pins: Pins,
    flash: Option<Kept>,
    now: Duration,
    events: Vec<Event>,
    asked: u32,
    /// Power fails as soon as it is there.
    broken: bool,
    /// The supply was on after a step in which the tray was to stay as it was.
    starts: u32,
}

impl Tray {
    fn new(policy: Policy, flash: Option<Kept>, on: bool) -> Self {
        let pins = Pins {
            power_good: on,
            ..Pins::default()
        };
        Self {
            sequencer: Sequencer::take_over(policy, flash, &pins, Duration::ZERO),
            policy,
            pins,
            flash,
            now: Duration::ZERO,
            events: vec![],
            asked: 0,
            broken: false,
            starts: 0,
        }
    }

    fn off() -> Self {
        let mut tray = Self::new(POLICY, None, false);
        tray.run(5);
        tray
    }

    fn on() -> Self {
        let mut tray = Self::off();
        tray.sequencer.wish(Wish::On);
        tray.run(70);
        assert!(tray.pins.power_good);
        tray.events.clear();
        tray
    }

    fn step(&mut self) -> Outcome {
        self.now += Duration::from_millis(10);
        let out = self.sequencer.step(&self.pins, self.now);
        if let Some(kept) = out.keep {
            self.flash = Some(kept);
        }
        let good = out.drive.power_en && !self.broken && !out.drive.efuse_off;
        self.starts += u32::from(good && !self.pins.power_good);
        self.pins.power_good = good;
        if out.drive.efuse_off {
            self.pins.efuse_fault = false;
        }
        self.events.extend(out.event);
        self.asked += u32::from(out.ask.is_some());
        out
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 100 {
            self.step();
        }
    }

    /// The controller starts anew, the tray keeps what it has.
    fn reset(&mut self) {
        self.sequencer = Sequencer::take_over(self.policy, self.flash, &self.pins, self.now);
    }
}

#[test]
fn a_tray_that_has_power_keeps_it_whatever_flash_and_policy_say() {
    for restore in [Restore::Last, Restore::On, Restore::Off] {
        for wanted in [false, true] {
            for starts in [0, STARTS, 255] {
                let policy = Policy { restore, ..POLICY };
                let mut tray = Tray::new(policy, Some(Kept { wanted, starts }), true);
                for _ in 0..100 {
                    assert!(tray.step().drive.power_en);
                }
                assert_eq!(tray.events, [Event::TakenOver]);
            }
        }
    }
}

#[test]
fn a_reset_of_the_controller_at_any_step_never_disturbs_a_running_tray() {
    let mut tray = Tray::on();
    for step in 0..500 {
        if step % 7 == 0 {
            tray.reset();
        }
        assert!(tray.step().drive.power_en && tray.pins.power_good);
    }
    assert_eq!(tray.starts, 1);
}

#[test]
fn after_an_outage_a_tray_is_what_the_policy_says() {
    for (restore, wanted, on) in [
        (Restore::Last, true, true),
        (Restore::Last, false, false),
        (Restore::On, false, true),
        (Restore::Off, true, false),
    ] {
        let kept = Some(Kept { wanted, starts: 0 });
        let mut tray = Tray::new(Policy { restore, ..POLICY }, kept, false);
        // Not before its turn.
        tray.run(1);
        assert!(!tray.pins.power_good);
        tray.sequencer.permit();
        tray.run(2);
        assert_eq!(tray.pins.power_good, on, "{restore:?} {wanted}");
    }
    // A new one without anything in flash is off.
    assert!(!Tray::off().pins.power_good);
}

#[test]
fn a_rack_without_a_controller_delays_a_start_and_does_not_prevent_it() {
    let kept = Some(Kept {
        wanted: true,
        starts: 0,
    });
    let mut tray = Tray::new(POLICY, kept, false);
    tray.run(11);
    assert!(!tray.pins.power_good);
    tray.run(2);
    assert!(tray.pins.power_good);
}

#[test]
fn a_start_is_counted_in_flash_before_the_pin_moves() {
    let mut tray = Tray::off();
    tray.sequencer.wish(Wish::On);
    loop {
        let before = tray.flash;
        if tray.step().drive.power_en {
            assert_eq!(
                before,
                Some(Kept {
                    wanted: true,
                    starts: 1
                })
            );
            break;
        }
    }
}

#[test]
fn a_start_that_takes_the_busbar_down_with_it_ends_in_off_until_a_person_asks() {
    let mut flash = Some(Kept {
        wanted: true,
        starts: 0,
    });
    let mut starts = 0;
    // Each start is the end of this controller, too.
    let mut last = None;
    for _ in 0..10 {
        let mut tray = Tray::new(POLICY, flash, false);
        tray.sequencer.permit();
        for _ in 0..500 {
            if tray.step().drive.power_en {
                starts += 1;
                break;
            }
        }
        flash = tray.flash;
        last = Some(tray);
    }
    assert_eq!(starts, STARTS);
    let mut tray = last.unwrap();
    assert_eq!(tray.events, [Event::NeedsPerson]);
    tray.sequencer.wish(Wish::On);
    tray.run(5);
    assert!(tray.pins.power_good);
}

#[test]
fn a_fault_is_told_cleared_and_given_up_after_three_starts() {
    let mut tray = Tray::on();
    tray.broken = true;
    tray.pins.efuse_fault = true;
    tray.run(60);
    let tripped = |fault| Event::Tripped { fault };
    let expected = [
        tripped(true),
        Event::Cleared,
        Event::Starting(1),
        tripped(false),
        Event::Starting(2),
        tripped(false),
        Event::Starting(3),
        tripped(false),
        Event::NeedsPerson,
    ];
    assert_eq!(tray.events, expected);
    tray.run(1000);
    assert!(!tray.pins.power_good && tray.events.len() == expected.len());
}

#[test]
fn a_fault_is_never_cleared_under_a_running_tray() {
    let mut tray = Tray::on();
    tray.sequencer.wish(Wish::ClearFault);
    for _ in 0..100 {
        assert!(!tray.step().drive.efuse_off);
    }
    let mut tray = Tray::off();
    tray.pins.efuse_fault = true;
    tray.sequencer.wish(Wish::ClearFault);
    tray.run(1);
    assert!(!tray.pins.efuse_fault && tray.events == [Event::Cleared]);
}

#[test]
fn a_dip_of_one_sample_is_no_trip() {
    let mut tray = Tray::on();
    tray.pins.power_good = false;
    tray.run(1);
    assert_eq!(tray.events, []);
}

#[test]
fn a_host_is_asked_waited_for_and_cut_when_it_is_done() {
    let mut tray = Tray::on();
    tray.sequencer.wish(Wish::Shutdown);
    tray.run(30);
    assert!(tray.pins.power_good && tray.asked == 1);
    tray.sequencer.host(Host::Leaves, tray.now);
    tray.run(1);
    assert!(tray.pins.power_good);
    tray.run(2);
    assert!(!tray.pins.power_good);
    assert_eq!(tray.events, [Event::Asked, Event::Off]);
    assert_eq!(
        tray.flash,
        Some(Kept {
            wanted: false,
            starts: 0
        })
    );
}

#[test]
fn a_host_that_refuses_stays_and_one_that_does_not_answer_is_cut() {
    let mut tray = Tray::on();
    tray.sequencer.wish(Wish::Shutdown);
    tray.run(1);
    tray.sequencer.host(Host::Refuses, tray.now);
    tray.run(100);
    assert!(tray.pins.power_good && tray.events == [Event::Asked, Event::Refused]);
    tray.events.clear();
    tray.sequencer.wish(Wish::Shutdown);
    tray.run(59);
    assert!(tray.pins.power_good);
    tray.run(2);
    assert!(!tray.pins.power_good && tray.events == [Event::Asked, Event::Overdue]);
}

#[test]
fn a_cycle_is_off_for_three_seconds_and_on_again() {
    let mut tray = Tray::on();
    tray.sequencer.wish(Wish::Cycle);
    tray.run(1);
    assert!(!tray.pins.power_good);
    // An outage in the middle of it does not forget the second half.
    assert!(tray.flash.unwrap().wanted);
    tray.run(1);
    assert!(!tray.pins.power_good);
    tray.run(2);
    assert!(tray.pins.power_good && tray.starts == 2);
}

#[test]
fn on_while_shutting_down_is_a_restart() {
    let mut tray = Tray::on();
    tray.sequencer.wish(Wish::Shutdown);
    tray.run(1);
    tray.sequencer.wish(Wish::On);
    tray.run(1);
    tray.sequencer.host(Host::Leaves, tray.now);
    tray.run(8);
    assert!(tray.pins.power_good && tray.starts == 2);
}

#[test]
fn the_button_switches_on_asks_and_cuts() {
    let press = |tray: &mut Tray, time: u64| {
        tray.pins.button = true;
        for _ in 0..time {
            tray.step();
        }
        tray.pins.button = false;
        tray.run(5);
    };
    let mut tray = Tray::off();
    press(&mut tray, 20);
    assert!(tray.pins.power_good);
    press(&mut tray, 20);
    assert!(tray.pins.power_good && tray.asked == 1);
    press(&mut tray, 450);
    assert!(!tray.pins.power_good);
}

#[test]
fn a_tray_that_is_off_and_has_voltage_is_said_to_be_fed_from_elsewhere() {
    let mut tray = Tray::off();
    tray.pins.pi_5v = 4_700;
    tray.run(10);
    tray.pins.pi_5v = 40;
    tray.run(1);
    tray.pins.pi_5v = 3_100;
    tray.run(10);
    let expected = [
        Event::FedFromElsewhere(4_700),
        Event::FedFromElsewhere(3_100),
    ];
    assert_eq!(tray.events, expected);
}

#[test]
fn a_host_that_falls_silent_is_cycled_twice_and_then_left_alone() {
    let policy = Policy {
        host_silence: Some(Duration::from_secs(120)),
        ..POLICY
    };
    let mut tray = Tray::new(policy, None, true);
    // One that never gave a sign of life has no such program.
    tray.run(300);
    assert_eq!(tray.events, [Event::TakenOver]);
    tray.events.clear();
    for _ in 0..30 {
        tray.sequencer.host(Host::Alive, tray.now);
        tray.run(10);
    }
    assert_eq!(tray.events, []);
    tray.run(1000);
    let silent = tray.events.iter().filter(|it| **it == Event::HostSilent);
    assert_eq!(silent.count(), 2);
    assert_eq!(tray.events.last(), Some(&Event::HostGivenUp));
    assert!(tray.pins.power_good);
}

#[test]
fn what_is_kept_comes_back() {
    for wanted in [false, true] {
        for starts in 0..=255 {
            let kept = Kept { wanted, starts };
            assert_eq!(Kept::decode(kept.encode()), kept);
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_wished_the_pins_move_only_as_the_states_say(
        script in proptest::collection::vec((0..10_u8, 1..400_u16), 1..60),
    ) {
        let mut tray = Tray::off();
        for (what, steps) in script {
            match what {
                0 => tray.sequencer.wish(Wish::On),
                1 => tray.sequencer.wish(Wish::Off),
                2 => tray.sequencer.wish(Wish::Cycle),
                3 => tray.sequencer.wish(Wish::Shutdown),
                4 => tray.sequencer.wish(Wish::ClearFault),
                5 => tray.reset(),
                6 => tray.broken = !tray.broken,
                7 => tray.sequencer.host(Host::Leaves, tray.now),
                8 => tray.pins.button = !tray.pins.button,
                _ => tray.pins.efuse_fault = true,
            }
            let mut kept = tray.flash;
            for _ in 0..steps {
                let was = tray.pins.power_good;
                let out = tray.step();
                // Nothing starts uncounted, and no eFuse is opened while a tray has power.
                if out.drive.power_en && !was {
                    prop_assert!(kept.is_some_and(|it| it.wanted && it.starts > 0) || tray.sequencer.state() != State::Starting);
                }
                prop_assert!(!(out.drive.power_en && out.drive.efuse_off && was));
                kept = tray.flash;
            }
        }
    }
}
