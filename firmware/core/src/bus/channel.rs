// SPDX-License-Identifier: Apache-2.0
//! Packets in pieces, each once and in order, over turns of which any may get lost.
//!
//! One piece is under way at a time and is repeated until the other side acknowledges it. A side that started anew has another
//! session: the packet under way is sent from its beginning, and half a packet that came before is forgotten. So a packet may get lost
//! with the controller that held it, and may come once to each of two lives of its receiver, but none is ever damaged or put
//! together from two, and none comes twice to who did not start anew.

use core::fmt;

use racklet_wire::{
    bus::{Frame, PACKET, PIECE, Piece},
    bytes::Bytes,
};

/// One end.
#[derive(Debug)]
pub struct Channel {
    session: u16,
    peer: Option<u16>,
    /// The packet under way, where its piece begins, and the piece's number.
    outgoing: Bytes<PACKET>,
    at: usize,
    sequence: u8,
    /// What has come of a packet, and the number of its last piece.
    incoming: Bytes<PACKET>,
    taken: u8,
    state: Incoming,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Incoming {
    /// Waiting for a packet's beginning.
    Nothing,
    /// Some pieces are there.
    Part,
    /// The packet is whole and was not fetched yet.
    Whole,
}

/// A packet is under way already, or it is empty or longer than [`PACKET`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another packet is under way, or this one is none")
    }
}

impl core::error::Error for Busy {}

impl Channel {
    /// An end in a session of its own: another number than before the last start.
    #[must_use]
    pub const fn new(session: u16) -> Self {
        Self {
            session,
            peer: None,
            outgoing: Bytes::new(),
            at: 0,
            sequence: 0,
            incoming: Bytes::new(),
            taken: 0,
            state: Incoming::Nothing,
        }
    }

    /// This end's session.
    #[must_use]
    pub const fn session(&self) -> u16 {
        self.session
    }

    /// The number of the piece that a frame carries; of the last one that was acknowledged where it carries none.
    #[must_use]
    pub fn sequence(&self, carried: bool) -> u8 {
        if carried || self.outgoing.is_empty() {
            self.sequence
        } else {
            before(self.sequence)
        }
    }

    /// The number of the other side's last piece that came; 0 before any.
    #[must_use]
    pub const fn acknowledge(&self) -> u8 {
        self.taken
    }

    /// Whether [`Self::offer`] takes a packet.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Takes a packet, to be sent.
    ///
    /// # Errors
    /// [`Busy`]; a packet that is refused for its length is refused for ever.
    pub fn offer(&mut self, packet: &[u8]) -> Result<(), Busy> {
        if !self.is_free() || packet.is_empty() {
            return Err(Busy);
        }
        self.outgoing.extend(packet).map_err(|_| Busy)?;
        self.begin();
        Ok(())
    }

    /// The piece to send.
    #[must_use]
    pub fn piece(&self) -> Option<Piece<'_>> {
        let rest = self.outgoing.get(self.at..).filter(|it| !it.is_empty())?;
        let bytes = rest.get(..PIECE).unwrap_or(rest);
        Some(Piece {
            first: self.at == 0,
            last: bytes.len() == rest.len(),
            bytes,
        })
    }

    /// Takes the other side's frame, with its piece if it has one. Gives whether the other side started anew.
    pub fn hear(&mut self, frame: &Frame<'_>, piece: Option<Piece<'_>>) -> bool {
        let anew = self.peer != Some(frame.session);
        if anew {
            self.peer = Some(frame.session);
            // Whatever it counted before: the next one is the one that comes now, or the one behind it.
            self.taken = match piece {
                Some(_) => before(frame.sequence),
                None => frame.sequence,
            };
            self.state = Incoming::Nothing;
        }
        // A side that started anew may have taken the first piece already, but none of those before a later one.
        if frame.acknowledge == self.sequence && (!anew || self.at == 0) {
            self.acknowledged();
        } else if anew && !self.outgoing.is_empty() {
            self.begin();
        }
        if let Some(piece) = piece
            && frame.sequence != self.taken
        {
            self.taken = frame.sequence;
            self.take(piece);
        }
        anew
    }

    /// Whether a packet has come and was not fetched.
    #[must_use]
    pub fn has_packet(&self) -> bool {
        self.state == Incoming::Whole
    }

    /// The packet that has come, once.
    pub fn packet(&mut self) -> Option<&[u8]> {
        if self.state != Incoming::Whole {
            return None;
        }
        self.state = Incoming::Nothing;
        Some(&self.incoming)
    }

    fn begin(&mut self) {
        self.at = 0;
        self.sequence = behind(self.sequence);
    }

    fn acknowledged(&mut self) {
        let Some(piece) = self.piece() else { return };
        if piece.last {
            self.outgoing.clear();
        } else {
            self.at += piece.bytes.len();
            self.sequence = behind(self.sequence);
        }
    }

    fn take(&mut self, piece: Piece<'_>) {
        match (piece.first, self.state) {
            (true, _) => self.incoming.clear(),
            (false, Incoming::Part) => {}
            // The rest of a packet whose beginning nobody has.
            (false, Incoming::Nothing | Incoming::Whole) => return,
        }
        self.state = match (self.incoming.extend(piece.bytes), piece.last) {
            // Longer than a packet may be: its sender is not one of ours.
            (Err(_), _) => Incoming::Nothing,
            (Ok(()), true) => Incoming::Whole,
            (Ok(()), false) => Incoming::Part,
        };
    }
}

/// Pieces are numbered from 1 to 255 and then from 1 again: 0 is acknowledged by who has heard nothing.
const fn behind(number: u8) -> u8 {
    if number == u8::MAX { 1 } else { number + 1 }
}

const fn before(number: u8) -> u8 {
    if number <= 1 { u8::MAX } else { number - 1 }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{vec, vec::Vec};

    use proptest::prelude::*;
    use racklet_wire::bus::{Content, Station};

    use super::*;

    /// What a side says now, as the other hears it.
    fn say(from: &Channel, to: &mut Channel) {
        let piece = from.piece();
        let frame = Frame {
            to: Station::Rack,
            from: Station::Bench,
            session: from.session(),
            sequence: from.sequence(piece.is_some()),
            acknowledge: from.acknowledge(),
            content: Content::Answer(piece),
        };
        to.hear(&frame, piece);
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let mut channel = Channel::new(1);
        assert_eq!(channel.offer(&[]), Err(Busy));
        assert_eq!(channel.offer(&[0; PACKET + 1]), Err(Busy));
        assert!(channel.is_free());
        assert_eq!(channel.offer(&[0; PACKET]), Ok(()));
        assert_eq!(channel.offer(&[0]), Err(Busy));
    }

    #[test]
    fn pieces_without_end_fill_nothing_but_one_packet() {
        let mut channel = Channel::new(1);
        for sequence in 0..=255 {
            let piece = Piece {
                first: sequence == 0,
                last: sequence == 255,
                bytes: &[7; PIECE],
            };
            let frame = Frame {
                to: Station::Rack,
                from: Station::Bench,
                session: 9,
                sequence,
                acknowledge: 0,
                content: Content::Answer(Some(piece)),
            };
            channel.hear(&frame, Some(piece));
        }
        assert_eq!(channel.packet(), None);
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Turn {
        Both,
        AnswerLost,
        QuestionLost,
        ResetLeft,
        ResetRight,
    }

    fn turns(resets: bool) -> impl Strategy<Value = Vec<Turn>> {
        let turn = move || {
            let reset = u32::from(resets);
            prop_oneof![
                6 => Just(Turn::Both),
                2 => Just(Turn::AnswerLost),
                2 => Just(Turn::QuestionLost),
                reset => Just(Turn::ResetLeft),
                reset => Just(Turn::ResetRight),
            ]
        };
        proptest::collection::vec(turn(), 1..200)
    }

    /// Number and length make a packet whose every byte is known.
    fn packet(number: usize) -> Vec<u8> {
        let length = 1 + number * 397 % PACKET;
        (0..length)
            .map(|at| (number * 31 + at).to_le_bytes()[0])
            .collect()
    }

    /// Plays the turns; what arrived at each side, by number.
    fn play(turns: &[Turn]) -> [Vec<usize>; 2] {
        let (mut left, mut right) = (Channel::new(1), Channel::new(2));
        let mut session = 2;
        let packets: Vec<_> = (0..=turns.len() + 20).map(packet).collect();
        let mut next = [0_usize; 2];
        let mut arrived = [vec![], vec![]];
        // At the end the line is good, and all that was taken arrives.
        for turn in turns.iter().copied().chain([Turn::Both; 20]) {
            session += 1;
            match turn {
                Turn::ResetLeft => left = Channel::new(session),
                Turn::ResetRight => right = Channel::new(session),
                _ => {}
            }
            for (side, next) in [&mut left, &mut right].into_iter().zip(&mut next) {
                if side.is_free() {
                    side.offer(&packets[*next]).unwrap();
                    *next += 1;
                }
            }
            if turn != Turn::QuestionLost {
                say(&left, &mut right);
                if turn != Turn::AnswerLost {
                    say(&right, &mut left);
                }
            }
            for (side, arrived) in [&mut right, &mut left].into_iter().zip(&mut arrived) {
                if let Some(found) = side.packet() {
                    let number = packets.iter().position(|packet| packet == found);
                    arrived.push(number.expect("a packet that was never sent"));
                }
            }
        }
        arrived
    }

    proptest! {
        #[test]
        fn every_packet_comes_once_and_in_order_whatever_turns_are_lost(turns in turns(false)) {
            for arrived in play(&turns) {
                prop_assert!(arrived.iter().copied().eq(0..arrived.len()), "{:?}", arrived);
                prop_assert!(!arrived.is_empty());
            }
        }

        #[test]
        fn after_resets_packets_are_missing_at_most_and_never_mixed(turns in turns(true)) {
            for arrived in play(&turns) {
                prop_assert!(arrived.is_sorted(), "{:?}", arrived);
                prop_assert!(!arrived.is_empty());
            }
        }
    }
}
