// SPDX-License-Identifier: Apache-2.0
//! The control socket: one JSON object per line in, one out, and console output for who attached to it. Only its owner can connect
//! (mode 0600).
//!
//! A reader of the console holds at most one piece here that its socket does not take yet. Output goes on meanwhile, and what is no
//! longer kept when the reader comes to it is counted in its next piece: a slow reader costs itself output, and the guest nothing.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use racklet_api::vmm::balloon::BalloonState;
use racklet_api::vmm::metrics::VmMetrics;
use racklet_api::vmm::rate::RateOrder;
use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest, VmState, VmStatus};
use racklet_line::{Caller, Gone, Unreadable};

pub(crate) use history::History;

use crate::poll::{Poll, Token};

mod history;

const MOST_CLIENTS: usize = 8;
const MAX_REQUEST: usize = 4096;
const NO_BUTTON: &str = "guest-init has not called, and nothing else in a guest hears a power button here: `kill` ends it";

/// What there is to answer with.
pub(crate) struct Answers<'a> {
    pub(crate) status: &'a VmStatus,
    pub(crate) history: &'a History,
    /// Somebody in the guest takes orders.
    pub(crate) listens: bool,
    pub(crate) metrics: &'a dyn Fn() -> VmMetrics,
    /// Tells a device how fast it may be.
    pub(crate) rate: &'a dyn Fn(&RateOrder) -> Result<(), String>,
    /// Has the guest do without so much from now on, where it is said; gives how it stands, or why that cannot be.
    pub(crate) balloon: &'a dyn Fn(Option<u32>) -> Result<BalloonState, String>,
    /// Takes input for the console; gives how many bytes it took.
    pub(crate) enter: &'a dyn Fn(&[u8]) -> usize,
}

/// The server: at most [`MOST_CLIENTS`] connections, whose requests are at most [`MAX_REQUEST`] bytes.
pub(crate) struct Control {
    listener: UnixListener,
    poll: Poll,
    clients: BTreeMap<u32, Client>,
    next: u32,
}

/// What a client's turn asks for.
#[derive(Default)]
pub(crate) struct Served {
    pub(crate) actions: Vec<ControlAction>,
    pub(crate) files: Vec<OwnedFd>,
}

struct Client {
    caller: Caller,
    /// Offset in the console's output from which on it is to get what there is.
    follows: Option<u64>,
    /// Requests to pause that are not answered yet.
    awaits: u32,
    /// The poll says when the socket can be written, too.
    watched: bool,
}

impl Control {
    pub(crate) fn new(listener: UnixListener, poll: Poll) -> io::Result<Control> {
        listener.set_nonblocking(true)?;
        poll.readable(&listener, Token::Control)?;
        Ok(Control {
            listener,
            poll,
            clients: BTreeMap::new(),
            next: 0,
        })
    }

    /// Takes a connection; one too many is closed at once.
    pub(crate) fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else {
            return;
        };
        if self.clients.len() >= MOST_CLIENTS {
            return;
        }
        let Ok(caller) = Caller::with_files(stream, MAX_REQUEST) else {
            return;
        };
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.poll.readable(&caller, Token::Client(number)).is_ok() {
            let client = Client {
                caller,
                follows: None,
                awaits: 0,
                watched: false,
            };
            self.clients.insert(number, client);
        }
    }

    /// Goes on with a client whose socket can be read or written: answers its requests and gives those that ask for something to be
    /// done, with the files that came along.
    pub(crate) fn serve(&mut self, number: u32, answers: &Answers<'_>) -> Served {
        let Some(client) = self.clients.get_mut(&number) else {
            return Served::default();
        };
        let mut actions = Vec::new();
        let served = client.turn(answers, &mut actions);
        let files = client.caller.take_files();
        let served = served.and_then(|()| client.feed(answers.history));
        self.settle(number, served);
        Served { actions, files }
    }

    /// Answers a request that was not answered at once, if who asked is still there; says whether that is so.
    pub(crate) fn answer(&mut self, number: u32, reply: &ControlReply) -> bool {
        if let Some(client) = self.clients.get_mut(&number) {
            let done = client.caller.push(reply);
            self.settle(number, done);
        }
        self.clients.contains_key(&number)
    }

    /// There is more output, or room for it.
    pub(crate) fn feed(&mut self, history: &History) {
        self.each(|client| client.feed(history));
    }

    /// The guest stands still, or is not to any more: answers those who waited for it.
    pub(crate) fn still(&mut self, status: &VmStatus) {
        let reply = ControlReply::Status(status.clone());
        self.each(|client| {
            (0..std::mem::take(&mut client.awaits)).try_for_each(|_| client.caller.push(&reply))
        });
    }

    fn each(&mut self, mut act: impl FnMut(&mut Client) -> Result<(), Gone>) {
        let numbers: Vec<u32> = self.clients.keys().copied().collect();
        for number in numbers {
            if let Some(client) = self.clients.get_mut(&number) {
                let done = act(client);
                self.settle(number, done);
            }
        }
    }

    /// Drops a client that is gone, and asks to be told when the socket of one who reads slowly has room.
    fn settle(&mut self, number: u32, done: Result<(), Gone>) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let wanted = client.caller.has_unsent();
        let gone = done.is_err()
            || (wanted != client.watched
                && self
                    .poll
                    .writable_too(&client.caller, Token::Client(number), wanted)
                    .is_err());
        client.watched = wanted;
        if gone {
            self.clients.remove(&number);
        }
    }
}

/// Why guest-init would not hear an order now, if it would not.
fn deaf(status: &VmStatus) -> Option<String> {
    match status.state {
        VmState::Up if status.paused => Some("the guest stands still: let it go on first".to_owned()),
        VmState::Up => None,
        _ => Some("guest-init is not there to start anything: it has not called yet, or this guest has another PID 1".to_owned()),
    }
}

impl Client {
    fn turn(
        &mut self,
        answers: &Answers<'_>,
        actions: &mut Vec<ControlAction>,
    ) -> Result<(), Gone> {
        self.caller.flush()?;
        let (follows, awaits) = (&mut self.follows, &mut self.awaits);
        self.caller
            .listen(|request: Result<ControlRequest, Unreadable>| {
                let request = match request {
                    Ok(request) => request,
                    Err(error) => {
                        return Some(ControlReply::Error {
                            reason: error.to_string(),
                        });
                    }
                };
                let reply = match &request.action {
                    ControlAction::Metrics => ControlReply::Metrics((answers.metrics)()),
                    ControlAction::Rate(order) => match (answers.rate)(order) {
                        Ok(()) => ControlReply::Status(answers.status.clone()),
                        Err(reason) => ControlReply::Error { reason },
                    },
                    ControlAction::Console { from } => {
                        let piece = answers.history.piece(from.unwrap_or(answers.history.end()));
                        *follows = Some(piece.next);
                        ControlReply::Console(piece)
                    }
                    ControlAction::Input { data } => ControlReply::Input {
                        taken: (answers.enter)(&data.0),
                    },
                    ControlAction::Exec(_) if let Some(reason) = deaf(answers.status) => {
                        return Some(ControlReply::Error { reason });
                    }
                    ControlAction::Balloon { mib } => match (answers.balloon)(*mib) {
                        Ok(state) => ControlReply::Balloon(state),
                        Err(reason) => return Some(ControlReply::Error { reason }),
                    },
                    ControlAction::Pause if !answers.status.paused => {
                        *awaits += 1;
                        actions.push(request.action);
                        return None;
                    }
                    // Answered when it is done: [`Control::answer`].
                    ControlAction::Snapshot { .. }
                    | ControlAction::Resize { .. }
                    | ControlAction::Attach(_)
                    | ControlAction::Detach { .. } => {
                        actions.push(request.action);
                        return None;
                    }
                    ControlAction::Resume => ControlReply::Status(VmStatus {
                        paused: false,
                        ..answers.status.clone()
                    }),
                    ControlAction::PowerOff if !answers.listens => {
                        return Some(ControlReply::Error {
                            reason: NO_BUTTON.to_owned(),
                        });
                    }
                    ControlAction::State
                    | ControlAction::PowerOff
                    | ControlAction::Stop { .. }
                    | ControlAction::Kill
                    | ControlAction::Exec(_)
                    | ControlAction::Pause => ControlReply::Status(answers.status.clone()),
                };
                actions.push(request.action);
                Some(reply)
            })
    }

    /// Gives a reader what there is, until its socket is full.
    fn feed(&mut self, history: &History) -> Result<(), Gone> {
        while let Some(at) = self.follows
            && at < history.end()
            && !self.caller.has_unsent()
        {
            let piece = history.piece(at);
            self.follows = Some(piece.next);
            self.caller.push(&ControlReply::Console(piece))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
