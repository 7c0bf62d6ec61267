// SPDX-License-Identifier: Apache-2.0
//! The control socket: one JSON object per line in, one out. Only root can connect (mode 0600, owner root).

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixListener;

use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest, VmStatus};
use racklet_line::{Caller, Unreadable};

use crate::poll::{Poll, Token};

const MOST_CLIENTS: usize = 8;
const MAX_REQUEST: usize = 4096;

/// The server: at most [`MOST_CLIENTS`] connections, whose requests are at most [`MAX_REQUEST`] bytes.
pub(crate) struct Control {
    listener: UnixListener,
    poll: Poll,
    clients: BTreeMap<u32, Caller>,
    next: u32,
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
        let Ok(client) = Caller::new(stream, MAX_REQUEST) else {
            return;
        };
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.poll.readable(&client, Token::Client(number)).is_ok() {
            self.clients.insert(number, client);
        }
    }

    /// Reads from a client, answers with `status`, and gives the actions it asked for.
    pub(crate) fn serve(&mut self, number: u32, status: &VmStatus) -> Vec<ControlAction> {
        let Some(client) = self.clients.get_mut(&number) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        let turn = client.turn(
            |request: Result<ControlRequest, Unreadable>| match request {
                Ok(request) => {
                    actions.push(request.action);
                    ControlReply::Status(status.clone())
                }
                Err(error) => ControlReply::Error {
                    reason: error.to_string(),
                },
            },
        );
        if turn.is_err() {
            self.clients.remove(&number);
        }
        actions
    }
}

#[cfg(test)]
mod tests;
