// SPDX-License-Identifier: Apache-2.0
//! Plain files beside a repository: what they spare Git, and what becomes of a fetch when their server is of no use or against us.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use racklet_api::tray::Repository;
use racklet_fetch::{
    beside::BesideError,
    cache::{Cache, Pin, Report},
    http::HttpError,
    limits::Limits,
    progress::Silent,
    publish,
    remote::{Remote, RemoteConfig},
    tls::{Authorities, SystemClock},
    url::HttpsUrl,
};
use racklet_trust::manifest::Kind;
use support::{
    disk::MemDisk,
    git::run,
    nginx::{Nginx, plain_files_hook},
    package::{Package, noise},
    server::{Request, Server, answer},
    world::World,
};

fn image(version: u64, rootfs: &[u8]) -> Package {
    Package::new(Kind::Artifact, "web", version, &[("rootfs", rootfs)])
}

/// What one tray gets, with an empty cache.
fn fetch(world: &World, remote: &mut Remote, package: &Package) -> Report {
    let pin = Pin {
        kind: package.manifest.kind,
        name: package.manifest.name.clone(),
        manifest: package.digest(),
    };
    let disk = MemDisk::default();
    let cache = Cache::open(&disk, "/state/cache").unwrap();
    let limits = Limits::ARTIFACT;
    let arrived = cache.fetch(remote, &pin, &world.root, &[], &limits, &mut Silent);
    arrived.unwrap().report
}

/// The server of the guide with its hook, to which others publish a rack and an image.
struct Guide {
    world: World,
    package: Package,
    nginx: Nginx,
    plain: PathBuf,
}

impl Guide {
    fn new() -> Self {
        let world = World::rack("sha256");
        let package = image(1, &noise(6_000_000, 1));
        world.publish_for_good(&package);
        let home = world.place.repository("home", "sha256");
        let nginx = Nginx::of_the_guide(&world.place.served(), "alice", "s3cret");
        let plain = world.place.dir.path().join("static/home");
        plain_files_hook(&home.bare, &plain);
        let receive = ["config", "http.receivepack", "true"];
        run(Command::new("git").arg("-C").arg(&home.bare).args(receive));
        let guide = Self {
            world,
            package,
            nginx,
            plain,
        };
        guide.push();
        guide
    }

    fn push(&self) {
        run(Command::new("git")
            .env("GIT_SSL_CAINFO", self.nginx.ca_file())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .arg("-C")
            .arg(&self.world.repository.bare)
            .args(["push", "-q", "--mirror"])
            .arg(format!(
                "https://alice:s3cret@127.0.0.1:{}/home",
                self.nginx.port
            )));
    }

    fn tray(&self) -> RemoteConfig {
        let url = format!("https://127.0.0.1:{}/home", self.nginx.port);
        let tray = serde_json::json!({ "url": url, "ca": self.nginx.ca, "user": "alice", "token": "s3cret" });
        let tray: Repository = serde_json::from_value(tray).unwrap();
        // Its certificate was made just now.
        RemoteConfig::of_tray(&tray, Arc::new(SystemClock)).unwrap()
    }

    /// What was asked for since the last call: of Git, and of the plain files.
    fn requests(&self) -> (Vec<String>, Vec<String>) {
        let requests = self.nginx.requests().into_iter();
        requests.partition(|it| !it.contains(" /static/"))
    }
}

fn files_at(port: u16) -> HttpsUrl {
    let url = format!("https://127.0.0.1:{port}/static/home");
    url.parse().unwrap()
}

#[test]
fn nginx_and_the_hook_of_the_guide_spare_git_the_chunks_and_the_looks() {
    let guide = Guide::new();
    let (world, package) = (&guide.world, &guide.package);
    let chunks = package.chunks.len();
    for (digest, bytes) in &package.chunks {
        let path = guide.plain.join(publish::chunk_path(*digest));
        assert_eq!(&std::fs::read(path).unwrap(), bytes);
    }
    guide.requests();
    let mut config = guide.tray();
    let report = fetch(world, &mut Remote::new(&config).unwrap(), package);
    assert_eq!((report.new_chunks, report.plain_chunks), (chunks, 0));
    // What the server can do, the refs, the small commit, the chunks.
    assert_eq!(guide.requests().0.len(), 4);
    config.set_beside(files_at(guide.nginx.port), None);
    for _tray in 0..2 {
        let mut remote = Remote::new(&config).unwrap();
        let report = fetch(world, &mut remote, package);
        assert_eq!((report.new_chunks, report.plain_chunks), (chunks, chunks));
        assert!(remote.trouble_beside().is_none());
        let (git, plain) = guide.requests();
        assert_eq!((git.len(), plain.len()), (3, chunks));
    }
    // Looks.
    let mut remote = Remote::new(&config).unwrap();
    let branch = "refs/heads/main";
    let mut seen = || remote.branch_beside(branch).unwrap().unwrap().to_string();
    let first = world.repository.head();
    assert_eq!(
        [seen(), seen(), seen()],
        [first.clone(), first.clone(), first]
    );
    let (git, plain) = guide.requests();
    assert_eq!(
        (git.len(), plain),
        (0, vec![format!("GET /static/home/{branch} 200"); 3])
    );
    let second = world.commit();
    guide.push();
    assert_eq!(seen(), second);
}

#[test]
fn trays_behind_the_cache_of_the_guide_fetch_a_release_once_between_them() {
    let guide = Guide::new();
    let cache = Nginx::cache_of_the_guide(&guide.nginx);
    let mut config = guide.tray();
    // The server's credentials, which the cache passes on; its certificate is another one.
    config.set_beside(files_at(guide.nginx.port), None);
    let beside = config.beside.as_mut().unwrap();
    beside.url = files_at(cache.port);
    beside.authorities = Authorities::Pem(cache.ca.clone().into_bytes());
    guide.requests();
    let tray = || {
        let report = fetch(
            &guide.world,
            &mut Remote::new(&config).unwrap(),
            &guide.package,
        );
        assert_eq!(report.plain_chunks, guide.package.chunks.len());
    };
    std::thread::scope(|at_once| {
        at_once.spawn(tray);
        at_once.spawn(tray);
    });
    tray();
    let (_, plain) = guide.requests();
    assert_eq!(plain.len(), guide.package.chunks.len());
    // Where a branch points to is not for keeping.
    let mut remote = Remote::new(&config).unwrap();
    let mut seen = || {
        let named = remote.branch_beside("refs/heads/main").unwrap();
        named.unwrap().to_string()
    };
    assert_eq!(seen(), guide.world.repository.head());
    let second = guide.world.commit();
    guide.push();
    assert_eq!(seen(), second);
}

/// A repository with an image on one server, and plain files on another that does with a request whatever `answer` says.
struct Beside {
    world: World,
    package: Package,
    plain: Server,
}

type Bytes = Vec<u8>;

impl Beside {
    fn new(answer: impl Fn(&Package, &Request) -> Bytes + Send + 'static) -> Self {
        let world = World::rack("sha1");
        let package = image(1, &noise(1_000_000, 2));
        world.publish_for_good(&package);
        let plain = Server::start(world.place.served());
        let known = image(1, &noise(1_000_000, 2));
        plain.edit(move |request, _| answer(&known, request));
        Self {
            world,
            package,
            plain,
        }
    }

    fn config(&self) -> RemoteConfig {
        let mut config = self.world.server.config("rack");
        let there = self.plain.config("files");
        config.set_beside(there.url.clone(), None);
        let beside = config.beside.as_mut().unwrap();
        beside.authorities = there.authorities;
        config
    }

    /// The image comes, whatever the plain files' server does.
    fn fetch(&self) -> (Report, Remote) {
        let mut remote = Remote::new(&self.config()).unwrap();
        let report = fetch(&self.world, &mut remote, &self.package);
        assert_eq!(report.new_chunks, self.package.chunks.len());
        (report, remote)
    }
}

/// What an honest server has.
fn honest(package: &Package, request: &Request) -> Bytes {
    let name = request.target.rsplit('/').next().unwrap();
    let chunk = name.parse().ok().and_then(|it| package.chunks.get(&it));
    match chunk {
        Some(bytes) => answer("200 OK", "text/plain", bytes),
        None => answer("404 Not Found", "text/html", b"<html>"),
    }
}

fn asked(server: &Server) -> usize {
    server.log.lock().unwrap().len()
}

#[test]
fn what_is_wrong_with_a_plain_file_comes_by_git_and_its_server_is_left_alone() {
    let ok = |bytes: &[u8]| answer("200 OK", "application/octet-stream", bytes);
    type Case = (
        &'static str,
        Box<dyn Fn(&Package, &Request) -> Bytes + Send>,
        fn(&BesideError) -> bool,
    );
    let altered = |it: &BesideError| matches!(it, BesideError::Altered { .. });
    let cases: Vec<Case> = vec![
        ("empty", Box::new(move |_, _| ok(b"")), altered),
        (
            "other bytes",
            Box::new(move |package, _| ok(package.chunks.values().next().unwrap())),
            |it| {
                matches!(
                    it,
                    BesideError::Altered { .. } | BesideError::Http(HttpError::TooLarge(_))
                )
            },
        ),
        (
            "one byte more",
            Box::new(|package, request| {
                let mut bytes = honest(package, request);
                let text = String::from_utf8_lossy(&bytes[..80]).into_owned();
                let length: usize = text
                    .split("Content-Length: ")
                    .nth(1)
                    .unwrap()
                    .split('\r')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", length + 1);
                bytes.splice(..end, head.into_bytes());
                bytes.push(0);
                bytes
            }),
            |it| matches!(it, BesideError::Http(HttpError::TooLarge(_))),
        ),
        (
            "endless",
            Box::new(|_, _| {
                let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
                bytes.resize(8 << 20, 0);
                bytes
            }),
            |it| matches!(it, BesideError::Http(HttpError::TooLarge(_))),
        ),
        (
            "cut",
            Box::new(|package, request| {
                let bytes = honest(package, request);
                bytes[..bytes.len() / 2].to_vec()
            }),
            |it| matches!(it, BesideError::Http(HttpError::Cut(_))),
        ),
        (
            "redirect",
            Box::new(|_, _| {
                b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
                    .to_vec()
            }),
            |it| matches!(it, BesideError::Http(HttpError::Redirect { .. })),
        ),
        (
            "refusal",
            Box::new(|_, _| answer("403 Forbidden", "text/html", b"")),
            |it| matches!(it, BesideError::Http(HttpError::Status { status: 403, .. })),
        ),
        (
            "compressed",
            Box::new(|_, _| {
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n".to_vec()
            }),
            |it| matches!(it, BesideError::Http(HttpError::Malformed(_))),
        ),
        (
            "no HTTP",
            Box::new(|_, _| b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
            |it| matches!(it, BesideError::Http(HttpError::Malformed(_))),
        ),
    ];
    for (what, reply, expected) in cases {
        let beside = Beside::new(reply);
        let (report, remote) = beside.fetch();
        assert_eq!(report.plain_chunks, 0, "{what}");
        let trouble = remote.trouble_beside().unwrap();
        assert!(expected(trouble), "{what}: {trouble:?}");
        assert_eq!(asked(&beside.plain), 1, "{what}");
    }
}

#[test]
fn what_is_missing_among_plain_files_comes_by_git() {
    // Every other chunk is there.
    let beside = Beside::new(|package, request| {
        let name = request.target.rsplit('/').next().unwrap();
        let place = package.chunks.keys().position(|it| it.to_string() == name);
        match place.unwrap() % 2 {
            0 => honest(package, request),
            _ => answer("404 Not Found", "text/html", b"<html>"),
        }
    });
    let (report, remote) = beside.fetch();
    let chunks = beside.package.chunks.len();
    assert!(
        chunks > 2 && report.plain_chunks == chunks.div_ceil(2),
        "{report:?}"
    );
    assert!(remote.trouble_beside().is_none());
}

#[test]
fn a_folder_without_the_package_costs_a_few_questions_and_no_rest() {
    let beside = Beside::new(|_, _| answer("404 Not Found", "text/html", b""));
    let package = image(2, &noise(20_000_000, 5));
    beside.world.publish_for_good(&package);
    let mut remote = Remote::new(&beside.config()).unwrap();
    assert_eq!(fetch(&beside.world, &mut remote, &package).plain_chunks, 0);
    assert!(package.chunks.len() > 40 && asked(&beside.plain) == 17);
    assert!(remote.trouble_beside().is_none());
}

#[test]
fn trouble_with_plain_files_spares_later_conversations_theirs_for_ten_minutes() {
    let beside = Beside::new(|_, _| answer("500 Oops", "text/html", b""));
    let config = beside.config();
    for _ in 0..3 {
        let mut remote = Remote::new(&config).unwrap();
        assert_eq!(
            fetch(&beside.world, &mut remote, &beside.package).plain_chunks,
            0
        );
        assert_eq!(remote.branch_beside("refs/heads/main").unwrap(), None);
    }
    assert_eq!(asked(&beside.plain), 1);
    // Another tray, or the same one later.
    fetch(
        &beside.world,
        &mut Remote::new(&beside.config()).unwrap(),
        &beside.package,
    );
    assert_eq!(asked(&beside.plain), 2);
}

#[test]
fn a_server_of_plain_files_that_says_nothing_or_trickles_costs_seconds() {
    let beside = Beside::new(honest);
    for reply in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"] {
        let head = reply.to_vec();
        beside.plain.script(move |_, _, send| {
            let mut listens = head.is_empty() || send(&head);
            // Longer than anybody should listen.
            for _ in 0..60 {
                std::thread::sleep(Duration::from_millis(100));
                listens = listens && (head.is_empty() || send(b"x"));
                if !listens {
                    break;
                }
            }
        });
        let mut config = beside.config();
        config.timeouts.beside = Duration::from_secs(1);
        let mut remote = Remote::new(&config).unwrap();
        assert_eq!(
            fetch(&beside.world, &mut remote, &beside.package).plain_chunks,
            0
        );
        let trouble = remote.trouble_beside().unwrap();
        let too_slow = matches!(trouble, BesideError::Http(HttpError::TotalTime(_)));
        assert!(too_slow, "{trouble:?}");
        // A look is not kept waiting for longer either.
        config.beside = beside.config().beside;
        let mut remote = Remote::new(&config).unwrap();
        assert_eq!(remote.branch_beside("refs/heads/main").unwrap(), None);
        let trouble = remote.trouble_beside().unwrap();
        let late_or_long = matches!(
            trouble,
            BesideError::Http(HttpError::TotalTime(_) | HttpError::TooLarge(_))
        );
        assert!(late_or_long, "{trouble:?}");
    }
}

#[test]
fn the_conversations_end_is_the_plain_files_too() {
    let beside = Beside::new(honest);
    beside
        .plain
        .script(|_, _, _| std::thread::sleep(Duration::from_secs(20)));
    let mut remote = Remote::new(&beside.config()).unwrap();
    remote.finish_by(Some(std::time::Instant::now() + Duration::from_secs(2)));
    let pin = Pin {
        kind: Kind::Artifact,
        name: "web".into(),
        manifest: beside.package.digest(),
    };
    let disk = MemDisk::default();
    let cache = Cache::open(&disk, "/state/cache").unwrap();
    let limits = Limits::ARTIFACT;
    let root = &beside.world.root;
    let error = cache
        .fetch(&mut remote, &pin, root, &[], &limits, &mut Silent)
        .unwrap_err();
    assert!(
        support::chain(&error).contains("in the time that there was for it"),
        "{error}"
    );
}
