// SPDX-License-Identifier: Apache-2.0
//! `racklet console`: the serial console of a tray, through its BMC.
//!
//! One thread: what the BMC sends and what is typed are waited for together. A session that breaks is begun again at the byte at which it
//! broke; what was lost meanwhile is said.

mod escape;
mod link;
mod terminal;

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use racklet_wire::console::{ALIVE_EVERY, Ask, MOST_BYTES, Since, Tell};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::answer::ConsoleRead;
use crate::output::{Output, Usage};
use crate::rack::RackArgument;
use crate::{authority, interrupt};
use escape::{Asked, Escape};
use link::{Link, Peer};
use terminal::Raw;

/// Pauses between attempts to get back.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(5),
];
/// Longest wait until Ctrl-C is looked for again.
const LOOK: Duration = Duration::from_millis(200);

/// Open the serial console of a tray, with what it printed before
///
/// It goes on by itself when the connection breaks, at the byte at which it broke. After Enter, `~.` ends it and `~?` shows
/// what else can be typed.
#[derive(Args)]
pub(crate) struct Console {
    /// The tray
    tray: String,
    /// The BMC's address and perhaps port; else `git config racklet.<tray>.bmc`
    #[arg(long, value_name = "HOST[:PORT]")]
    address: Option<String>,
    /// Whose certificate to show; needed where there are several
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// How much of what was printed before: `start` (all that is kept), `now` (nothing), or the last bytes, as `4096` or `64K`
    #[arg(long, value_name = "WHERE", default_value = "16K", value_parser = since)]
    since: Since,
    /// Write what the tray prints into this file as well
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Only look: nothing that is typed goes to the tray, and Ctrl-C ends it
    #[arg(long)]
    no_input: bool,
    /// End when what was asked for is there and the tray has printed nothing more for so long
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    #[command(flatten)]
    rack: RackArgument,
}

fn since(text: &str) -> Result<Since, String> {
    let (digits, unit) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => (text, 1),
    };
    match text {
        "start" => Ok(Since::Oldest),
        "now" => Ok(Since::Now),
        _ => digits
            .parse()
            .ok()
            .and_then(|count: u64| count.checked_mul(unit))
            .map(Since::Last)
            .ok_or_else(|| "write start, now, or a number of bytes such as 4096 or 64K".to_owned()),
    }
}

impl Console {
    pub(crate) fn run(self, output: Output) -> anyhow::Result<()> {
        if output.is_json() && self.log.is_none() {
            return Err(Usage(
                "with --json what the tray prints goes into a file: name it with --log".into(),
            )
            .into());
        }
        let rack = self.rack.open()?;
        let (root, _) = rack.trust()?;
        let folder = authority::folder(&root.rack().to_string())?;
        let name = match &self.name {
            Some(name) => name.clone(),
            None => only_name(&folder)?,
        };
        let setting = format!("racklet.{}.bmc", self.tray);
        let address = match &self.address {
            Some(address) => address.clone(),
            None => rack
                .repository
                .configs("racklet.")
                .remove(&setting)
                .with_context(|| {
                    format!(
                        "where is the BMC of {}? Name it with --address HOST[:PORT], or once for all with `git config {setting} HOST`",
                        self.tray
                    )
                })?,
        };
        let peer = Peer::new(&folder, &self.tray, &address, &name)?;
        let log = match &self.log {
            Some(path) => {
                Some(File::create(path).with_context(|| format!("write {}", path.display()))?)
            }
            None => None,
        };
        // The terminal is put back before the program ends.
        let _guard = interrupt::guard();
        let link = peer.connect()?;
        let raw = match self.no_input {
            true => None,
            false => Raw::enter().context("put the terminal into raw mode")?,
        };
        let mut screen = Screen {
            output,
            log,
            raw: raw.is_some(),
            history: 0,
            offset: 0,
            there: None,
            bytes: 0,
            lost: 0,
            holder: None,
            held: false,
            may_type: false,
        };
        if raw.is_some() {
            screen.remark("console of the tray; after Enter, ~? says what can be typed, ~. ends");
        }
        let ended = self.attend(&peer, link, &mut screen);
        drop(raw);
        ended?;
        output.value(&ConsoleRead {
            tray: self.tray,
            history: format!("{:016x}", screen.history),
            offset: screen.offset,
            bytes: screen.bytes,
            lost: screen.lost,
        });
        Ok(())
    }

    /// Sessions, one after the other, until the user ends it.
    fn attend(&self, peer: &Peer, mut link: Link, screen: &mut Screen) -> anyhow::Result<()> {
        let mut since = self.since;
        let mut typing = Typing {
            escape: Escape::new(),
            open: !self.no_input,
            waiting: Vec::new(),
        };
        loop {
            let why = match self.session(&mut link, since, screen, &mut typing) {
                Ok(Left::Asked) => return Ok(()),
                Ok(Left::Lost) => "the BMC ended the session".to_owned(),
                Err(error) if error.is::<Final>() => return Err(error),
                Err(error) => format!("{error:#}"),
            };
            if screen.welcomed() {
                since = Since::At {
                    history: screen.history,
                    offset: screen.offset,
                };
            }
            screen.remark(&format!("{why}; trying again"));
            let mut pauses = PAUSES.iter().chain(std::iter::repeat(&PAUSES[3]));
            link = loop {
                let until = Instant::now() + *pauses.next().expect("it repeats");
                while Instant::now() < until {
                    if interrupt::asked() || screen.output.is_closed() {
                        return Ok(());
                    }
                    std::thread::sleep(Duration::from_millis(50));
                }
                if let Ok(link) = peer.connect() {
                    break link;
                }
            };
        }
    }

    /// One session, until it breaks or the user ends it.
    fn session(
        &self,
        link: &mut Link,
        since: Since,
        screen: &mut Screen,
        typing: &mut Typing,
    ) -> anyhow::Result<Left> {
        link.say(&Ask::Attach { since })?;
        (screen.holder, screen.there) = (None, None);
        let mut alive = Instant::now();
        let mut heard = Instant::now();
        let mut taken = false;
        loop {
            if interrupt::asked() || screen.output.is_closed() {
                return Ok(Left::Asked);
            }
            let now = Instant::now();
            if now >= alive + Duration::from_secs(ALIVE_EVERY) {
                link.say(&Ask::Alive)?;
                alive = now;
            }
            // What was there when we came is waited for, however slowly it comes.
            if !screen.has_history() {
                heard = now;
            } else if self
                .idle
                .is_some_and(|idle| now >= heard + Duration::from_secs(idle))
            {
                return Ok(Left::Asked);
            }
            // Free, and we would type: it is ours without a word. Taken from nobody, that is.
            if typing.has_more()
                && screen.may_type
                && !taken
                && screen.holder.as_deref() == Some("")
            {
                link.say(&Ask::Take)?;
                taken = true;
            }
            if screen.held {
                for piece in typing.waiting.chunks(MOST_BYTES) {
                    link.say(&Ask::Input(piece))?;
                }
                typing.waiting.clear();
            }
            let (typed, arrived) = wait(link, typing.wants())?;
            if arrived {
                let before = screen.bytes;
                let goes_on = link.hear(|tell| screen.show(tell))?;
                if screen.bytes > before {
                    heard = Instant::now();
                }
                if !goes_on {
                    return Ok(Left::Lost);
                }
            }
            link.flush()?;
            if typed && let Some(left) = typing.read(link, screen)? {
                return Ok(left);
            }
        }
    }
}

/// How a session was left.
enum Left {
    /// The user wants no more.
    Asked,
    /// The BMC, or the way to it, went away.
    Lost,
}

/// What trying again does not mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Final(String);

/// The only certificate that there is.
fn only_name(folder: &Path) -> anyhow::Result<String> {
    let people = folder.join("people");
    let mut names: Vec<String> = std::fs::read_dir(&people)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "pem"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    match names.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!(
            "you have no certificate for this rack's controllers in {}: make one with `racklet key issue`",
            people.display()
        ),
        _ => bail!(
            "say with --as whose certificate to show: {}",
            names.join(", ")
        ),
    }
}

/// Whether something was typed, and whether something arrived; neither after a while.
fn wait(link: &Link, wants_typed: bool) -> anyhow::Result<(bool, bool)> {
    let stdin = io::stdin();
    let mut flags = PollFlags::IN;
    if link.wants_write() {
        flags |= PollFlags::OUT;
    }
    let mut all = vec![PollFd::new(&link.socket, flags)];
    if wants_typed {
        all.push(PollFd::new(&stdin, PollFlags::IN));
    }
    let look = Timespec {
        tv_sec: 0,
        tv_nsec: LOOK.subsec_nanos().into(),
    };
    match poll(&mut all, Some(&look)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok((false, false)),
        Err(error) => return Err(error.into()),
    }
    let ready = |index: usize| all.get(index).is_some_and(|it| !it.revents().is_empty());
    Ok((ready(1), ready(0)))
}

/// What the user types.
struct Typing {
    escape: Escape,
    /// Not at its end.
    open: bool,
    /// For the tray, until the input is ours.
    waiting: Vec<u8>,
}

impl Typing {
    /// Whether there is, or may come, something for the tray.
    fn has_more(&self) -> bool {
        self.open || !self.waiting.is_empty()
    }

    /// Whether more is to be read: what waits for the BMC is not piled up.
    fn wants(&self) -> bool {
        self.open && self.waiting.len() < MOST_BYTES
    }

    fn read(&mut self, link: &mut Link, screen: &mut Screen) -> anyhow::Result<Option<Left>> {
        let mut bytes = [0; 512];
        let count = match rustix::io::read(io::stdin(), &mut bytes) {
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if count == 0 {
            self.open = false;
            return Ok(None);
        }
        // In a pipe everything is for the tray.
        let before = self.waiting.len();
        let asked = match screen.raw {
            true => self.escape.sort(&bytes[..count], &mut self.waiting),
            false => {
                self.waiting.extend_from_slice(&bytes[..count]);
                Vec::new()
            }
        };
        if self.waiting.len() > before && screen.raw && !screen.held {
            // What is typed at a console that somebody else holds is for nobody.
            self.waiting.clear();
            screen.remark(&screen.why_not());
        }
        for asked in asked {
            match asked {
                Asked::End => return Ok(Some(Left::Asked)),
                Asked::Help => screen.remark(escape::HELP),
                Asked::Take => link.say(&Ask::Take)?,
                Asked::Release => link.say(&Ask::Release)?,
                Asked::Break => link.say(&Ask::Break(300))?,
            }
        }
        Ok(None)
    }
}

/// What is shown and kept of a console.
struct Screen {
    output: Output,
    log: Option<File>,
    raw: bool,
    history: u64,
    /// Of the next byte.
    offset: u64,
    /// Where the history ended when this session began; none before the BMC said.
    there: Option<u64>,
    bytes: u64,
    lost: u64,
    /// Who holds the input, empty for nobody; none before the BMC said.
    holder: Option<String>,
    /// We do.
    held: bool,
    may_type: bool,
}

impl Screen {
    /// Whether a BMC ever said where it is in its history.
    fn welcomed(&self) -> bool {
        self.history != 0
    }

    /// Whether all has arrived that the tray had printed when this session began.
    fn has_history(&self) -> bool {
        self.there.is_some_and(|end| self.offset >= end)
    }

    fn why_not(&self) -> String {
        match (&self.holder, self.may_type) {
            (_, false) => "your certificate may look, not type".into(),
            (Some(name), _) if !name.is_empty() => {
                format!("{name} holds the input; Enter and ~t takes it over")
            }
            _ => "nobody holds the input; Enter and ~t takes it".into(),
        }
    }

    /// Our own words, apart from the tray's.
    fn remark(&self, text: &str) {
        let end = if self.raw { "\r\n" } else { "\n" };
        let lines: Vec<String> = text
            .lines()
            .map(|line| format!("[racklet] {line}{end}"))
            .collect();
        let start = if self.raw { "\r\n" } else { "" };
        if !self.output.is_json() {
            // Best effort: it is a remark.
            let _ = io::stderr().write_all((start.to_owned() + &lines.concat()).as_bytes());
        }
    }

    fn show(&mut self, tell: Tell<'_>) -> anyhow::Result<()> {
        match tell {
            Tell::Welcome {
                history,
                begins,
                end,
                may_type,
                ..
            } => {
                if self.welcomed() && self.history != history {
                    self.remark("the BMC lost its memory meanwhile: this is another history");
                } else if self.welcomed() && begins != self.offset {
                    self.remark("the BMC does not have what comes next");
                }
                (self.history, self.offset, self.may_type) = (history, begins, may_type);
                self.there = Some(end);
            }
            Tell::Output { offset, bytes } => {
                self.offset = offset + bytes.len() as u64;
                self.bytes += bytes.len() as u64;
                if let Some(log) = &mut self.log {
                    log.write_all(bytes).context("write the log")?;
                }
                if !self.output.is_json() {
                    let mut out = io::stdout().lock();
                    self.output
                        .written(out.write_all(bytes).and_then(|()| out.flush()));
                }
            }
            Tell::Lost { from, to } => {
                self.lost += to - from.min(to);
                self.offset = to;
                self.remark(&format!(
                    "{} bytes were overwritten before they got here",
                    to - from.min(to)
                ));
            }
            Tell::Event { event, .. } => self.remark(&event.to_string()),
            Tell::Holder { yours, name } => {
                let name: String = name.chars().filter(|it| !it.is_control()).collect();
                let before = self.holder.replace(name.clone());
                if self.held && !yours {
                    self.remark(&match name.is_empty() {
                        true => "you hold the input no longer".to_owned(),
                        false => format!("{name} took the input over"),
                    });
                } else if before.is_some_and(|it| it != name) && !yours && !name.is_empty() {
                    self.remark(&format!("{name} holds the input"));
                }
                self.held = yours;
            }
            Tell::Alive => {}
            Tell::End(reason) => {
                use racklet_wire::console::Reason;
                if matches!(reason, Reason::Role | Reason::Protocol) {
                    return Err(Final(reason.to_string()).into());
                }
                self.remark(&reason.to_string());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_begin_is_a_word_or_a_number_of_bytes() {
        assert_eq!(since("start"), Ok(Since::Oldest));
        assert_eq!(since("now"), Ok(Since::Now));
        assert_eq!(since("64K"), Ok(Since::Last(65536)));
        assert_eq!(since("100"), Ok(Since::Last(100)));
        for wrong in ["", "K", "-1", "18446744073709551615K", "10m"] {
            assert!(since(wrong).is_err(), "{wrong:?}");
        }
    }
}
