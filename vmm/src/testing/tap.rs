// SPDX-License-Identifier: Apache-2.0
//! A tap device in memory.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use racklet_linux::tap::Offloads;

use crate::devices::net::Tap;

/// What has gone through a [`TestTap`], and what is to come out of it.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) incoming: VecDeque<Vec<u8>>,
    pub(crate) sent: Vec<Vec<u8>>,
    pub(crate) offloads: Option<Offloads>,
}

/// A tap whose other side is the test.
#[derive(Clone, Default)]
pub(crate) struct TestTap(pub(crate) Arc<Mutex<Wire>>);

impl Tap for TestTap {
    fn read(&mut self, frame: &mut Vec<u8>) -> io::Result<usize> {
        let next = self
            .0
            .lock()
            .unwrap()
            .incoming
            .pop_front()
            .ok_or(io::ErrorKind::WouldBlock)?;
        frame.extend_from_slice(&next);
        Ok(next.len())
    }
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().sent.push(frame.to_vec());
        Ok(frame.len())
    }
    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        self.0.lock().unwrap().offloads = Some(offloads);
        Ok(())
    }
}
