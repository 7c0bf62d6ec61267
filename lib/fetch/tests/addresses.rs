// SPDX-License-Identifier: Apache-2.0
//! Hosts of which not every address works, and connections that were good once.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use racklet_fetch::{
    http::{HttpError, Resolve},
    limits::{Limits, Timeouts},
    pulse::Pulse,
    remote::{Remote, RemoteConfig, RemoteError},
};
use support::{server::Server, world::World};

/// The addresses that a name leads to, in this order.
#[derive(Debug)]
struct Leads(Vec<SocketAddr>);

impl Resolve for Leads {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(self.0.clone())
    }
}

/// Something that takes connections and is no server of ours. What becomes of each is `then`'s business.
struct Bad {
    address: SocketAddr,
    came: Arc<AtomicUsize>,
}

impl Bad {
    fn new(then: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let came: Arc<AtomicUsize> = Arc::default();
        let counted = came.clone();
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                then(tcp);
            }
        });
        Self { address, came }
    }

    /// Takes the connection, and nothing more is heard: large packets are lost on the way.
    fn hole() -> Self {
        let kept = Mutex::new(Vec::new());
        Self::new(move |tcp| kept.lock().unwrap().push(tcp))
    }

    fn plain() -> Self {
        Self::new(|mut tcp| {
            let _ = tcp.read(&mut [0; 16]);
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        })
    }

    fn cuts() -> Self {
        Self::new(drop)
    }
}

/// An address that answers nothing at all: its queue is full, so the kernel drops who knocks.
fn drops_everybody() -> (SocketAddr, Vec<OwnedFd>) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with};
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let new = |flags| socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    let listener = new(SocketFlags::CLOEXEC);
    bind(&listener, &any).unwrap();
    listen(&listener, 0).unwrap();
    let address = rustix::net::getsockname(&listener).unwrap();
    let address = SocketAddr::try_from(address).unwrap();
    let mut kept = vec![listener];
    for _ in 0..3 {
        let knocks = new(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        let _ = connect(&knocks, &address);
        kept.push(knocks);
    }
    (address, kept)
}

fn config(world: &World, addresses: Vec<SocketAddr>) -> RemoteConfig {
    let mut config = world.server.config("rack");
    config.url = "https://localhost/rack".parse().unwrap();
    config.resolver = Arc::new(Leads(addresses));
    config.timeouts.handshake = Duration::from_secs(1);
    config
}

fn good(world: &World) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, world.server.port).into()
}

fn look(config: &RemoteConfig) -> Result<Option<String>, RemoteError> {
    let found = Remote::new(config)
        .unwrap()
        .find("refs/heads/main", &Limits::RACK)?;
    Ok(found.map(|id| id.to_string()))
}

#[test]
fn an_address_that_takes_tcp_and_is_of_no_use_gives_way_to_the_next_one() {
    let world = World::rack("sha1");
    let other = World::rack("sha1");
    for (what, bad) in [
        ("hole", Bad::hole().address),
        ("cuts", Bad::cuts().address),
        ("plain", Bad::plain().address),
        ("another certificate", good(&other)),
    ] {
        let config = config(&world, vec![bad, good(&world)]);
        let head = Some(world.repository.head());
        let found = look(&config).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(found, head, "{what}");
    }
}

#[test]
fn the_address_that_worked_is_asked_first_from_then_on() {
    let world = World::rack("sha1");
    let hole = Bad::hole();
    let config = config(&world, vec![hole.address, good(&world)]);
    for _ in 0..3 {
        look(&config.clone()).unwrap();
    }
    assert_eq!(hole.came.load(Ordering::SeqCst), 1);
}

#[test]
fn an_address_that_says_nothing_is_not_waited_for_while_another_one_answers() {
    let world = World::rack("sha1");
    let (silent, _kept) = drops_everybody();
    let mut config = config(&world, vec![silent, good(&world)]);
    // One after the other, this would take the kernel's two minutes, which ends as a failure.
    config.timeouts.connect = Duration::from_secs(3600);
    config.timeouts.questions = Duration::from_secs(60);
    assert_eq!(look(&config).unwrap(), Some(world.repository.head()));
}

#[test]
fn when_no_address_works_the_error_names_each_with_its_reason() {
    let world = World::rack("sha1");
    let (hole, cuts) = (Bad::hole().address, Bad::cuts().address);
    // Nobody listens there.
    let refuses = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let error = look(&config(&world, vec![hole, cuts, refuses])).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, RemoteError::Http(HttpError::Addresses { .. })),
        "{text}"
    );
    for part in [
        format!("{hole}: the TLS handshake was not done in 1 seconds"),
        format!("{cuts}: the connection was cut"),
        format!("{refuses}: no connection: Connection refused"),
        "none of the 3 addresses of localhost works".into(),
    ] {
        assert!(text.contains(&part), "{part} is not in: {text}");
    }
}

/// A POST that asks for refs.
fn is_listing(request: &support::server::Request) -> bool {
    String::from_utf8_lossy(&request.body).contains("command=ls-refs")
}

/// Answers the first listing on the first connection that carries one with `answer`, and nothing where that is `None`.
fn once(server: &Server, answer: Option<&'static [u8]>) {
    let listings = AtomicUsize::new(0);
    server.script(move |request, honest, send| {
        if is_listing(request) && listings.fetch_add(1, Ordering::SeqCst) == 0 {
            if let Some(answer) = answer {
                send(answer);
            }
            return;
        }
        send(&honest);
    });
}

#[test]
fn a_kept_connection_that_died_in_silence_is_replaced() {
    let world = World::rack("sha1");
    once(&world.server, None);
    let mut config = world.server.config("rack");
    config.timeouts.reused = Duration::from_millis(500);
    let mut remote = Remote::new(&config).unwrap();
    remote.format().unwrap();
    let found = remote.find("refs/heads/main", &Limits::RACK).unwrap();
    assert_eq!(found.unwrap().to_string(), world.repository.head());
    assert_eq!(world.server.connections.load(Ordering::SeqCst), 2);
}

#[test]
fn an_answer_that_is_for_the_idle_connection_is_not_taken_for_ours() {
    const LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    let world = World::rack("sha1");
    once(&world.server, Some(LATE));
    let mut remote = world.server.remote("rack");
    remote.format().unwrap();
    let found = remote.find("refs/heads/main", &Limits::RACK).unwrap();
    assert_eq!(found.unwrap().to_string(), world.repository.head());
    // On a new connection it is an answer like any other, and asked is not for ever.
    world.server.script(|_, _, send| {
        send(LATE);
    });
    let error = world.server.remote("rack").format().unwrap_err();
    assert!(error.to_string().contains("408"), "{error}");
}

/// A clock that stands until it is set forward.
#[derive(Debug)]
struct Set(Instant, AtomicU64);

impl Pulse for Set {
    fn now(&self) -> Instant {
        self.0 + Duration::from_secs(self.1.load(Ordering::SeqCst))
    }
}

#[test]
fn a_connection_that_lay_idle_for_more_than_a_minute_is_not_used_again() {
    let world = World::rack("sha1");
    let clock = Arc::new(Set(Instant::now(), AtomicU64::new(0)));
    let mut config = world.server.config("rack");
    config.pulse = clock.clone();
    let mut remote = Remote::new(&config).unwrap();
    for (later, connections) in [(0, 1), (50, 1), (70, 2)] {
        clock.1.fetch_add(later, Ordering::SeqCst);
        remote.find("refs/heads/main", &Limits::RACK).unwrap();
        let came = world.server.connections.load(Ordering::SeqCst);
        assert_eq!(came, connections, "after {later} s");
    }
}

#[test]
fn the_usual_patience_is_by_phase() {
    let patience = Timeouts::default();
    let seconds = |it: Duration| it.as_secs_f32();
    assert_eq!(seconds(patience.stagger), 0.25);
    assert_eq!(seconds(patience.handshake), 10.0);
    assert_eq!(seconds(patience.reused), 5.0);
    assert_eq!(seconds(patience.idle), 60.0);
    assert_eq!(seconds(patience.thinking), 900.0);
    assert_eq!(seconds(patience.silence), 60.0);
    assert_eq!((seconds(patience.window), patience.minimum), (30.0, 4096));
}
