// SPDX-License-Identifier: Apache-2.0
//! The two doors: a Unix socket and, when the tray has an identity, HTTPS. A thread per connection that speaks, few connections,
//! and an end to each of them: a slow or silent client holds one place for a bounded time and nothing else.

use super::gate::{Gate, Visitor};
use super::request::{self, Response};
use super::routes::{admit, answer};
use super::tls;
use crate::console::{Once, say};
use crate::options::Options;
use crate::shared::Shared;
use racklet_api::hypervisor::access::{CHANNEL_LABEL, Channel};
use racklet_line::Limited;
use racklet_tell::error::chain;
use racklet_trust::PublicKey;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::cell::RefCell;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Connections over the Unix socket at a time; those over the network are counted at their gate.
const MAX_CONNECTIONS: usize = 16;
/// A local client has this long to say what it wants.
const ASKING: Duration = Duration::from_secs(10);
/// And everybody this long to take the answer.
const TAKING: Duration = Duration::from_secs(20);
/// A stranger has this long to take the refusal.
const TAKING_REFUSAL: Duration = Duration::from_secs(1);
const STACK: usize = 256 * 1024;

/// Opens both doors and serves from threads.
pub(crate) fn serve(
    shared: &Arc<Shared>,
    options: &Options,
    identity: Option<&str>,
) -> io::Result<()> {
    let path = options.socket("hypervisor");
    crate::files::remove(&path)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    let local = Arc::new(Server {
        shared: Arc::clone(shared),
        options: options.clone(),
        open: AtomicUsize::new(0),
    });
    thread::Builder::new()
        .name("api-local".into())
        .stack_size(STACK)
        .spawn(move || {
            accept(&listener, &local);
        })?;
    let (Some(address), Some(identity)) = (options.listen, identity) else {
        say(
            "the API is only on its Unix socket: this tray has no identity key or no address to listen at",
        );
        return Ok(());
    };
    let (config, identity) = match tls::server_config(identity, &shared.tray) {
        Ok(made) => made,
        Err(error) => {
            // Workloads do not depend on it: the tray goes on.
            say(&format!("no API over the network: {}", chain(&error)));
            return Ok(());
        }
    };
    let network = Arc::new(Network {
        shared: Arc::clone(shared),
        options: options.clone(),
        config,
        identity,
    });
    thread::Builder::new()
        .name("api-network".into())
        .stack_size(STACK)
        .spawn(move || {
            let gate = Arc::new(Gate::default());
            gate.run(&listen(address), move |visitor| network.serve(visitor));
        })?;
    Ok(())
}

/// Tries until it works: an address may come later than this program.
fn listen(address: SocketAddr) -> TcpListener {
    let trouble = Once::default();
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => {
                let bound = listener.local_addr().unwrap_or(address);
                say(&format!("the API listens at {bound}"));
                return listener;
            }
            Err(error) => trouble.say(&format!(
                "the API cannot listen at {address}: {error}; trying again"
            )),
        }
        thread::sleep(Duration::from_secs(5));
    }
}

/// The Unix socket's door.
struct Server {
    shared: Arc<Shared>,
    options: Options,
    open: AtomicUsize,
}

/// Gives its place back however the connection ends.
struct Seat(Arc<Server>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

fn accept(listener: &UnixListener, server: &Arc<Server>) {
    let trouble = Once::default();
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, as a rule: others will be closed.
                trouble.say(&format!(
                    "the API cannot accept connections: {error}; trying again"
                ));
                thread::sleep(Duration::from_millis(200));
                continue;
            }
        };
        trouble.clear();
        let seat = Seat(Arc::clone(server));
        if server.open.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
            continue;
        }
        let spawned = thread::Builder::new()
            .name("api".into())
            .stack_size(STACK)
            .spawn(move || seat.0.serve(stream));
        if let Err(error) = spawned {
            trouble.say(&format!("the API cannot start a thread: {error}"));
        }
    }
}

impl Server {
    fn serve(&self, stream: UnixStream) {
        let stream = RefCell::new(Limited::new(stream, ASKING));
        // The client may be gone; then nobody misses the answer.
        let _ = request::serve(&stream, |stream, request| {
            let response = answer(&self.shared, &self.options, request);
            stream.extend(TAKING);
            response
        });
    }
}

/// The network's door.
struct Network {
    shared: Arc<Shared>,
    options: Options,
    config: Arc<ServerConfig>,
    identity: PublicKey,
}

type Secure = StreamOwned<ServerConnection, Limited<Visitor>>;

impl Network {
    fn serve(&self, visitor: Visitor) {
        let Ok(connection) = ServerConnection::new(Arc::clone(&self.config)) else {
            return;
        };
        let end = visitor.end;
        let stream: Secure = StreamOwned::new(connection, Limited::until(visitor, end));
        let stream = RefCell::new(stream);
        // Kept until the answer is written.
        let mut seat = None;
        let _ = request::serve(&stream, |stream, request| {
            let channel = match channel(stream) {
                Ok(channel) => channel,
                Err(error) => return Response::fault(400, error.to_string()),
            };
            stream.sock.extend(TAKING_REFUSAL);
            if let Err(refusal) = admit(&self.shared, &self.identity, &channel, request) {
                return refusal;
            }
            seat = stream.sock.socket().prove();
            if seat.is_none() {
                return Response::fault(503, "too many others are being answered: ask again");
            }
            let response = answer(&self.shared, &self.options, request);
            stream.sock.extend(TAKING);
            response
        });
        let mut stream = stream.into_inner();
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

/// What only the two ends of this connection know.
fn channel(stream: &Secure) -> Result<Channel, rustls::Error> {
    stream
        .conn
        .export_keying_material(Channel::default(), CHANNEL_LABEL, None)
}
