// SPDX-License-Identifier: Apache-2.0
//! Servers that are slow, but not too slow, and servers that say more than was asked. The clock is the test's own: each look at
//! it is a second later, so that minutes pass without anybody waiting for them.

#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use racklet_fetch::{
    http::{HttpError, Resolve},
    limits::Limits,
    progress::Silent,
    pulse::Pulse,
    rack::{self, FetchError, Outcome},
    remote::{Remote, RemoteConfig, RemoteError},
};
use support::{
    server::{Request, Server},
    world::World,
};

/// What init arms its watchdog with, in seconds.
const WATCHDOG: u64 = 120;

/// Seconds that pass with each look.
#[derive(Debug)]
struct Clock {
    start: Instant,
    state: Mutex<Seen>,
    looked: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    seconds: u64,
    /// Seconds that a look takes beyond one.
    more: u64,
    beaten: u64,
    longest_without: u64,
}

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            state: Mutex::default(),
            looked: Condvar::new(),
        })
    }

    fn seconds(&self) -> u64 {
        self.state.lock().unwrap().seconds
    }

    /// Waits for the next look, so that what is sent meanwhile is read in that second. Bounded: the reader may be gone.
    fn wait_for_a_look(&self) {
        let state = self.state.lock().unwrap();
        let before = state.seconds;
        let soon = Duration::from_millis(300);
        drop(
            self.looked
                .wait_timeout_while(state, soon, |seen| seen.seconds == before)
                .unwrap(),
        );
    }

    /// Waits until so many more seconds have passed, ten with each look: where nothing comes, a look takes a real second. Bounded: the
    /// reader may be gone.
    fn wait_for(&self, seconds: u64) {
        let mut state = self.state.lock().unwrap();
        state.more = 9;
        let (end, soon) = (state.seconds + seconds, Duration::from_secs(30));
        let (mut state, _) = self
            .looked
            .wait_timeout_while(state, soon, |seen| seen.seconds < end)
            .unwrap();
        state.more = 0;
    }
}

impl Pulse for Clock {
    fn now(&self) -> Instant {
        let mut seen = self.state.lock().unwrap();
        seen.seconds += 1 + seen.more;
        seen.longest_without = seen.longest_without.max(seen.seconds - seen.beaten);
        self.looked.notify_all();
        self.start + Duration::from_secs(seen.seconds)
    }

    fn beat(&self) -> bool {
        let mut seen = self.state.lock().unwrap();
        seen.beaten = seen.seconds;
        true
    }
}

fn stage(request: &Request) -> usize {
    match String::from_utf8_lossy(&request.body) {
        _ if request.method == "GET" => 0,
        body if body.contains("command=ls-refs") => 1,
        _ => 2,
    }
}

fn kind(request: &Request) -> &'static str {
    [
        "application/x-git-upload-pack-advertisement",
        "application/x-git-upload-pack-result",
    ][stage(request).min(1)]
}

/// At `stage`, an answer that is proper as far as it goes and does not end: 200 bytes in each second.
fn crawl_at(server: &Server, clock: &Arc<Clock>, slow: usize) {
    let clock = clock.clone();
    server.script(move |request, honest, send| {
        if stage(request) != slow {
            send(&honest);
            return;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n", kind(request));
        let (first, line) = match slow {
            0 => ("000eversion 2\n", "0015capability=wanted".repeat(10)),
            1 => ("", format!("003e{:040x} refs/heads/other\n", 7).repeat(3)),
            _ => ("000dpackfile\n", "000b\x02hello\n".repeat(20)),
        };
        send(&[head.as_bytes(), first.as_bytes()].concat());
        for _ in 0..4000 {
            clock.wait_for_a_look();
            if !send(line.as_bytes()) {
                return;
            }
        }
    });
}

fn fetch(remote: &mut Remote) -> Result<Outcome, RemoteError> {
    match rack::fetch(remote, "refs/heads/main", None, &Limits::RACK, &mut Silent) {
        Ok(outcome) => Ok(outcome),
        Err(FetchError::Remote(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn http_error(result: Result<Outcome, RemoteError>) -> HttpError {
    match result {
        Err(RemoteError::Http(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn with(server: &Server, clock: &Arc<Clock>) -> RemoteConfig {
    let mut config = server.config("rack");
    config.timeouts = racklet_fetch::limits::Timeouts::default();
    config.pulse = clock.clone();
    config
}

#[test]
fn a_server_that_crawls_through_a_small_question_is_given_half_a_minute() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    for slow in [0, 1] {
        let clock = Clock::new();
        crawl_at(&server, &clock, slow);
        let error = http_error(fetch(&mut Remote::new(&with(&server, &clock)).unwrap()));
        assert!(matches!(error, HttpError::TotalTime(_)), "{slow}: {error}");
        // From the first connection on, for both questions.
        assert!(clock.seconds() <= 30, "{slow}: {} s", clock.seconds());
    }
}

#[test]
fn one_end_holds_for_connection_questions_and_pack_together() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    for slow in [0, 1, 2] {
        let clock = Clock::new();
        crawl_at(&server, &clock, slow);
        let mut config = with(&server, &clock);
        // Each by itself would be let be.
        config.timeouts.questions = Duration::from_secs(3600);
        let mut remote = Remote::new(&config).unwrap();
        remote.finish_by(Some(clock.start + Duration::from_secs(45)));
        let error = http_error(fetch(&mut remote));
        assert!(matches!(error, HttpError::NoTimeLeft), "{slow}: {error}");
        assert!(clock.seconds() <= 50, "{slow}: {} s", clock.seconds());
        // Nor is anything begun afterwards.
        let error = http_error(fetch(&mut remote));
        assert!(matches!(error, HttpError::NoTimeLeft), "{slow}: {error}");
        assert!(clock.seconds() <= 55, "{slow}: {} s", clock.seconds());
    }
}

/// What Git says every 5 s while it prepares a pack, and what it says of its work.
const ALIVE: [&[u8]; 2] = [b"0005\x01", b"001e\x02Compressing objects:  1%\r"];

/// How a server behaves between the request for a pack and the pack: `before` is done with what sends before the head, `after` behind the
/// line that announces the pack.
fn think(
    server: &Server,
    before: impl Fn() + Send + Sync + 'static,
    after: impl Fn(&mut dyn FnMut(&[u8]) -> bool) + Send + Sync + 'static,
) {
    server.script(move |request, honest, send| {
        if stage(request) != 2 {
            send(&honest);
            return;
        }
        before();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {}\r\n\r\n", kind(request));
        let behind = |text: &[u8]| {
            let at = honest.windows(text.len()).position(|it| it == text);
            at.unwrap() + text.len()
        };
        let (body, announced) = (behind(b"\r\n\r\n"), behind(b"000dpackfile\n"));
        send(&[head.as_bytes(), &honest[body..announced]].concat());
        after(send);
        send(&honest[announced..]);
        // The body ends with the connection.
        send(b"");
    });
}

#[test]
fn a_server_that_thinks_for_minutes_and_shows_life_is_waited_for() {
    let world = World::rack("sha1");
    let clock = Clock::new();
    let server_clock = clock.clone();
    think(
        &world.server,
        || {},
        move |send| {
            for n in 0..400 {
                server_clock.wait_for_a_look();
                send(ALIVE[n % 2]);
            }
        },
    );
    fetch(&mut Remote::new(&with(&world.server, &clock)).unwrap()).unwrap();
    assert!(clock.seconds() > 300, "{} s", clock.seconds());
}

#[test]
fn a_proxy_that_holds_an_answer_back_for_less_than_a_minute_is_waited_for() {
    let world = World::rack("sha1");
    let clock = Clock::new();
    let server_clock = clock.clone();
    think(&world.server, move || server_clock.wait_for(40), |_| ());
    fetch(&mut Remote::new(&with(&world.server, &clock)).unwrap()).unwrap();
    assert!(clock.seconds() > 40, "{} s", clock.seconds());
    // Nor is it asked a second time, though the connection was used before: the server would begin anew beside what it does already.
    let log = world.server.log.lock().unwrap();
    assert_eq!(
        log.iter().filter(|it| it.starts_with("POST")).count(),
        2,
        "{log:?}"
    );
}

#[test]
fn a_server_that_says_nothing_for_a_minute_while_it_thinks_is_given_up() {
    let world = World::rack("sha1");
    for announced in [false, true] {
        let clock = Clock::new();
        let (one, other) = (clock.clone(), clock.clone());
        think(
            &world.server,
            move || one.wait_for(if announced { 0 } else { 300 }),
            move |_| other.wait_for(300),
        );
        let mut remote = Remote::new(&with(&world.server, &clock)).unwrap();
        let error = http_error(fetch(&mut remote));
        assert!(matches!(error, HttpError::Silent(_)), "{error}");
        assert!(error.to_string().contains("pack.window"), "{error}");
    }
}

#[test]
fn signs_of_life_without_end_are_waited_for_a_quarter_of_an_hour() {
    let world = World::rack("sha1");
    let clock = Clock::new();
    let server_clock = clock.clone();
    think(
        &world.server,
        || {},
        move |send| {
            for n in 0..4000 {
                server_clock.wait_for_a_look();
                if !send(ALIVE[n % 2]) {
                    return;
                }
            }
        },
    );
    let error = http_error(fetch(
        &mut Remote::new(&with(&world.server, &clock)).unwrap(),
    ));
    assert!(
        matches!(error, HttpError::Thinking(span) if span == Duration::from_secs(900)),
        "{error}"
    );
    assert!(clock.seconds() < 1000, "{} s", clock.seconds());
}

#[test]
fn once_a_pack_has_begun_it_has_to_flow() {
    let world = World::rack("sha1");
    let clock = Clock::new();
    let server_clock = clock.clone();
    think(
        &world.server,
        || {},
        move |send| {
            // The first four bytes of every pack; then life, which counts no more.
            send(b"0009\x01PACK");
            for n in 0..4000 {
                server_clock.wait_for_a_look();
                if !send(ALIVE[n % 2]) {
                    return;
                }
            }
        },
    );
    let error = http_error(fetch(
        &mut Remote::new(&with(&world.server, &clock)).unwrap(),
    ));
    assert!(
        matches!(error, HttpError::Stalled { window, .. } if window == Duration::from_secs(30)),
        "{error}"
    );
    assert!(clock.seconds() < 90, "{} s", clock.seconds());
}

#[test]
fn a_pack_is_asked_for_with_what_the_server_tells_of_its_work() {
    let world = World::rack("sha1");
    world.server.script(|request, honest, send| {
        let body = String::from_utf8_lossy(&request.body);
        assert!(!body.contains("no-progress"), "{body}");
        send(&honest);
    });
    fetch(&mut world.server.remote("rack")).unwrap();
}

#[test]
fn while_a_slow_server_is_waited_for_the_watchdog_is_fed() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    let clock = Clock::new();
    crawl_at(&server, &clock, 2);
    let mut remote = Remote::new(&with(&server, &clock)).unwrap();
    remote.finish_by(Some(clock.start + Duration::from_secs(4 * WATCHDOG)));
    fetch(&mut remote).unwrap_err();
    let seen = clock.state.lock().unwrap();
    assert!(seen.seconds > 3 * WATCHDOG, "it ended too early to tell");
    assert!(seen.longest_without < WATCHDOG / 10, "{seen:?}");
}

#[test]
fn a_request_that_is_called_off_ends_at_the_next_beat() {
    #[derive(Debug)]
    struct Enough;
    impl Pulse for Enough {
        fn beat(&self) -> bool {
            false
        }
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    let mut config = server.config("rack");
    config.url = format!("https://{}/rack", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    config.pulse = Arc::new(Enough);
    let error = http_error(fetch(&mut Remote::new(&config).unwrap()));
    assert!(matches!(error, HttpError::CalledOff), "{error}");
}

/// A name server that never answers.
#[derive(Debug)]
struct Silence(Mutex<std::sync::mpsc::Receiver<()>>);

impl Resolve for Silence {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        let _ = self.0.lock().unwrap().recv();
        Ok(Vec::new())
    }
}

#[test]
fn a_name_server_that_says_nothing_is_waited_for_no_longer_than_anything_else() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    let clock = Clock::new();
    let (end, never) = std::sync::mpsc::channel();
    let mut config = with(&server, &clock);
    config.url = "https://git.example.org/rack".parse().unwrap();
    config.resolver = Arc::new(Silence(Mutex::new(never)));
    config.timeouts.questions = Duration::from_secs(3);
    let error = http_error(fetch(&mut Remote::new(&config).unwrap()));
    assert!(matches!(error, HttpError::TotalTime(_)), "{error}");
    drop(end);
}

#[test]
fn interim_answers_are_counted() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    let with_interim = |count: usize| {
        server.script(move |_, honest, send| {
            for _ in 0..count {
                if !send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") {
                    return;
                }
            }
            send(&honest);
        });
        fetch(&mut server.remote("rack"))
    };
    with_interim(8).unwrap();
    for count in [9, 5000] {
        let error = http_error(with_interim(count));
        assert!(
            matches!(error, HttpError::Malformed(why) if why.contains("interim")),
            "{count}: {error}"
        );
    }
    // Another protocol was not asked for, however it begins.
    server.script(|_, honest, send| {
        send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: git\r\n\r\n");
        send(&honest);
    });
    let error = http_error(fetch(&mut server.remote("rack")));
    assert!(
        matches!(error, HttpError::Status { status: 101, .. }),
        "{error}"
    );
}

#[test]
fn what_is_behind_an_answer_is_never_the_answer_to_the_next_question() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    let lie = {
        let line = format!("{:040x} refs/heads/main\n", 7);
        let line = format!("{:04x}{line}0000", line.len() + 4);
        support::server::answer(
            "200 OK",
            "application/x-git-upload-pack-result",
            line.as_bytes(),
        )
    };
    // In the answer's own last bytes, and in a record of its own behind it.
    for apart in [false, true] {
        let lie = lie.clone();
        server.script(move |request, honest, send| {
            if stage(request) != 0 {
                send(&honest);
            } else if apart {
                send(&honest);
                send(&lie);
            } else {
                send(&[&honest[..], &lie].concat());
            }
        });
        let mut remote = server.remote("rack");
        remote.format().unwrap();
        if apart {
            // So that it is there, whatever else this machine does: the second record is on its way.
            std::thread::sleep(Duration::from_millis(300));
        }
        let found = remote.find("refs/heads/main", &Limits::RACK).unwrap();
        assert_ne!(
            found.map(|id| id.to_string()),
            Some(format!("{:040x}", 7)),
            "apart: {apart}"
        );
    }
}
