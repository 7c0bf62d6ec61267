// SPDX-License-Identifier: Apache-2.0
//! The controller's end of the control link; the tray's is `racklet_wire::link::tray`.
//!
//! ```text
//!   Silent --hello--> (identity, floors) Heard --signs of life, POST codes--> Heard --leaving--> Silent
//! ```
//! A tray's word for floors is taken as it is: they only rise, and what it could do with too high ones is to stop itself, until the
//! owner resets them at the board. Its word for the *time* rises by [`AHEAD`] at the most beyond what this controller's own clock has,
//! since certificates are judged by it: a tray in wrong hands must not be able to lock the owner out.

use core::time::Duration;

use racklet_wire::{
    link::{Floors, Identity, Message, Stage},
    serial::{OnLine, Receiver},
};

/// How often a wish to shut down is repeated.
const AGAIN: Duration = Duration::from_secs(1);
/// How far ahead of this controller's own time a tray may raise the time's floor.
pub const AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// What came over the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A stage of the tray's start speaks for the first time.
    Stage(Stage),
    /// It lives.
    Alive,
    /// It has come this far.
    Post {
        /// The stage's own number.
        code: u16,
        /// Milliseconds since the stage's start.
        since: u32,
    },
    /// These floors are to be kept; [`Controller::kept`] says so when they are in flash, and nothing says so when they are not.
    Raise(Floors),
    /// Whether it will shut down.
    Shutting(bool),
    /// It is silent from here on; whether it powers off.
    Leaving(bool),
}

/// The controller's end.
#[derive(Debug)]
pub struct Controller {
    identity: Identity,
    receiver: Receiver,
    stage: Option<Stage>,
    raising: Option<u8>,
    wish: Option<Wish>,
    number: u8,
    damaged: u32,
}

#[derive(Debug, Clone, Copy)]
struct Wish {
    number: u8,
    until: Duration,
    next: Duration,
}

impl Controller {
    /// One that says of itself that it is `identity`.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self {
            identity,
            receiver: Receiver::new(),
            stage: None,
            raising: None,
            wish: None,
            number: 0,
            damaged: 0,
        }
    }

    /// The stage that spoke last; none before any, and after a tray took its leave.
    #[must_use]
    pub const fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// Frames that came damaged or were no messages of a tray.
    #[must_use]
    pub const fn damaged(&self) -> u32 {
        self.damaged
    }

    /// The tray's power is gone: whatever spoke does not any more.
    pub fn off(&mut self) {
        self.stage = None;
        self.wish = None;
        self.raising = None;
        self.receiver.reset();
    }

    /// Asks the host to shut down, until it answers or its time is over.
    pub const fn shut_down(&mut self, within: Duration, now: Duration) {
        self.number = self.number.wrapping_add(1);
        self.wish = Some(Wish {
            number: self.number,
            until: now.saturating_add(within),
            next: now,
        });
    }

    /// What was to be raised is in flash: what is to be sent.
    pub fn kept(&mut self) -> Option<OnLine> {
        Message::Kept.encode(self.raising.take()?).ok()
    }

    /// What is to be sent now. To be called ten times a second or so.
    pub fn due(&mut self, now: Duration) -> Option<OnLine> {
        let wish = self.wish.as_mut()?;
        if now >= wish.until {
            self.wish = None;
            return None;
        }
        if now < wish.next {
            return None;
        }
        wish.next = now + AGAIN;
        let rest = (wish.until - now).as_secs();
        let seconds = u16::try_from(rest).unwrap_or(u16::MAX);
        Message::Shutdown { seconds }.encode(wish.number).ok()
    }

    /// Takes a byte: what is to be sent at once, in this order, and what it says. `time` is this controller's own, in Unix seconds, as far
    /// as it has one.
    pub fn take(
        &mut self,
        byte: u8,
        floors: &Floors,
        time: Option<u64>,
    ) -> ([Option<OnLine>; 2], Option<News>) {
        const NOTHING: [Option<OnLine>; 2] = [None, None];
        let Some(found) = self.receiver.take(byte) else {
            return (NOTHING, None);
        };
        let Some((message, number)) = found.ok().and_then(|body| Message::decode(body).ok()) else {
            self.damaged = self.damaged.saturating_add(1);
            return (NOTHING, None);
        };
        let news = match message {
            Message::Hello(stage) => {
                let anew = self.stage.replace(stage) != Some(stage);
                let answer = [Message::Identity(self.identity), Message::Floors(*floors)];
                let answer = answer.map(|it| it.encode(number).ok());
                return (answer, anew.then_some(News::Stage(stage)));
            }
            Message::Alive => {
                let answer = Message::Kept.encode(number).ok();
                return ([answer, None], Some(News::Alive));
            }
            Message::Post { code, since } => News::Post { code, since },
            Message::Raise(mut asked) => {
                self.raising = Some(number);
                let limit = time.map_or(floors.time, |it| it.saturating_add(AHEAD.as_secs()));
                asked.time = asked.time.min(limit.max(floors.time));
                News::Raise(asked)
            }
            Message::Shutting(will) if self.wish.is_some_and(|it| it.number == number) => {
                self.wish = None;
                News::Shutting(will)
            }
            // To a wish that nobody has any more.
            Message::Shutting(_) => return (NOTHING, None),
            Message::Leaving { off } => {
                self.stage = None;
                News::Leaving(off)
            }
            // The controller's own kinds: an echo.
            Message::Identity(_)
            | Message::Floors(_)
            | Message::Shutdown { .. }
            | Message::Kept => {
                self.damaged = self.damaged.saturating_add(1);
                return (NOTHING, None);
            }
        };
        (NOTHING, Some(news))
    }
}

#[cfg(test)]
mod tests;
