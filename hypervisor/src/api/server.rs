// SPDX-License-Identifier: Apache-2.0
//! The two doors: a Unix socket and, when the tray has an identity, HTTPS. A thread per connection, few connections, and
//! an end to each of them: a slow or silent client holds one place for a bounded time and nothing else.

use super::request::{self, RequestError, Response};
use super::routes::{Door, answer};
use super::tls;
use crate::console::{Once, say};
use crate::limited::Limited;
use crate::options::Options;
use crate::shared::Shared;
use racklet_api::error::chain;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Connections over the network at a time; the Unix socket has as many of its own.
const MAX_CONNECTIONS: usize = 16;
/// A client has this long to say what it wants, its TLS handshake included.
const ASKING: Duration = Duration::from_secs(10);
/// And this long to take the answer.
const TAKING: Duration = Duration::from_secs(20);
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
            accept(
                || listener.accept().map(|(stream, _)| stream),
                &local,
                serve_local,
            );
        })?;
    let (Some(address), Some(identity)) = (options.listen, identity) else {
        say(
            "the API is only on its Unix socket: this tray has no identity key or no address to listen at",
        );
        return Ok(());
    };
    let config = match tls::server_config(identity, &shared.tray) {
        Ok(config) => config,
        Err(error) => {
            // Workloads do not depend on it: the tray goes on.
            say(&format!("no API over the network: {}", chain(&error)));
            return Ok(());
        }
    };
    let network = Arc::new(Server {
        shared: Arc::clone(shared),
        options: options.clone(),
        open: AtomicUsize::new(0),
    });
    thread::Builder::new()
        .name("api-network".into())
        .stack_size(STACK)
        .spawn(move || {
            let listener = listen(address);
            let serve = move |server: &Server, stream| serve_network(server, stream, &config);
            accept(
                || listener.accept().map(|(stream, _)| stream),
                &network,
                serve,
            );
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

fn accept<S, F>(next: impl Fn() -> io::Result<S>, server: &Arc<Server>, serve: F)
where
    S: Send + 'static,
    F: Fn(&Server, S) + Clone + Send + 'static,
{
    let trouble = Once::default();
    loop {
        let stream = match next() {
            Ok(stream) => stream,
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
        let serve = serve.clone();
        let spawned = thread::Builder::new()
            .name("api".into())
            .stack_size(STACK)
            .spawn(move || serve(&seat.0, stream));
        if let Err(error) = spawned {
            trouble.say(&format!("the API cannot start a thread: {error}"));
        }
    }
}

fn serve_local(server: &Server, stream: UnixStream) {
    let mut stream = Limited::new(stream, ASKING);
    converse(server, Door::Local, &mut stream, |s| s.extend(TAKING));
}

fn serve_network(server: &Server, stream: TcpStream, config: &Arc<ServerConfig>) {
    let Ok(connection) = ServerConnection::new(Arc::clone(config)) else {
        return;
    };
    let mut stream = StreamOwned::new(connection, Limited::new(stream, ASKING));
    converse(server, Door::Network, &mut stream, |s| {
        s.sock.extend(TAKING)
    });
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

fn converse<S: Read + Write>(server: &Server, door: Door, stream: &mut S, extend: impl Fn(&mut S)) {
    let response = match request::read(stream) {
        Ok(request) => answer(&server.shared, &server.options, door, &request),
        Err(RequestError::Io(_)) => return,
        Err(error @ RequestError::Malformed) => Response::fault(400, error.to_string()),
        Err(error @ RequestError::TooLarge) => Response::fault(413, error.to_string()),
    };
    extend(stream);
    // The client may be gone; then nobody misses the answer.
    let _ = response.write(stream);
}
