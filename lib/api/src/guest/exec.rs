// SPDX-License-Identifier: Apache-2.0
//! Another process in a guest, beside its command: what its caller on the host and guest-init say to each other, one JSON object
//! per line.
//!
//! ```text
//! caller  --- `exec` on the control socket --> monitor --- AgentOrder::Exec --> guest-init
//! caller  <-------------- vsock.sock_PORT ---------- monitor <--- connects to PORT ---'
//! ```
//!
//! The caller listens first, on a port of its own choice, and knows guest-init by the secret that it had ordered: the guest's
//! other processes reach that port as well, and do not know it. The monitor looks at nothing of what goes over the connection.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;

use racklet_trust::digest::Hex;
use serde::{Deserialize, Serialize};

use super::{CommandEnd, GuestUser};
use crate::V1;
use crate::vmm::console::Bytes;
use crate::vmm::{InvalidVm, ensure};

/// Processes of this kind that guest-init has at once.
pub const MOST: usize = 16;
/// Longest line in either direction, in bytes, newline included: the command with its environment is the longest.
pub const MAX_LINE: usize = 64 * 1024;
/// Most bytes of input or output in one line, before base64.
pub const MAX_PIECE: usize = 4096;
/// Lowest port that a caller may choose: those below are guest-init's and the agent's.
pub const LOWEST_PORT: u32 = 1025;

/// What guest-init shows to be known by: 16 bytes, which the caller has drawn. It is shown to nobody else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Hex<16>);

impl Secret {
    /// Of these bytes, which nobody can guess.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Secret {
        Secret(Hex(bytes))
    }

    /// Compares in a time that does not tell where they differ.
    #[must_use]
    pub fn is(&self, other: &Secret) -> bool {
        let pairs = self.0.0.iter().zip(&other.0.0);
        pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Where the caller listens, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "wire::Call")]
pub struct Call {
    /// The vsock port that guest-init is to connect to, [`LOWEST_PORT`] or more: the socket `vsock.sock_PORT` of the folder.
    pub port: u32,
    /// Said in [`FromGuest::Hello`].
    pub secret: Secret,
}

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// The process that is wanted. What is absent is as the guest's command has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "wire::Exec")]
pub struct Exec {
    /// Program and arguments; the program is looked up in `PATH` when it holds no slash.
    pub command: Vec<String>,
    /// Added to the command's environment.
    pub environment: BTreeMap<String, String>,
    /// Where it starts; absolute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<PathBuf>,
    /// Whom it runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<GuestUser>,
    /// It gets a terminal of this size, and its output is one stream; otherwise pipes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Window>,
}

/// A line from the caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToGuest {
    /// The first one: starts the process.
    Start(Exec),
    /// What is typed.
    Input(Bytes),
    /// Nothing more is typed: its standard input ends. (A terminal's does not.)
    InputEnd,
    /// The terminal has another size.
    Window(Window),
    /// Send the signal with this number, 1 to 31, to the process and those that it started.
    Signal(u8),
}

/// A line from guest-init, or from whoever in the guest found the port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromGuest {
    /// The first one.
    Hello {
        /// Always 1.
        v: V1,
        /// [`Call::secret`].
        secret: Secret,
    },
    /// It runs, as this process of the guest.
    Started {
        /// Its number.
        pid: u32,
    },
    /// Of its standard output, or of its terminal.
    Output(Bytes),
    /// Of its standard error.
    Error(Bytes),
    /// The last one: it ended, and all that it said has been sent.
    Ended(CommandEnd),
}

mod wire {
    use super::{BTreeMap, Deserialize, GuestUser, PathBuf, Secret, Window};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Call {
        pub(super) port: u32,
        pub(super) secret: Secret,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    pub(super) struct Exec {
        pub(super) command: Vec<String>,
        #[serde(default)]
        pub(super) environment: BTreeMap<String, String>,
        pub(super) working_directory: Option<PathBuf>,
        pub(super) user: Option<GuestUser>,
        pub(super) terminal: Option<Window>,
    }
}

impl TryFrom<wire::Call> for Call {
    type Error = InvalidVm;

    fn try_from(w: wire::Call) -> Result<Call, InvalidVm> {
        ensure(
            (LOWEST_PORT..u32::MAX).contains(&w.port),
            "port",
            format!("{} is not within {LOWEST_PORT} to {}", w.port, u32::MAX - 1),
        )?;
        Ok(Call {
            port: w.port,
            secret: w.secret,
        })
    }
}

impl TryFrom<wire::Exec> for Exec {
    type Error = InvalidVm;

    fn try_from(w: wire::Exec) -> Result<Exec, InvalidVm> {
        super::checks::command(&w.command)?;
        super::checks::environment(&w.environment)?;
        if let Some(folder) = &w.working_directory {
            crate::vmm::absolute(folder, "working_directory")?;
        }
        Ok(Exec {
            command: w.command,
            environment: w.environment,
            working_directory: w.working_directory,
            user: w.user,
            terminal: w.terminal,
        })
    }
}

/// Reads a line; nothing where the connection has ended between two lines.
///
/// # Errors
/// When it cannot be read, is longer than [`MAX_LINE`] or is not what is said here: nothing can be made of what follows.
// untrusted: exec_lines
pub fn read<T: for<'a> Deserialize<'a>>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    from.by_ref().take(most).read_until(b'\n', &mut line)?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => serde_json::from_slice(&line)
            .map(Some)
            .map_err(io::Error::from),
        Some(_) if line.len() < MAX_LINE => Err(io::ErrorKind::UnexpectedEof.into()),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a line is longer than any",
        )),
    }
}

/// Writes a line.
///
/// # Errors
/// When the other side is gone.
pub fn write(to: &mut impl Write, what: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    to.write_all(&line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exec(command: &[&str]) -> Exec {
        Exec {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            environment: BTreeMap::new(),
            working_directory: None,
            user: None,
            terminal: None,
        }
    }

    fn line(text: &str) -> io::Result<Option<ToGuest>> {
        read(&mut text.as_bytes())
    }

    #[test]
    fn lines_are_what_they_say_and_nothing_else_is_taken() {
        assert_eq!(
            line("{\"start\":{\"command\":[\"a\",\"b\"]}}\n").unwrap(),
            Some(ToGuest::Start(exec(&["a", "b"])))
        );
        assert_eq!(line("{\"signal\":2}\n").unwrap(), Some(ToGuest::Signal(2)));
        assert_eq!(line("\"input-end\"\n").unwrap(), Some(ToGuest::InputEnd));
        assert_eq!(line("").unwrap(), None);
        for wrong in [
            "{\"start\":{\"command\":[]}}\n",
            "{\"start\":{\"command\":[\"\"]}}\n",
            "{\"start\":{\"command\":[\"a\\u0000\"]}}\n",
            "{\"start\":{\"command\":[\"a\"],\"working_directory\":\"b\"}}\n",
            "{\"start\":{\"command\":[\"a\"],\"environment\":{\"=\":\"\"}}}\n",
            "{\"start\":{\"command\":[\"a\"],\"root\":true}}\n",
            "{\"dance\":1}\n",
            "{\"signal\":300}\n",
            "\"input-end\"",
            "\n",
        ] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
        let long = format!("{}\"input-end\"\n", " ".repeat(MAX_LINE));
        assert!(line(&long).unwrap_err().to_string().contains("longer"));
    }

    #[test]
    fn a_caller_listens_where_neither_the_agent_nor_guest_init_is() {
        let call = |port: u32| {
            let text = format!(r#"{{"port":{port},"secret":"{}"}}"#, "0f".repeat(16));
            serde_json::from_str::<Call>(&text)
        };
        for port in [0, 1, 1023, 1024, u32::MAX] {
            assert!(call(port).is_err(), "{port}");
        }
        assert_eq!(call(1025).unwrap().port, 1025);
        for secret in [
            "",
            "0f",
            &"0g".repeat(16),
            &"ü".repeat(16),
            &"+f".repeat(16),
        ] {
            let text = format!("{secret:?}");
            assert!(serde_json::from_str::<Secret>(&text).is_err(), "{secret}");
        }
    }

    #[test]
    fn an_order_for_guest_init_is_read_as_it_was_written() {
        let call = Call {
            port: 5000,
            secret: Secret::new([7; 16]),
        };
        let order = crate::guest::AgentOrder::Exec(call);
        let text = serde_json::to_string(&order).unwrap();
        let secret = "07".repeat(16);
        let expected = format!(r#"{{"order":"exec","port":5000,"secret":"{secret}"}}"#);
        assert_eq!(text, expected);
        assert_eq!(
            serde_json::from_str::<crate::guest::AgentOrder>(&text).unwrap(),
            order
        );
    }

    #[test]
    fn a_secret_is_compared_whole_and_shown_to_nobody() {
        let secret = Secret::new([7; 16]);
        assert!(secret.is(&Secret::new([7; 16])));
        for place in 0..16 {
            let mut other = [7; 16];
            other[place] ^= 0x80;
            assert!(!secret.is(&Secret::new(other)), "{place}");
        }
        assert!(!format!("{secret:?}").contains('7'));
        let text = serde_json::to_string(&secret).unwrap();
        assert_eq!(text, format!("{:?}", "07".repeat(16)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(data in proptest::collection::vec(any::<u8>(), 0..MAX_PIECE), words in proptest::collection::vec("[^\0]{1,8}", 1..5)) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let said = [ToGuest::Start(exec(&words)), ToGuest::Input(Bytes(data))];
            let mut text = Vec::new();
            for what in &said {
                write(&mut text, what).unwrap();
            }
            let mut from = &text[..];
            for what in &said {
                prop_assert_eq!(&read::<ToGuest>(&mut from).unwrap().unwrap(), what);
            }
            prop_assert_eq!(read::<ToGuest>(&mut from).unwrap(), None);
        }
    }
}
