// SPDX-License-Identifier: Apache-2.0
//! What of the typed bytes is for us: `~` at the beginning of a line and a letter behind it, as in ssh.
//!
//! ```text
//! Start --~--> Tilde --a letter of ours--> that, and Start
//!   ^            |  --~--> one ~ for the tray
//!   CR, LF       v  --another byte--> both for the tray
//!   +--------- Line
//! ```

/// What a person may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// `~.`
    End,
    /// `~?`
    Help,
    /// `~t`
    Take,
    /// `~r`
    Release,
    /// `~b`
    Break,
}

/// Said for `~?`.
pub(super) const HELP: &str = "\
~.  end
~t  take the input, also from somebody else
~r  give the input back
~b  send a break
~~  send ~
~?  this
(after Enter)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Tilde,
    Line,
}

/// Where in a line the typing is.
#[derive(Debug)]
pub(super) struct Escape(Place);

impl Escape {
    pub(super) fn new() -> Self {
        Self(Place::Start)
    }

    /// Sorts typed bytes: those for the tray into `tray`, in order; what was asked for in between.
    pub(super) fn sort(&mut self, typed: &[u8], tray: &mut Vec<u8>) -> Vec<Asked> {
        let mut asked = Vec::new();
        for &byte in typed {
            let after = match byte {
                b'\r' | b'\n' => Place::Start,
                _ => Place::Line,
            };
            self.0 = match (self.0, byte) {
                (Place::Start, b'~') => Place::Tilde,
                (Place::Tilde, b'.' | b'?' | b't' | b'r' | b'b') => {
                    asked.push(match byte {
                        b'.' => Asked::End,
                        b'?' => Asked::Help,
                        b't' => Asked::Take,
                        b'r' => Asked::Release,
                        _ => Asked::Break,
                    });
                    Place::Start
                }
                (Place::Tilde, b'~') => {
                    tray.push(b'~');
                    Place::Line
                }
                (Place::Tilde, _) => {
                    tray.extend([b'~', byte]);
                    after
                }
                _ => {
                    tray.push(byte);
                    after
                }
            };
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of bytes that are typed one by one.
    fn typed(text: &str) -> (String, Vec<Asked>) {
        let (mut escape, mut tray, mut asked) = (Escape::new(), Vec::new(), Vec::new());
        for byte in text.bytes() {
            asked.extend(escape.sort(&[byte], &mut tray));
        }
        (String::from_utf8(tray).unwrap(), asked)
    }

    #[test]
    fn a_tilde_at_the_beginning_of_a_line_asks_and_the_tray_gets_nothing_of_it() {
        assert_eq!(typed("~?"), (String::new(), vec![Asked::Help]));
        assert_eq!(typed("ls\r~."), ("ls\r".into(), vec![Asked::End]));
        assert_eq!(
            typed("~t~b~r"),
            (
                String::new(),
                vec![Asked::Take, Asked::Break, Asked::Release]
            )
        );
    }

    #[test]
    fn everything_else_is_for_the_tray() {
        for text in ["cd ~.", "a~?", "~x", "~\r~\r", "\x03\x1b[A"] {
            assert_eq!(typed(text), (text.into(), vec![]), "{text:?}");
        }
        assert_eq!(typed("~~."), ("~.".into(), vec![]));
    }
}
