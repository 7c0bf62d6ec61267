// SPDX-License-Identifier: Apache-2.0
//! What is typed on a terminal that belongs to the guest: everything is the guest's, but for what follows Ctrl-A.
//!
//! Ctrl-A x ends the guest, Ctrl-A s stops it in order, Ctrl-A Ctrl-A (or a) is a Ctrl-A for the guest. Anything else behind it is passed on with it.

const ESCAPE: u8 = 1;

/// What the user wants beside typing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// End the guest now.
    Kill,
    /// Stop it in order.
    Stop,
}

/// Reads what is typed.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    escaped: bool,
}

impl Keys {
    /// Adds what the guest gets to `to`; gives what the user wants, the last of it if it is more than one thing.
    pub(crate) fn read(&mut self, typed: &[u8], to: &mut Vec<u8>) -> Option<Wish> {
        let mut wish = None;
        for byte in typed.iter().copied() {
            if !std::mem::replace(&mut self.escaped, false) {
                if byte == ESCAPE {
                    self.escaped = true;
                } else {
                    to.push(byte);
                }
                continue;
            }
            match byte {
                b'x' => wish = Some(Wish::Kill),
                b's' => wish = Some(Wish::Stop),
                b'a' | ESCAPE => to.push(ESCAPE),
                other => to.extend([ESCAPE, other]),
            }
        }
        wish
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_the_guests_but_for_what_follows_ctrl_a_however_it_comes() {
        for (typed, guest, wish) in [
            (&b"ls\r\x03\xff"[..], &b"ls\r\x03\xff"[..], None),
            (b"\x01x", b"", Some(Wish::Kill)),
            (b"q\x01s", b"q", Some(Wish::Stop)),
            (b"\x01a\x01\x01x", b"\x01\x01x", None),
            (b"\x01?y", b"\x01?y", None),
        ] {
            for cut in 0..=typed.len() {
                let (mut keys, mut to) = (Keys::default(), Vec::new());
                let first = keys.read(&typed[..cut], &mut to);
                let wished = keys.read(&typed[cut..], &mut to).or(first);
                assert_eq!((&to[..], wished), (guest, wish), "{typed:?} at {cut}");
            }
        }
    }
}
