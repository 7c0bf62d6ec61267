// SPDX-License-Identifier: Apache-2.0
//! The console of a tray, as its BMC and a reader of it speak over TLS (ALPN [`ALPN`]).
//!
//! The reader speaks first ([`Ask::Attach`]), the BMC answers [`Tell::Welcome`] and then sends whatever comes. Places in the history are
//! offsets: the number of bytes that the tray had printed before, counted since the history began. A history begins anew, under
//! another number, when the BMC's memory was lost.
//!
//! Output is bytes of the tray and nothing else. What happened to the line (a break, garbage, a cable that is low) is told apart from
//! these, with the offset at which it happened.

use core::fmt;

use crate::frame::{self, Frame};
use crate::reader::Reader;

/// What both ends name in TLS's handshake.
pub const ALPN: &[u8] = b"racklet-console/1";
/// Where a BMC listens.
pub const PORT: u16 = 7440;
/// The most bytes of output or input in one frame.
pub const MOST_BYTES: usize = frame::LONGEST - 8;
/// Bytes in which any frame fits.
pub const ROOM: usize = frame::HEAD + frame::LONGEST;
/// A reader that holds the input says something ([`Ask::Alive`], if nothing else) at least this often, in seconds.
pub const ALIVE_EVERY: u64 = 10;
/// A reader that said nothing for this long, in seconds, holds the input no longer.
pub const DEAD_AFTER: u64 = 30;

/// Where to begin to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// At the oldest byte that is still there.
    Oldest,
    /// With what comes from now on.
    Now,
    /// At most this many bytes back.
    Last(u64),
    /// At an offset of a history that was read before.
    At {
        /// The number of that history.
        history: u64,
        /// The first byte that is wanted.
        offset: u64,
    },
}

/// What a reader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// Once, and first.
    Attach {
        /// From where on.
        since: Since,
    },
    /// Typed for the tray: 1 to [`MOST_BYTES`] bytes. Taken from who holds the input, and ignored from others.
    Input(&'a [u8]),
    /// Wants to hold the input, and takes it from who does.
    Take,
    /// Holds the input no longer.
    Release,
    /// A break on the line, for so many milliseconds.
    Break(u16),
    /// Still there.
    Alive,
}

/// What happened to the line or to the reader, and not as a byte of the tray's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The line went low and stays so: the tray is off, or has not set up its UART yet.
    LineLow,
    /// It is high again.
    LineHigh,
    /// A break: low for longer than a byte, and then high again.
    Break,
    /// So many bytes were no bytes: wrong stop bit or parity.
    Garbage(u32),
    /// So many bytes came faster than they could be kept.
    Overrun(u32),
    /// The BMC itself began again; what was kept before is still there.
    Restart,
}

/// Why a BMC ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The reader said what makes no sense here.
    Protocol,
    /// The reader's certificate has no role that may look.
    Role,
    /// Nothing was heard from the reader for [`DEAD_AFTER`].
    Silent,
    /// The BMC is about to begin again.
    Restart,
}

/// What a BMC says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell<'a> {
    /// Answers [`Ask::Attach`].
    Welcome {
        /// The number of this history.
        history: u64,
        /// The oldest byte that is there.
        oldest: u64,
        /// The next byte to come.
        end: u64,
        /// Where this reader begins.
        begins: u64,
        /// Whether its certificate may type.
        may_type: bool,
    },
    /// At most [`MOST_BYTES`] bytes of the tray.
    Output {
        /// The place of the first.
        offset: u64,
        /// What it printed.
        bytes: &'a [u8],
    },
    /// What the reader did not get any more, because it was overwritten before it was sent: `from` up to, not including, `to`.
    Lost {
        /// The first byte that is missing.
        from: u64,
        /// The first that is there again.
        to: u64,
    },
    /// Something happened to the line.
    Event {
        /// The byte that came after it.
        offset: u64,
        /// What.
        event: Event,
    },
    /// Who holds the input from now on.
    Holder {
        /// Whether this reader does.
        yours: bool,
        /// By the name in the holder's certificate; empty when nobody does. At most [`NAME`] bytes of UTF-8.
        name: &'a str,
    },
    /// Answers [`Ask::Alive`].
    Alive,
    /// The end of this session.
    End(Reason),
}

/// The longest name of a holder, in bytes.
pub const NAME: usize = 64;

/// Why a frame is not one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclear {
    /// No such kind.
    Kind(u8),
    /// Not as long as its kind is, or with a value that its kind has not got.
    Body(u8),
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "no frame has the kind {kind:#04x}"),
            Self::Body(kind) => write!(f, "what is in a frame of kind {kind:#04x} makes no sense"),
        }
    }
}

impl core::error::Error for Unclear {}

mod kind {
    pub(super) const ATTACH: u8 = 0x01;
    pub(super) const INPUT: u8 = 0x02;
    pub(super) const TAKE: u8 = 0x03;
    pub(super) const RELEASE: u8 = 0x04;
    pub(super) const BREAK: u8 = 0x05;
    pub(super) const STILL_HERE: u8 = 0x06;
    pub(super) const WELCOME: u8 = 0x81;
    pub(super) const OUTPUT: u8 = 0x82;
    pub(super) const LOST: u8 = 0x83;
    pub(super) const EVENT: u8 = 0x84;
    pub(super) const HOLDER: u8 = 0x85;
    pub(super) const ALIVE: u8 = 0x86;
    pub(super) const END: u8 = 0x87;
}

/// What `read` makes of the whole body.
fn whole<'a, T>(
    frame: Frame<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Result<T, Unclear> {
    let mut body = Reader(frame.body);
    let value = read(&mut body).ok_or(Unclear::Body(frame.kind))?;
    match body.0 {
        [] => Ok(value),
        _ => Err(Unclear::Body(frame.kind)),
    }
}

impl Since {
    fn read(body: &mut Reader<'_>) -> Option<Self> {
        Some(match body.u8()? {
            0 => Self::Oldest,
            1 => Self::Now,
            2 => Self::Last(body.u64()?),
            3 => Self::At {
                history: body.u64()?,
                offset: body.u64()?,
            },
            _ => return None,
        })
    }
}

impl<'a> Ask<'a> {
    /// What a reader's frame says.
    ///
    /// # Errors
    /// [`Unclear`] when it is none of a reader's frames.
    // untrusted: console_frames
    pub fn read(frame: Frame<'a>) -> Result<Self, Unclear> {
        whole(frame, |body| {
            Some(match frame.kind {
                kind::ATTACH => Self::Attach {
                    since: Since::read(body)?,
                },
                kind::INPUT if (1..=MOST_BYTES).contains(&body.0.len()) => Self::Input(body.rest()),
                kind::TAKE => Self::Take,
                kind::RELEASE => Self::Release,
                kind::BREAK => Self::Break(body.u16()?),
                kind::STILL_HERE => Self::Alive,
                _ => return None,
            })
        })
        .map_err(|error| match frame.kind {
            kind::ATTACH..=kind::STILL_HERE => error,
            other => Unclear::Kind(other),
        })
    }

    /// Writes it into `out`, in which [`ROOM`] bytes are enough for any, and gives how many it took.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        match *self {
            Self::Attach { since } => {
                let (which, one, two) = match since {
                    Since::Oldest => (0, None, None),
                    Since::Now => (1, None, None),
                    Since::Last(bytes) => (2, Some(bytes), None),
                    Since::At { history, offset } => (3, Some(history), Some(offset)),
                };
                let long = |value: Option<u64>| value.map(u64::to_le_bytes);
                let (one, two) = (long(one), long(two));
                frame::write(
                    kind::ATTACH,
                    &[
                        &[which],
                        one.as_ref().map_or(&[][..], |it| it),
                        two.as_ref().map_or(&[][..], |it| it),
                    ],
                    out,
                )
            }
            Self::Input(bytes) => frame::write(kind::INPUT, &[bytes], out),
            Self::Take => frame::write(kind::TAKE, &[], out),
            Self::Release => frame::write(kind::RELEASE, &[], out),
            Self::Break(time) => frame::write(kind::BREAK, &[&time.to_le_bytes()], out),
            Self::Alive => frame::write(kind::STILL_HERE, &[], out),
        }
    }
}

impl Event {
    /// As two numbers, the way it is kept and sent.
    #[must_use]
    pub fn code(self) -> (u8, u32) {
        match self {
            Self::LineLow => (0, 0),
            Self::LineHigh => (1, 0),
            Self::Break => (2, 0),
            Self::Garbage(count) => (3, count),
            Self::Overrun(count) => (4, count),
            Self::Restart => (5, 0),
        }
    }

    /// Back from [`Event::code`].
    #[must_use]
    pub fn of_code(code: u8, count: u32) -> Option<Self> {
        Some(match (code, count) {
            (0, 0) => Self::LineLow,
            (1, 0) => Self::LineHigh,
            (2, 0) => Self::Break,
            (3, count) => Self::Garbage(count),
            (4, count) => Self::Overrun(count),
            (5, 0) => Self::Restart,
            _ => return None,
        })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LineLow => f.write_str("the line is low: the tray is off or has no console yet"),
            Self::LineHigh => f.write_str("the line is up"),
            Self::Break => f.write_str("a break from the tray"),
            Self::Garbage(count) => write!(f, "{count} bytes were garbled"),
            Self::Overrun(count) => write!(f, "{count} bytes came too fast for the BMC"),
            Self::Restart => f.write_str("the BMC began again"),
        }
    }
}

impl Reason {
    fn code(self) -> u8 {
        match self {
            Self::Protocol => 0,
            Self::Role => 1,
            Self::Silent => 2,
            Self::Restart => 3,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::Protocol, Self::Role, Self::Silent, Self::Restart]
            .into_iter()
            .find(|it| it.code() == code)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol => "the BMC did not understand",
            Self::Role => "the certificate has no role that may look at consoles",
            Self::Silent => "the BMC heard nothing for too long",
            Self::Restart => "the BMC begins again",
        })
    }
}

impl<'a> Tell<'a> {
    /// What a BMC's frame says.
    ///
    /// # Errors
    /// [`Unclear`] when it is none of a BMC's frames.
    // untrusted: console_frames
    pub fn read(frame: Frame<'a>) -> Result<Self, Unclear> {
        whole(frame, |body| {
            Some(match frame.kind {
                kind::WELCOME => Self::Welcome {
                    history: body.u64()?,
                    oldest: body.u64()?,
                    end: body.u64()?,
                    begins: body.u64()?,
                    may_type: body.bool()?,
                },
                kind::OUTPUT => Self::Output {
                    offset: body.u64()?,
                    bytes: body.rest(),
                },
                kind::LOST => Self::Lost {
                    from: body.u64()?,
                    to: body.u64()?,
                },
                kind::EVENT => Self::Event {
                    offset: body.u64()?,
                    event: Event::of_code(body.u8()?, body.u32()?)?,
                },
                kind::HOLDER => Self::Holder {
                    yours: body.bool()?,
                    name: str::from_utf8(body.rest())
                        .ok()
                        .filter(|name| name.len() <= NAME)?,
                },
                kind::ALIVE => Self::Alive,
                kind::END => Self::End(Reason::of_code(body.u8()?)?),
                _ => return None,
            })
        })
        .map_err(|error| match frame.kind {
            kind::WELCOME..=kind::END => error,
            other => Unclear::Kind(other),
        })
    }

    /// Writes it into `out`, in which [`ROOM`] bytes are enough for any, and gives how many it took.
    pub fn write(&self, out: &mut [u8]) -> Option<usize> {
        match *self {
            Self::Welcome {
                history,
                oldest,
                end,
                begins,
                may_type,
            } => {
                let long = [history, oldest, end, begins].map(u64::to_le_bytes);
                frame::write(
                    kind::WELCOME,
                    &[
                        &long[0],
                        &long[1],
                        &long[2],
                        &long[3],
                        &[u8::from(may_type)],
                    ],
                    out,
                )
            }
            Self::Output { offset, bytes } => {
                frame::write(kind::OUTPUT, &[&offset.to_le_bytes(), bytes], out)
            }
            Self::Lost { from, to } => {
                frame::write(kind::LOST, &[&from.to_le_bytes(), &to.to_le_bytes()], out)
            }
            Self::Event { offset, event } => {
                let (code, count) = event.code();
                frame::write(
                    kind::EVENT,
                    &[&offset.to_le_bytes(), &[code], &count.to_le_bytes()],
                    out,
                )
            }
            Self::Holder { yours, name } => {
                if name.len() > NAME {
                    return None;
                }
                frame::write(kind::HOLDER, &[&[u8::from(yours)], name.as_bytes()], out)
            }
            Self::Alive => frame::write(kind::ALIVE, &[], out),
            Self::End(reason) => frame::write(kind::END, &[&[reason.code()]], out),
        }
    }
}

#[cfg(test)]
mod tests;
