// SPDX-License-Identifier: Apache-2.0
//! The tray's end of the control link, for bootloader, bootstrap and system alike: bytes and time in, bytes and news out.
//!
//! ```text
//!   Asking ---identity and floors---> Linked ---3 signs of life unanswered---> Absent, News::Gone
//!      \---10 times unanswered (1 s)---> Absent, News::Absent ---identity---> Asking
//! ```
//!
//! Whether a tray may go on without its controller is not decided here but by [`without`]: one that was there once and is gone is a
//! fault.

use core::time::Duration;

use super::{Floors, Identity, Message, Stage};
use crate::serial::{OnLine, Receiver};

/// Between two times that the same question is asked.
pub const AGAIN: Duration = Duration::from_millis(100);
/// How often hello is said before the controller counts as absent: a second in all. Its first stage may be verifying a slot, and then
/// answers later, which is heard all the same.
pub const HELLOS: u8 = 10;
/// Between two signs of life. The controller's watchdog of its host counts missed ones.
pub const ALIVE: Duration = Duration::from_secs(5);

/// What came over the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The controller is there; these are its floors.
    Linked(Identity, Floors),
    /// Nobody answers.
    Absent,
    /// It answered and does not any more.
    Gone,
    /// The floors that were given are in its flash.
    Kept,
    /// It did not say so, asked for three seconds.
    NotKept,
    /// Power goes in so many seconds, unless [`Tray::answer`] says no.
    Shutdown(u16),
}

/// Whether a tray goes on without a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// It never had one, or its policy does not ask for one.
    GoOn,
    /// One was there and is gone, or the policy asks for one.
    Fault,
}

/// Whether a tray may start although nobody answers: `required` by its policy, `known` when a controller ever answered this tray.
#[must_use]
pub const fn without(required: bool, known: bool) -> Without {
    if required || known {
        Without::Fault
    } else {
        Without::GoOn
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asking {
        said: u8,
        identity: Option<Identity>,
    },
    Linked,
    Absent,
}

/// The tray's end.
#[derive(Debug)]
pub struct Tray {
    stage: Stage,
    receiver: Receiver,
    state: State,
    number: u8,
    /// When the next question or sign of life is due.
    next: Duration,
    raising: Option<Raising>,
    /// The last wish to shut down, and what was said to it.
    wish: Option<(u8, Option<bool>)>,
    /// Signs of life since the controller's last word.
    unanswered: u8,
    damaged: u32,
}

#[derive(Debug, Clone, Copy)]
struct Raising {
    floors: Floors,
    number: u8,
    tries: u8,
    next: Duration,
}

/// How often floors are given before the controller counts as not keeping them: three seconds, seven times its flash's longest erase.
const RAISES: u8 = 30;
/// How many signs of life may stay unanswered: with [`ALIVE`] 15 s, longer than a controller takes for an update of itself.
const UNANSWERED: u8 = 3;

impl Tray {
    /// A stage that begins to speak at `now`.
    #[must_use]
    pub const fn new(stage: Stage, now: Duration) -> Self {
        Self {
            stage,
            receiver: Receiver::new(),
            state: State::Asking {
                said: 0,
                identity: None,
            },
            number: 0,
            next: now,
            raising: None,
            wish: None,
            unanswered: 0,
            damaged: 0,
        }
    }

    /// Frames that came damaged or were no messages of the controller's.
    #[must_use]
    pub const fn damaged(&self) -> u32 {
        self.damaged
    }

    /// Gives these floors to the controller until it says that they are kept: [`News::Kept`] comes, or [`News::NotKept`].
    pub const fn raise(&mut self, floors: Floors, now: Duration) {
        self.number = self.number.wrapping_add(1);
        self.raising = Some(Raising {
            floors,
            number: self.number,
            tries: 0,
            next: now,
        });
    }

    /// The answer to the last [`News::Shutdown`], to be sent; when the controller asks again it gets the same.
    pub fn answer(&mut self, will: bool) -> Option<OnLine> {
        let (number, said) = self.wish.as_mut()?;
        *said = Some(will);
        Message::Shutting(will).encode(*number).ok()
    }

    /// What is to be sent now, and what came to an end by time alone. To be called whenever time has passed, until it gives nothing.
    pub fn due(&mut self, now: Duration) -> (Option<OnLine>, Option<News>) {
        if let Some(raising) = &mut self.raising
            && raising.next <= now
            && self.state == State::Linked
        {
            if raising.tries == RAISES {
                self.raising = None;
                return (None, Some(News::NotKept));
            }
            raising.tries += 1;
            raising.next = now + AGAIN;
            let message = Message::Raise(raising.floors);
            return (message.encode(raising.number).ok(), None);
        }
        if self.next > now {
            return (None, None);
        }
        match &mut self.state {
            State::Asking { said, .. } if *said == HELLOS => {
                self.state = State::Absent;
                self.next = now + ALIVE;
                (None, Some(News::Absent))
            }
            State::Asking { said, .. } => {
                *said += 1;
                self.next = now + AGAIN;
                (Message::Hello(self.stage).encode(0).ok(), None)
            }
            // Asked on: a controller that was updating itself is back after some seconds.
            State::Absent => {
                self.next = now + ALIVE;
                (Message::Hello(self.stage).encode(0).ok(), None)
            }
            State::Linked if self.unanswered == UNANSWERED => {
                self.state = State::Absent;
                self.next = now + ALIVE;
                (None, Some(News::Gone))
            }
            State::Linked => {
                self.unanswered += 1;
                self.next = now + ALIVE;
                (Message::Alive.encode(0).ok(), None)
            }
        }
    }

    /// Takes a byte of the link: what is to be answered at once, and what it says.
    pub fn take(&mut self, byte: u8) -> (Option<OnLine>, Option<News>) {
        let Some(found) = self.receiver.take(byte) else {
            return (None, None);
        };
        let Some((message, number)) = found.ok().and_then(|body| Message::decode(body).ok()) else {
            self.damaged = self.damaged.saturating_add(1);
            return (None, None);
        };
        match message {
            Message::Identity(it) => {
                match &mut self.state {
                    State::Asking { identity, .. } => *identity = Some(it),
                    State::Absent => {
                        self.state = State::Asking {
                            said: 0,
                            identity: Some(it),
                        };
                    }
                    State::Linked => {}
                }
                (None, None)
            }
            Message::Floors(floors) => match self.state {
                State::Asking {
                    identity: Some(identity),
                    ..
                } => {
                    self.state = State::Linked;
                    self.unanswered = 0;
                    (None, Some(News::Linked(identity, floors)))
                }
                // Floors of a controller that has not said who it is: hello is said again.
                _ => (None, None),
            },
            Message::Kept => {
                self.unanswered = 0;
                let kept = self.raising.take_if(|it| it.number == number);
                (None, kept.map(|_| News::Kept))
            }
            Message::Shutdown { seconds } => match self.wish {
                // The same wish again is no news.
                Some((known, said)) if known == number => {
                    let again = said.and_then(|will| Message::Shutting(will).encode(number).ok());
                    (again, None)
                }
                _ => {
                    self.wish = Some((number, None));
                    (None, Some(News::Shutdown(seconds)))
                }
            },
            // The tray's own kinds: an echo.
            _ => {
                self.damaged = self.damaged.saturating_add(1);
                (None, None)
            }
        }
    }
}
