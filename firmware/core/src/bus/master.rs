// SPDX-License-Identifier: Apache-2.0
//! The rack's controller on the bus: who is asked next, who is there, and who does not keep to it.
//!
//! ```text
//! each slot:   Absent --tray in, or once a second all the same--> Asked --hello--> Up --1 s without an answer--> Asked
//!                 ^--------------------------tray out------------------------------/
//! the bus:     Idle --question--> Sending --sent--> Waiting --first byte--> Hearing --frame, or its time is over--> Idle
//! ```
//!
//! Who had something small to say lately (a keystroke, its echo) gets every second turn; the other turns go round, so that nobody
//! waits longer than twice a round.

use core::time::Duration;

use racklet_wire::{
    bus::{ANSWER_WITHIN, Content, FRAME_WITHIN, Frame, Hello, PIECE, Slot, Station, TURNAROUND},
    serial::{LONGEST_ON_LINE, OnLine, Receiver},
};

use super::{Busy, Channel};

/// A tray's controller that does not answer for so long is told as lost: more than twice the longest erase of its flash (0.4 s).
const LOST: Duration = Duration::from_secs(1);
/// How long one may be silent whose presence contact is open as well.
const PULLED: Duration = Duration::from_millis(20);
/// How often a slot is asked whose presence contact is open: contacts get dirty.
const PROBE: Duration = Duration::from_secs(1);
/// How long after something small a slot counts as lively.
const LIVELY: Duration = Duration::from_millis(50);
/// How long nobody may answer, with two trays or more up, before somebody is blamed: a round of five silent trays takes 2.8 ms.
const SILENCE: Duration = Duration::from_millis(100);
/// How often within a second somebody speaks out of turn before that is babble and not an answer that came late.
const OUT_OF_TURN: u8 = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "one of them at a time, on the stack; there is no heap for a box"
)]
pub enum Step {
    /// Send this, then call [`Master::sent`] with the moment at which the driver let go.
    Send(OnLine),
    /// Nothing before this moment, unless bytes come.
    Until(Duration),
    /// Something happened; there may be more.
    News(News),
}

/// What happened on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// A tray's controller is there, or is there again after a start of its own.
    Joined(Slot, Hello),
    /// It does not answer any more, or was pulled out.
    Lost(Slot),
    /// A packet came from it; [`Master::packet`] gives it.
    Packet(Slot),
    /// Somebody speaks out of turn.
    Babbles(Babbler),
    /// That is over.
    Quiet,
}

/// Who keeps the others from speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Babbler {
    /// Where, as far as can be told.
    pub slot: Slot,
    /// Whether it said so itself (frames or bytes out of turn) or was only the last one to be heard before nobody was.
    pub certain: bool,
    /// Since when.
    pub since: Duration,
}

/// What is counted, of one slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Questions.
    pub asked: u64,
    /// Answers.
    pub answered: u64,
    /// Turns that ended with something else than an answer to them.
    pub damaged: u64,
    /// Turns without a byte.
    pub silent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle {
        from: Duration,
    },
    Sending {
        to: Slot,
    },
    Waiting {
        on: Slot,
        until: Duration,
    },
    Hearing {
        from: Slot,
        until: Duration,
        bytes: usize,
    },
}

#[derive(Debug)]
struct Peer {
    slot: Slot,
    present: bool,
    up: bool,
    channel: Channel,
    /// Its last answer, or when it was put in.
    heard: Duration,
    asked: Option<Duration>,
    lively: Duration,
    counts: Counts,
    /// How often it spoke out of turn since then.
    out_of_turn: (u8, Duration),
}

#[derive(Debug, Clone, Copy)]
struct Blame {
    babbler: Babbler,
    /// The last that spoke for it.
    last: Duration,
    told: bool,
}

/// The rack's controller's end.
#[derive(Debug)]
pub struct Master {
    peers: [Peer; Slot::COUNT],
    receiver: Receiver,
    state: State,
    /// Whose turn it was last, of all and of the lively ones.
    last: usize,
    last_lively: usize,
    favoured: bool,
    /// Who answered last, and when.
    heard: Option<(Slot, Duration)>,
    blame: Option<Blame>,
    quiet: bool,
    news: Option<News>,
}

impl Master {
    /// In a new session, with no tray in yet.
    #[must_use]
    pub fn new(session: u16, now: Duration) -> Self {
        Self {
            peers: Slot::ALL.map(|slot| Peer {
                slot,
                present: false,
                up: false,
                channel: Channel::new(session),
                heard: now,
                asked: None,
                lively: now,
                counts: Counts::default(),
                out_of_turn: (0, now),
            }),
            receiver: Receiver::new(),
            state: State::Idle { from: now },
            last: 0,
            last_lively: 0,
            favoured: false,
            heard: None,
            blame: None,
            quiet: false,
            news: None,
        }
    }

    /// What the presence contacts say, bit n for slot n + 1.
    pub fn present(&mut self, slots: u8, now: Duration) {
        for peer in &mut self.peers {
            let present = slots & 1 << peer.slot.index() != 0;
            if present && !peer.present {
                peer.heard = now;
                peer.asked = None;
            }
            peer.present = present;
        }
    }

    /// What is counted of a slot.
    #[must_use]
    pub const fn counts(&self, slot: Slot) -> Counts {
        self.peers[slot.index()].counts
    }

    /// Whether a tray's controller answers there.
    #[must_use]
    pub const fn is_up(&self, slot: Slot) -> bool {
        self.peers[slot.index()].up
    }

    /// Who babbles, if anybody does.
    #[must_use]
    pub fn babbler(&self) -> Option<Babbler> {
        self.blame.map(|it| it.babbler)
    }

    /// Whether [`Self::offer`] takes a packet for this slot.
    #[must_use]
    pub fn is_free(&self, slot: Slot) -> bool {
        let peer = &self.peers[slot.index()];
        peer.up && peer.channel.is_free()
    }

    /// Takes a packet for a slot.
    ///
    /// # Errors
    /// [`Busy`], also where nobody is up.
    pub fn offer(&mut self, slot: Slot, packet: &[u8], now: Duration) -> Result<(), Busy> {
        let peer = &mut self.peers[slot.index()];
        if !peer.up {
            return Err(Busy);
        }
        peer.channel.offer(packet)?;
        if packet.len() <= PIECE {
            peer.lively = now + LIVELY;
        }
        Ok(())
    }

    /// The packet that came from a slot, once; to be fetched before the slot's next turn.
    pub fn packet(&mut self, slot: Slot) -> Option<&[u8]> {
        self.peers[slot.index()].channel.packet()
    }

    /// What is to be done now. To be called again after everything that it gives, and whenever its time has come.
    pub fn step(&mut self, now: Duration) -> Step {
        if let Some(news) = self.news.take().or_else(|| self.overdue(now)) {
            return Step::News(news);
        }
        match self.state {
            State::Idle { from } if from > now => Step::Until(from),
            State::Idle { .. } => self.ask(now),
            // Until `sent` is called; the wiring's own timer bounds that.
            State::Sending { .. } => Step::Until(now + FRAME_WITHIN),
            State::Waiting { on, until } if until <= now => {
                self.peers[on.index()].counts.silent += 1;
                self.idle(now);
                self.step(now)
            }
            State::Hearing { from, until, .. } if until <= now => {
                self.peers[from.index()].counts.damaged += 1;
                self.idle(now);
                self.step(now)
            }
            State::Waiting { until, .. } | State::Hearing { until, .. } => Step::Until(until),
        }
    }

    /// The question is out, and the driver off.
    pub fn sent(&mut self, now: Duration) {
        if let State::Sending { to } = self.state {
            self.receiver.reset();
            self.state = State::Waiting {
                on: to,
                until: now + ANSWER_WITHIN,
            };
        }
    }

    /// Takes a byte of the bus.
    pub fn take(&mut self, byte: u8, now: Duration) {
        let turn = match self.state {
            State::Waiting { on, .. } => {
                self.state = State::Hearing {
                    from: on,
                    until: now + FRAME_WITHIN,
                    bytes: 1,
                };
                Some(on)
            }
            State::Hearing { from, until, bytes } if bytes <= LONGEST_ON_LINE => {
                self.state = State::Hearing {
                    from,
                    until,
                    bytes: bytes + 1,
                };
                Some(from)
            }
            State::Hearing { from, until, .. } => {
                // More than any frame has. In everybody's turn it is somebody else's doing.
                let others = self
                    .heard
                    .is_some_and(|(slot, at)| slot != from && now < at + SILENCE);
                self.peers[from.index()].counts.damaged += 1;
                self.receiver.reset();
                self.idle(until);
                if others {
                    self.out_of_turn(from, now);
                }
                None
            }
            State::Idle { .. } | State::Sending { .. } => None,
        };
        let Some(Ok(body)) = self.receiver.take(byte) else {
            return;
        };
        let Ok(frame) = Frame::decode(body) else {
            return;
        };
        let Station::Slot(from) = frame.from else {
            return;
        };
        if frame.to != Station::Rack {
            return;
        }
        match turn {
            Some(slot) if slot == from => {
                self.news = self.peers[from.index()].hear(&frame, now);
                self.heard = Some((from, now));
                let over = |it: &mut Blame| !it.babbler.certain || now >= it.last + WINDOW;
                self.quiet |= self.blame.take_if(over).is_some_and(|it| it.told);
                self.idle(now + TURNAROUND);
            }
            // In nobody's turn, or in another's.
            _ => self.out_of_turn(from, now),
        }
    }

    fn idle(&mut self, from: Duration) {
        self.state = State::Idle { from };
    }

    fn out_of_turn(&mut self, slot: Slot, now: Duration) {
        let (count, since) = &mut self.peers[slot.index()].out_of_turn;
        if now >= *since + WINDOW {
            (*count, *since) = (0, now);
        }
        *count = count.saturating_add(1);
        let (count, since) = (*count, *since);
        if count >= OUT_OF_TURN {
            self.blame(slot, true, since, now);
        }
    }

    fn blame(&mut self, slot: Slot, certain: bool, since: Duration, now: Duration) {
        match &mut self.blame {
            Some(blame) if blame.babbler.slot == slot && blame.babbler.certain >= certain => {
                blame.last = now;
            }
            other => {
                *other = Some(Blame {
                    babbler: Babbler {
                        slot,
                        certain,
                        since,
                    },
                    last: now,
                    told: false,
                });
            }
        }
    }

    /// What is to be told that no single byte brought about.
    fn overdue(&mut self, now: Duration) -> Option<News> {
        if core::mem::take(&mut self.quiet) {
            return Some(News::Quiet);
        }
        let up = self.peers.iter().filter(|peer| peer.up).count();
        if let Some((slot, last)) = self.heard
            && self.blame.is_none()
            && up >= 2
            && now >= last + SILENCE
        {
            self.blame(slot, false, last, now);
        }
        if let Some(blame) = self.blame.as_mut().filter(|it| !it.told) {
            blame.told = true;
            return Some(News::Babbles(blame.babbler));
        }
        let pulled = |it: &Peer| !it.present && now >= it.heard + PULLED;
        let mut up = self.peers.iter_mut().filter(|it| it.up);
        let lost = up.find(|it| pulled(it) || now >= it.heard + LOST)?;
        lost.up = false;
        Some(News::Lost(lost.slot))
    }

    fn ask(&mut self, now: Duration) -> Step {
        let Some(slot) = self.choose(now) else {
            return Step::Until(now + PROBE / 100);
        };
        let peer = &mut self.peers[slot.index()];
        peer.asked = Some(now);
        peer.counts.asked += 1;
        let content = if peer.up {
            Content::Poll(peer.channel.piece())
        } else {
            Content::Ask
        };
        let carried = matches!(content, Content::Poll(Some(_)));
        let frame = Frame {
            to: Station::Slot(slot),
            from: Station::Rack,
            session: peer.channel.session(),
            sequence: peer.channel.sequence(carried),
            acknowledge: peer.channel.acknowledge(),
            content,
        };
        match frame.encode() {
            Ok(line) => {
                self.state = State::Sending { to: slot };
                Step::Send(line)
            }
            // Pieces are never too long.
            Err(_) => Step::Until(now + PROBE),
        }
    }

    /// Whose turn it is.
    fn choose(&mut self, now: Duration) -> Option<Slot> {
        let count = self.peers.len();
        let behind = |last: usize| (1..=count).map(move |step| (last + step) % count);
        self.favoured = !self.favoured;
        if self.favoured {
            let lively = behind(self.last_lively).find(|&at| {
                let peer = &self.peers[at];
                peer.up && peer.lively > now
            });
            if let Some(at) = lively {
                self.last_lively = at;
                return Some(self.peers[at].slot);
            }
        }
        let next = behind(self.last).find(|&at| {
            let peer = &self.peers[at];
            peer.present || peer.up || peer.asked.is_none_or(|asked| now >= asked + PROBE)
        })?;
        self.last = next;
        Some(self.peers[next].slot)
    }
}

impl Peer {
    fn hear(&mut self, frame: &Frame<'_>, now: Duration) -> Option<News> {
        self.counts.answered += 1;
        self.heard = now;
        match frame.content {
            Content::Hello(hello) => {
                self.channel.hear(frame, None);
                self.up = true;
                Some(News::Joined(self.slot, hello))
            }
            Content::Answer(piece) => {
                if self.channel.hear(frame, piece) {
                    // It started anew: who is it now?
                    self.up = false;
                }
                if piece.is_some_and(|it| it.first && it.last) {
                    self.lively = now + LIVELY;
                }
                self.channel.has_packet().then_some(News::Packet(self.slot))
            }
            Content::Ask | Content::Poll(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
