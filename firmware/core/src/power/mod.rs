// SPDX-License-Identifier: Apache-2.0
//! The tray's power: pins, time and wishes in, pins, wishes to the host and events out.
//!
//! ```text
//!            wish, policy                 permitted            power good
//!   Off ------------------> Waiting --------------> Starting ------------> On
//!    ^                                                 | |                 | |
//!    |   wish, long press, host said it leaves         | | no power good,  | | power good gone, eFuse fault
//!    +---- Stopping <-- wish, short press -------------|-|-----------------+ |
//!    |                                                 v v                   v
//!    |<------ a person asks ------ NeedsPerson <-- Resting (again after 5 s, 3 times without a stable minute)
//! ```
//!
//! - **The pins come first.** A controller that starts while its tray has power goes on with that tray, whatever its flash says
//!   (`docs/hardware/circuits.md`: the tray stays on for 0.8 s without it, and `PI_POWER_EN` has to be driven within 0.4 s).
//! - **Starts are counted before they happen** ([`Kept::starts`], written before the pin moves), so that a loop in which the tray's start
//!   takes the busbar down, and this controller with it, ends too.
//! - After an outage a tray waits for its turn ([`Policy::stagger`] times its place), and for the rack's word, at most [`UNASKED`].

use core::time::Duration;

mod button;

pub use button::{Button, Press};

/// How long the 5.1 V supply has until it says that its output is good: a hundred times the soft start of LMR33640 (SNVSB99C, 8.3.4: some ms).
const GOOD_WITHIN: Duration = Duration::from_millis(500);
/// How long power good may be gone before the tray counts as tripped. Below that it is the sampling.
const GONE: Duration = Duration::from_millis(30);
/// From off to on again: a Pi's capacitors are empty and its PMIC has seen it.
pub const OFF_TIME: Duration = Duration::from_secs(3);
/// After a trip, before the next try.
const REST: Duration = Duration::from_secs(5);
/// Tries without a stable minute between them.
pub const STARTS: u8 = 3;
const STABLE: Duration = Duration::from_secs(60);
/// After off, before the tray's own voltages are looked at.
const SETTLED: Duration = Duration::from_secs(2);
/// Millivolts at the tray's 5 V while it is off that come from somewhere else: the divider's and the ADC's errors stay below a tenth.
const ELSEWHERE: u16 = 1000;
/// How long `EFUSE_OFF` is high to clear a fault.
const CLEAR: Duration = Duration::from_millis(100);
/// How long the rack's controller may leave a wish to start unanswered: a rack without one works too.
pub const UNASKED: Duration = Duration::from_secs(10);
/// From the host's "off" to the cut: its last writes are flushed by then, it said so when it was done.
const LEAVING: Duration = Duration::from_secs(2);

/// What the pins say, `boards/controllers/rp2350-bmc/pins.toml`; low-active ones turned round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pins {
    /// `PI_POWER_GOOD`: the 5.1 V supply is up.
    pub power_good: bool,
    /// `PI_ON`: the tray's own 3.3 V.
    pub pi_on: bool,
    /// `EFUSE_FAULT_N`, asserted.
    pub efuse_fault: bool,
    /// `BUTTON_N`, pressed.
    pub button: bool,
    /// `ADC_PI_5V`, millivolts at the tray.
    pub pi_5v: u16,
}

/// What is driven.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drive {
    /// `PI_POWER_EN`.
    pub power_en: bool,
    /// `EFUSE_OFF`.
    pub efuse_off: bool,
}

/// What survives an outage, in flash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whether the tray is to be on.
    pub wanted: bool,
    /// Starts since it was last on for a minute.
    pub starts: u8,
}

impl Kept {
    /// Two bytes for flash.
    #[must_use]
    pub const fn encode(self) -> [u8; 2] {
        [self.wanted as u8, self.starts]
    }

    /// Those bytes again; what is neither 0 nor 1 counts as wanted, since a tray that runs in vain does less harm than one that does not.
    #[must_use]
    pub const fn decode([wanted, starts]: [u8; 2]) -> Self {
        Self {
            wanted: wanted != 0,
            starts,
        }
    }
}

/// What a tray is after an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restore {
    /// What it was before.
    Last,
    /// On.
    On,
    /// Off, until somebody asks.
    Off,
}

/// What the owner decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// After an outage.
    pub restore: Restore,
    /// How long this tray waits after an outage: its slot's number times a second or so.
    pub stagger: Duration,
    /// How long a host has to shut down before its power goes.
    pub patience: Duration,
    /// A host that gave signs of life and gives none for so long is cycled; none for never. Longer than its slowest start, since it counts
    /// from the cycle on the second time.
    pub host_silence: Option<Duration>,
    /// How often in a row, until one sign of life.
    pub host_cycles: u8,
}

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// On. From a person: counts as the person that [`State::NeedsPerson`] waits for.
    On,
    /// Off, at once.
    Off,
    /// Off, after the host was asked.
    Shutdown,
    /// Off at once, and on again.
    Cycle,
    /// Close the eFuse again; its fault is over.
    ClearFault,
}

/// What the host says, over the control link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// It lives.
    Alive,
    /// It will not shut down now.
    Refuses,
    /// It is done, and off from its side.
    Leaves,
}

/// For the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// This controller started, and the tray had power all the time.
    TakenOver,
    /// This many starts without a stable minute, this one included.
    Starting(u8),
    /// The tray has power.
    On,
    /// It has none any more, as somebody wished.
    Off,
    /// Power went by itself; whether the eFuse says a fault.
    Tripped {
        /// `EFUSE_FAULT_N`.
        fault: bool,
    },
    /// Tried often enough: off until a person asks.
    NeedsPerson,
    /// The eFuse was opened to clear its fault.
    Cleared,
    /// Off, and yet there are so many millivolts at the tray's 5 V.
    FedFromElsewhere(u16),
    /// The host was asked to shut down.
    Asked,
    /// It will not; power stays.
    Refused,
    /// It did not in time; power goes.
    Overdue,
    /// No sign of life for too long: cycled.
    HostSilent,
    /// Cycled often enough in vain.
    HostGivenUp,
}

/// Where the tray is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Off.
    Off,
    /// To be on, and waiting for its turn.
    Waiting,
    /// Switched on, its supply not good yet.
    Starting,
    /// On.
    On,
    /// On, its host asked to shut down.
    Stopping,
    /// Tripped, to be tried again.
    Resting,
    /// Off until a person asks.
    NeedsPerson,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcome {
    /// To be driven from now on.
    pub drive: Drive,
    /// To be in flash before anything is driven, and before the next step.
    pub keep: Option<Kept>,
    /// The host is to be asked to shut down within this time.
    pub ask: Option<Duration>,
    /// To be logged.
    pub event: Option<Event>,
}

/// One tray's power.
#[derive(Debug, Clone)]
pub struct Sequencer {
    policy: Policy,
    kept: Kept,
    state: State,
    /// When the state began, or when its wait ends.
    since: Duration,
    from: Duration,
    button: Button,
    wish: Option<Wish>,
    again: bool,
    permitted: bool,
    /// Power good was seen gone since then.
    gone: Option<Duration>,
    clearing: Option<Duration>,
    alive: Option<Duration>,
    cycles: u8,
    leaves: Option<Duration>,
    refused: bool,
    stable: bool,
    elsewhere: bool,
    event: Option<Event>,
}

impl Sequencer {
    /// Takes over what is there at a start of this controller: what the pins say, then what flash says, then the policy. The first thing
    /// that a first stage does is to drive what the first step gives.
    #[must_use]
    pub fn take_over(policy: Policy, kept: Option<Kept>, pins: &Pins, now: Duration) -> Self {
        let wanted = match policy.restore {
            Restore::Last => kept.is_some_and(|it| it.wanted),
            Restore::On => true,
            Restore::Off => false,
        };
        let kept = kept.unwrap_or_default();
        let (state, event) = if pins.power_good {
            (State::On, Some(Event::TakenOver))
        } else if wanted && kept.starts >= STARTS {
            (State::NeedsPerson, Some(Event::NeedsPerson))
        } else if wanted {
            (State::Waiting, None)
        } else {
            (State::Off, None)
        };
        Self {
            policy,
            kept: Kept {
                wanted: wanted || pins.power_good,
                starts: kept.starts,
            },
            state,
            since: now,
            from: now + policy.stagger,
            button: Button::default(),
            wish: None,
            again: false,
            permitted: false,
            gone: None,
            clearing: None,
            alive: None,
            cycles: 0,
            leaves: None,
            refused: false,
            stable: false,
            elsewhere: false,
            event,
        }
    }

    /// Where the tray is.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Somebody wants something; the last wish counts.
    pub const fn wish(&mut self, wish: Wish) {
        self.wish = Some(wish);
    }

    /// The rack's controller lets this tray start: power for it is there.
    pub const fn permit(&mut self) {
        self.permitted = true;
    }

    /// The host says something.
    pub const fn host(&mut self, says: Host, now: Duration) {
        match says {
            Host::Alive => {
                self.alive = Some(now);
                self.cycles = 0;
            }
            Host::Refuses => self.refused = true,
            Host::Leaves => self.leaves = Some(now),
        }
    }

    /// What is to be done now. To be called at least every 10 ms, and soon after each wish.
    pub fn step(&mut self, pins: &Pins, now: Duration) -> Outcome {
        let mut out = Outcome {
            event: self.event.take(),
            ..Outcome::default()
        };
        match self.button.sample(pins.button, now) {
            Some(Press::Long) => self.wish = Some(Wish::Off),
            Some(Press::Short) if matches!(self.state, State::Off | State::NeedsPerson) => {
                self.wish = Some(Wish::On);
            }
            Some(Press::Short) => self.wish = Some(Wish::Shutdown),
            None => {}
        }
        // One event a step, so that none is lost: what is behind it comes with the next.
        if out.event.is_none() {
            if let Some(wish) = self.wish.take() {
                self.obey(wish, &mut out, now);
            } else {
                self.go_on(pins, &mut out, now);
            }
        }
        if self.clearing.is_some_and(|until| now >= until) {
            self.clearing = None;
        }
        // A start waits until it is counted in flash; a running tray waits for nothing.
        let power_en = match self.state {
            State::On | State::Stopping => true,
            State::Starting => out.keep.is_none(),
            _ => false,
        };
        out.drive = Drive {
            power_en,
            efuse_off: self.clearing.is_some(),
        };
        out
    }

    fn obey(&mut self, wish: Wish, out: &mut Outcome, now: Duration) {
        let powered = matches!(self.state, State::Starting | State::On | State::Stopping);
        match wish {
            // A host that was asked once goes down: it is started again when it has.
            Wish::On if powered => self.again |= self.state == State::Stopping,
            Wish::On => {
                // A person is there: the count begins anew, and nobody waits for a turn.
                self.keep(
                    out,
                    Kept {
                        wanted: true,
                        starts: 0,
                    },
                );
                self.permitted = true;
                let earliest = self.since + OFF_TIME;
                self.enter(State::Waiting, now);
                self.from = earliest;
            }
            Wish::Off => self.cut(false, out, now),
            Wish::Cycle => self.cut(true, out, now),
            Wish::Shutdown if self.state == State::On => {
                self.refused = false;
                self.leaves = None;
                self.enter(State::Stopping, now);
                out.ask = Some(self.policy.patience);
                out.event = Some(Event::Asked);
            }
            Wish::Shutdown if self.state == State::Stopping => {}
            // Nobody to ask.
            Wish::Shutdown => self.cut(false, out, now),
            // Never under a running tray: its fault is over by itself, or it does not run.
            Wish::ClearFault if powered => {}
            Wish::ClearFault => self.clear(out, now),
        }
    }

    fn cut(&mut self, again: bool, out: &mut Outcome, now: Duration) {
        let powered = matches!(self.state, State::Starting | State::On | State::Stopping);
        let starts = if again { self.kept.starts } else { 0 };
        self.keep(
            out,
            Kept {
                wanted: again,
                starts,
            },
        );
        let since = if powered { now } else { self.since };
        self.enter(State::Off, since);
        self.again = false;
        self.alive = None;
        self.elsewhere = false;
        if again {
            self.enter(State::Waiting, now);
            self.from = since + OFF_TIME;
            self.permitted = true;
        }
        if out.event.is_none() && powered {
            out.event = Some(Event::Off);
        }
    }

    fn go_on(&mut self, pins: &Pins, out: &mut Outcome, now: Duration) {
        let on = matches!(self.state, State::On | State::Stopping);
        if on && self.is_gone(pins, now) {
            self.trip(pins, out, now);
            return;
        }
        match self.state {
            State::Off | State::NeedsPerson => {
                let fed = pins.pi_5v >= ELSEWHERE || pins.pi_on;
                if fed && !self.elsewhere && now >= self.since + SETTLED {
                    self.elsewhere = true;
                    out.event = Some(Event::FedFromElsewhere(pins.pi_5v));
                }
                self.elsewhere &= fed;
            }
            State::Waiting => {
                let turn = self.permitted || now >= self.from + UNASKED;
                if now >= self.from && turn {
                    let starts = self.kept.starts.saturating_add(1);
                    self.keep(
                        out,
                        Kept {
                            wanted: true,
                            starts,
                        },
                    );
                    out.event = Some(Event::Starting(starts));
                    self.enter(State::Starting, now);
                }
            }
            State::Starting if pins.power_good => {
                self.stable = false;
                self.enter(State::On, now);
                out.event = Some(Event::On);
            }
            State::Starting => {
                if now >= self.since + GOOD_WITHIN {
                    self.trip(pins, out, now);
                }
            }
            State::On => self.on(out, now),
            State::Stopping => self.stopping(out, now),
            State::Resting => {
                if now >= self.from {
                    // The eFuse holds its fault until it is opened.
                    if pins.efuse_fault && self.clearing.is_none() {
                        self.clear(out, now);
                        self.from = now + CLEAR * 2;
                    } else {
                        self.enter(State::Waiting, now);
                        self.from = now;
                        self.permitted = true;
                    }
                }
            }
        }
    }

    fn on(&mut self, out: &mut Outcome, now: Duration) {
        if !self.stable && now >= self.since + STABLE {
            self.stable = true;
            self.keep(
                out,
                Kept {
                    wanted: true,
                    starts: 0,
                },
            );
        }
        if self.leaves.take_if(|at| now >= *at + LEAVING).is_some() {
            // It shut down by itself, because somebody in it wished so.
            self.cut(false, out, now);
            return;
        }
        if let (Some(limit), Some(alive)) = (self.policy.host_silence, self.alive)
            && now >= alive + limit
        {
            self.alive = None;
            if self.cycles >= self.policy.host_cycles {
                out.event = Some(Event::HostGivenUp);
            } else {
                self.cycles += 1;
                out.event = Some(Event::HostSilent);
                self.cut(true, out, now);
                // The next silence counts from the start on: it may hang before its first word.
                self.alive = Some(now + OFF_TIME);
            }
        }
    }

    fn stopping(&mut self, out: &mut Outcome, now: Duration) {
        let again = self.again;
        if core::mem::take(&mut self.refused) {
            self.again = false;
            self.enter(State::On, self.since);
            out.event = Some(Event::Refused);
        } else if self.leaves.take_if(|at| now >= *at + LEAVING).is_some() {
            self.cut(again, out, now);
        } else if now >= self.since + self.policy.patience {
            out.event = Some(Event::Overdue);
            self.cut(again, out, now);
        }
    }

    fn trip(&mut self, pins: &Pins, out: &mut Outcome, now: Duration) {
        out.event = Some(Event::Tripped {
            fault: pins.efuse_fault,
        });
        self.gone = None;
        if self.kept.starts >= STARTS {
            self.enter(State::NeedsPerson, now);
            self.event = Some(Event::NeedsPerson);
        } else {
            // What ran stably and trips is started anew with a full count.
            self.enter(State::Resting, now);
            self.from = now + REST;
        }
    }

    fn is_gone(&mut self, pins: &Pins, now: Duration) -> bool {
        if pins.power_good {
            self.gone = None;
            return false;
        }
        now >= *self.gone.get_or_insert(now) + GONE
    }

    fn clear(&mut self, out: &mut Outcome, now: Duration) {
        self.clearing = Some(now + CLEAR);
        out.event = Some(Event::Cleared);
    }

    fn enter(&mut self, state: State, now: Duration) {
        self.state = state;
        self.since = now;
    }

    fn keep(&mut self, out: &mut Outcome, kept: Kept) {
        if self.kept != kept {
            self.kept = kept;
            out.keep = Some(kept);
        }
    }
}

#[cfg(test)]
mod tests;
