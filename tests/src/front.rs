// SPDX-License-Identifier: Apache-2.0
//! The TCP port that trays connect to: passes bytes to one of several servers behind it, and misbehaves on demand.
//!
//! It sees ciphertext only. Being in our process, it can change its ways between two connections, and it counts.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

/// How the server behaves from the next connection on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// As it should.
    Good,
    /// Closes every connection at once.
    Down,
    /// Takes connections and never says anything.
    Silent,
    /// One byte a second.
    SlowBytes,
    /// 200 bytes a second: slow, and more than what counts as nothing at all.
    Crawl,
    /// Cuts every connection after this many bytes to the client.
    Cut(u64),
    /// A captive portal: answers 200 and a page to everything, under a valid certificate.
    CaptivePortal,
    /// The right name, valid only in the year 2020.
    ExpiredCertificate,
    /// The right name, valid from a month from now.
    YoungCertificate,
    /// A valid certificate for some other name.
    WrongName,
}

impl Mode {
    /// The server behind that plays this part.
    fn backend(self) -> Mode {
        match self {
            Self::CaptivePortal
            | Self::ExpiredCertificate
            | Self::YoungCertificate
            | Self::WrongName => self,
            _ => Self::Good,
        }
    }
}

#[derive(Debug)]
struct Shared {
    mode: Mutex<Mode>,
    backends: BTreeMap<Mode, PathBuf>,
    sent: AtomicU64,
    connections: AtomicU64,
    over: AtomicBool,
}

/// The listeners, one for each family; they end with the value.
#[derive(Debug)]
pub struct Front {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Front {
    /// Listens on a free loopback port, with a Unix socket per kind of server behind it.
    ///
    /// # Errors
    /// When no port can be had.
    pub fn start(backends: BTreeMap<Mode, PathBuf>) -> Result<Self> {
        let listeners = listen()?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<io::Result<_>>()?;
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Good),
            backends,
            sent: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            over: AtomicBool::new(false),
        });
        for listener in listeners {
            let ours = Arc::clone(&shared);
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    if ours.over.load(Ordering::Relaxed) {
                        break;
                    }
                    ours.connections.fetch_add(1, Ordering::Relaxed);
                    let shared = Arc::clone(&ours);
                    // A connection that breaks is what several of the modes are for.
                    thread::spawn(move || serve(&shared, client));
                }
            });
        }
        Ok(Self { shared, addresses })
    }

    /// The port on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addresses[0].port()
    }

    /// Behaves like this from the next connection on.
    pub fn set_mode(&self, mode: Mode) {
        *self
            .shared
            .mode
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = mode;
    }

    /// Bytes sent to clients so far.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Connections taken so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the listeners, which then see that it is over.
        for address in &self.addresses {
            let _ = TcpStream::connect(address);
        }
    }
}

/// One port of both loopback addresses, or of the first alone on a machine without IPv6. A port that is free on the first may be
/// taken on the second, so a few are tried.
fn listen() -> Result<Vec<TcpListener>> {
    let mut tries = 0;
    loop {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on 127.0.0.1")?;
        tries += 1;
        match TcpListener::bind((Ipv6Addr::LOCALHOST, v4.local_addr()?.port())) {
            Ok(v6) => return Ok(vec![v4, v6]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < 20 => {}
            Err(_) => return Ok(vec![v4]),
        }
    }
}

fn serve(shared: &Shared, client: TcpStream) -> io::Result<()> {
    let mode = *shared.mode.lock().unwrap_or_else(PoisonError::into_inner);
    match mode {
        Mode::Down => return client.shutdown(Shutdown::Both),
        Mode::Silent => {
            // Until the client gives up.
            io::copy(&mut &client, &mut io::sink())?;
            return Ok(());
        }
        _ => {}
    }
    let Some(path) = shared.backends.get(&mode.backend()) else {
        return client.shutdown(Shutdown::Both);
    };
    let server = UnixStream::connect(path)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let upstream = thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let result = pass(shared, mode, &server, &client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    let _ = upstream.join();
    result
}

fn pass(
    shared: &Shared,
    mode: Mode,
    mut server: &UnixStream,
    mut client: &TcpStream,
) -> io::Result<()> {
    let mut buffer = vec![
        0;
        match mode {
            Mode::SlowBytes => 1,
            Mode::Crawl => 200,
            _ => 64 << 10,
        }
    ];
    let mut passed = 0;
    loop {
        let count = server.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        let mut part = &buffer[..count];
        if let Mode::Cut(after) = mode {
            let left = usize::try_from(after - passed).unwrap_or(usize::MAX);
            part = &part[..count.min(left)];
        }
        client.write_all(part)?;
        passed += part.len() as u64;
        shared.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
        if mode == Mode::Cut(passed) {
            return Ok(());
        }
        if matches!(mode, Mode::SlowBytes | Mode::Crawl) {
            thread::sleep(Duration::from_secs(1));
        }
    }
}
