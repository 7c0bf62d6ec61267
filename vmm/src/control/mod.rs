// SPDX-License-Identifier: Apache-2.0
//! The control socket: one JSON object per line in, one out. Only root can connect (mode 0600, owner root).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use racklet_api::vmm::{ControlAction, ControlReply, ControlRequest, VmStatus};

use crate::poll::{Poll, Token};

const MOST_CLIENTS: usize = 8;
const MAX_REQUEST: usize = 4096;

/// The server: at most [`MOST_CLIENTS`] connections, whose requests are at most [`MAX_REQUEST`] bytes.
pub(crate) struct Control {
    listener: UnixListener,
    poll: Poll,
    clients: BTreeMap<u32, Client>,
    next: u32,
}

struct Client {
    stream: UnixStream,
    line: Vec<u8>,
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
        if self.clients.len() >= MOST_CLIENTS || stream.set_nonblocking(true).is_err() {
            return;
        }
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        if self.poll.readable(&stream, Token::Client(number)).is_ok() {
            self.clients.insert(
                number,
                Client {
                    stream,
                    line: Vec::new(),
                },
            );
        }
    }

    /// Reads from a client, answers with `status`, and gives the actions it asked for.
    pub(crate) fn serve(&mut self, number: u32, status: &VmStatus) -> Vec<ControlAction> {
        let Some(client) = self.clients.get_mut(&number) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        if !client.serve(status, &mut actions) {
            self.clients.remove(&number);
        }
        actions
    }
}

impl Client {
    /// False when the connection is to be closed.
    fn serve(&mut self, status: &VmStatus, actions: &mut Vec<ControlAction>) -> bool {
        let mut bytes = [0; 1024];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(e) => {
                return matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
            }
        };
        for byte in &bytes[..count] {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > MAX_REQUEST {
                    return false;
                }
                continue;
            }
            let reply = match serde_json::from_slice::<ControlRequest>(&self.line) {
                Ok(request) => {
                    actions.push(request.action);
                    ControlReply::Status(status.clone())
                }
                Err(e) => ControlReply::Error {
                    reason: e.to_string(),
                },
            };
            self.line.clear();
            let mut line = serde_json::to_vec(&reply).unwrap_or_default();
            line.push(b'\n');
            // A client that does not read its answers is closed, never waited for.
            if self.stream.write_all(&line).is_err() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
