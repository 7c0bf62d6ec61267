// SPDX-License-Identifier: Apache-2.0
//! A small SNTP server (RFC 4330) that tells whatever time it is told to tell.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

/// Seconds between 1900, where NTP counts from, and 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// The server; ends with the value.
#[derive(Debug)]
pub struct TimeServer {
    address: SocketAddr,
    offset: Arc<AtomicI64>,
    over: Arc<AtomicBool>,
}

impl TimeServer {
    /// Answers on a free loopback port with the time of this machine.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("SNTP server")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let address = socket.local_addr()?;
        let offset = Arc::new(AtomicI64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (our_offset, our_over) = (Arc::clone(&offset), Arc::clone(&over));
        thread::spawn(move || {
            let mut request = [0; 512];
            while !our_over.load(Ordering::Relaxed) {
                let Ok((size, from)) = socket.recv_from(&mut request) else {
                    continue;
                };
                if size >= 48 {
                    let reply = answer(&request, now(our_offset.load(Ordering::Relaxed)));
                    // A client that went away asks again.
                    let _ = socket.send_to(&reply, from);
                }
            }
        });
        Ok(Self {
            address,
            offset,
            over,
        })
    }

    /// The port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Lies by this many seconds from now on.
    pub fn set_offset(&self, seconds: i64) {
        self.offset.store(seconds, Ordering::Relaxed);
    }
}

impl Drop for TimeServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// 32.32 fixed point since 1900.
fn now(offset: i64) -> [u8; 8] {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let seconds = (since.as_secs() + NTP_TO_UNIX).wrapping_add_signed(offset);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    // The era wraps in 2036, as in the protocol.
    (seconds << 32 | fraction).to_be_bytes()
}

fn answer(request: &[u8], now: [u8; 8]) -> [u8; 48] {
    let mut reply = [0; 48];
    // No leap warning, the client's version, mode 4 (server).
    reply[0] = request[0] & 0b0011_1000 | 4;
    // Stratum 1, poll, precision, reference "LOCL".
    reply[1..4].copy_from_slice(&[1, 6, 0xec]);
    reply[12..16].copy_from_slice(b"LOCL");
    reply[16..24].copy_from_slice(&now);
    reply[24..32].copy_from_slice(&request[40..48]);
    reply[32..40].copy_from_slice(&now);
    reply[40..48].copy_from_slice(&now);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_own_stamp_back_and_the_time() {
        let server = TimeServer::start().unwrap();
        server.set_offset(-3600);
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let mut request = [0; 48];
        request[0] = 0b0010_0011;
        request[40..48].copy_from_slice(b"cookie!!");
        client
            .send_to(&request, (Ipv4Addr::LOCALHOST, server.port()))
            .unwrap();
        let mut reply = [0; 64];
        assert_eq!(client.recv(&mut reply).unwrap(), 48);
        assert_eq!((reply[0], &reply[24..32]), (0b0010_0100, &b"cookie!!"[..]));
        let told = u64::from(u32::from_be_bytes(reply[40..44].try_into().unwrap()));
        let real = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + NTP_TO_UNIX;
        assert!((3600..3700).contains(&(real - told)));
    }
}
