// SPDX-License-Identifier: Apache-2.0
//! What stands behind a guest's vsock ports, in memory.

use std::io;
use std::sync::{Arc, Mutex};

use crate::devices::vsock::{Dialer, Stream};

/// What a guest has sent to a [`TestHost`], and what it is to get.
#[derive(Default)]
pub(crate) struct Host {
    pub(crate) received: Vec<u8>,
    pub(crate) to_guest: Vec<u8>,
    pub(crate) room: usize,
    pub(crate) ended: bool,
    pub(crate) closed: bool,
    pub(crate) dialled: Vec<u32>,
}

/// Answers every port but 99; all connections are one.
#[derive(Clone, Default)]
pub(crate) struct TestHost(pub(crate) Arc<Mutex<Host>>);

impl Dialer for TestHost {
    fn dial(&mut self, port: u32, _token: u32) -> io::Result<Box<dyn Stream>> {
        self.0.lock().unwrap().dialled.push(port);
        if port == 99 {
            Err(io::ErrorKind::ConnectionRefused.into())
        } else {
            Ok(Box::new(self.clone()))
        }
    }
}

impl Stream for TestHost {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut host = self.0.lock().unwrap();
        let count = host.to_guest.len().min(to.len());
        if count == 0 {
            return if host.closed {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        to[..count].copy_from_slice(&host.to_guest[..count]);
        host.to_guest.drain(..count);
        Ok(count)
    }
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut host = self.0.lock().unwrap();
        let count = host.room.min(from.len());
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        host.room -= count;
        host.received.extend(&from[..count]);
        Ok(count)
    }
    fn end(&mut self) {
        self.0.lock().unwrap().ended = true;
    }

    fn tells(&self) -> bool {
        false
    }
}
