// SPDX-License-Identifier: Apache-2.0
//! Servers, and those who answer in their place, at their worst: each is refused with a reason, in bounded time and space.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use racklet_fetch::{
    http::HttpError,
    limits::{Limits, Timeouts},
    progress::Silent,
    rack::{self, FetchError, Fetched, Outcome},
    remote::{Remote, RemoteConfig, RemoteError},
    tls::{ClientCertificate, Credentials, Token},
};
use rcgen::{CertificateParams, CidrSubnet, GeneralSubtree, KeyPair, NameConstraints};
use support::{
    git::Place,
    server::{Certificate, Mode, Request, Server, answer, authority},
    world::{World, rack as rack_place},
};

fn served() -> Place {
    rack_place("sha1").0
}

fn fetch(config: &RemoteConfig) -> Result<Box<Fetched>, RemoteError> {
    match rack::fetch(
        &mut Remote::new(config).unwrap(),
        "refs/heads/main",
        None,
        &Limits::RACK,
        &mut Silent,
    ) {
        Ok(Outcome::New(fetched)) => Ok(fetched),
        Ok(Outcome::Unchanged) => panic!("unchanged"),
        Err(FetchError::Remote(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn http_error(config: &RemoteConfig) -> HttpError {
    match fetch(config).unwrap_err() {
        RemoteError::Http(error) => error,
        error => panic!("{error:?}"),
    }
}

fn body_of(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    &bytes[end + 4..]
}

#[test]
fn a_captive_portal_is_recognised() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    server.edit(|_, _| {
        answer(
            "200 OK",
            "text/html; charset=utf-8",
            b"<html>Please accept our terms</html>",
        )
    });
    let error = http_error(&server.config("rack"));
    assert!(
        matches!(error, HttpError::NotGit { .. }) && error.to_string().contains("captive portal"),
        "{error}"
    );
    // One that claims to be Git is none all the same.
    server.edit(|_, _| {
        answer(
            "200 OK",
            "application/x-git-upload-pack-advertisement",
            b"<html>Please accept our terms</html>",
        )
    });
    assert!(matches!(
        fetch(&server.config("rack")),
        Err(RemoteError::Line(_))
    ));
}

#[test]
fn redirects_away_are_refused() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    for to in [
        "http://127.0.0.1/rack",
        "https://example.org/rack",
        "//example.org/rack",
        "https://127.0.0.1:1/rack",
    ] {
        server.edit(move |_, _| format!("HTTP/1.1 302 Found\r\nLocation: {to}/info/refs?service=git-upload-pack\r\nContent-Length: 0\r\n\r\n").into_bytes());
        let error = fetch(&server.config("rack")).unwrap_err();
        assert!(
            matches!(&error, RemoteError::Redirect(location) if location.starts_with(to)),
            "{error}"
        );
    }
}

#[test]
fn a_redirect_on_the_same_server_is_followed_but_not_for_ever() {
    let World { place, server, .. } = World::rack("sha1");
    std::fs::rename(place.served().join("rack"), place.served().join("rack.git")).unwrap();
    server.edit(|request, honest| match request.target.starts_with("/rack/info/refs") {
        true => b"HTTP/1.1 301 Moved\r\nLocation: /rack.git/info/refs?service=git-upload-pack\r\nContent-Length: 0\r\n\r\n".to_vec(),
        false => honest,
    });
    fetch(&server.config("rack")).unwrap();
    server.edit(|request, _| {
        format!(
            "HTTP/1.1 301 Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            request.target
        )
        .into_bytes()
    });
    assert!(matches!(
        fetch(&server.config("rack")),
        Err(RemoteError::Redirect(_))
    ));
}

#[test]
fn refusals_say_what_to_do() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    for (status, words) in [
        ("401 Unauthorized", "credentials"),
        ("404 Not Found", "no such repository"),
        ("503 Busy", "overloaded"),
    ] {
        server.edit(move |_, _| answer(status, "text/plain", b""));
        let error = http_error(&server.config("rack")).to_string();
        assert!(error.contains(words) && error.contains(status), "{error}");
    }
    server.set(Mode::Honest);
    assert!(
        http_error(&server.config("nothing"))
            .to_string()
            .contains("404")
    );
}

#[test]
fn a_server_that_trickles_is_dropped() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    server.set(Mode::Trickle(Duration::from_millis(20)));
    let mut config = server.config("rack");
    config.timeouts = Timeouts {
        window: Duration::from_millis(400),
        minimum: 4096,
        ..Timeouts::default()
    };
    let error = http_error(&config);
    assert!(
        matches!(error, HttpError::Stalled { .. }) && error.to_string().contains("too slow"),
        "{error}"
    );
    config.timeouts = Timeouts {
        questions: Duration::from_millis(400),
        minimum: 0,
        ..Timeouts::default()
    };
    assert!(matches!(http_error(&config), HttpError::TotalTime(_)));
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_dropped() {
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
    config.timeouts.window = Duration::from_millis(200);
    assert!(matches!(
        http_error(&config),
        HttpError::Stalled { bytes: _, .. }
    ));
    // Not the same port, closed: a program that another test is just starting has a copy of the socket until it runs.
    config.url = "https://127.0.0.1:1/rack".parse().unwrap();
    let error = http_error(&config);
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
}

#[test]
fn certificates_are_judged_by_the_given_clock() {
    let place = served();
    let with = |names: &[&str], years| {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let certificate = Certificate {
            names,
            years,
            constraints: None,
        };
        Server::with(place.served(), &certificate, None)
    };
    let here = &["127.0.0.1"][..];
    let (y1970, y2026, y2100) = (0, 1_790_000_000, 4_102_444_800);
    for (names, years, now, words) in [
        (here, (2020, 2040), y2026, None),
        (here, (2020, 2021), y2026, Some("has expired")),
        (here, (2035, 2040), y2026, Some("not valid yet")),
        (here, (2020, 2040), y1970, Some("not valid yet")),
        (here, (2020, 2040), y2100, Some("has expired")),
        (&["example.org"], (2020, 2040), y2026, Some("another name")),
    ] {
        let server = with(names, years);
        let mut config = server.config("rack");
        config.clock = Arc::new(now);
        match words {
            None => drop(fetch(&config).unwrap()),
            Some(words) => {
                let error = http_error(&config);
                assert!(
                    matches!(error, HttpError::Tls(_)) && error.to_string().contains(words),
                    "{error}"
                );
            }
        }
    }
    let (server, other) = (with(here, (2020, 2040)), with(here, (2020, 2040)));
    let mut config = server.config("rack");
    config.authorities = other.config("rack").authorities;
    let error = http_error(&config).to_string();
    assert!(
        error.contains("is refused") || error.contains("not trusted"),
        "{error}"
    );
}

#[test]
fn an_authority_vouches_only_for_the_names_that_it_may_vouch_for() {
    let place = served();
    let dns = |name: &str| GeneralSubtree::DnsName(name.into());
    let net = |address: [u8; 4], prefix| {
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address.into(), prefix))
    };
    for (permitted, excluded, host, fine) in [
        (vec![net([127, 0, 0, 0], 8)], vec![], "127.0.0.1", true),
        (vec![net([10, 0, 0, 0], 8)], vec![], "127.0.0.1", false),
        (vec![], vec![net([127, 0, 0, 0], 8)], "127.0.0.1", false),
        (vec![], vec![net([10, 0, 0, 0], 8)], "127.0.0.1", true),
        (vec![dns("localhost")], vec![], "localhost", true),
        (vec![dns("example.org")], vec![], "localhost", false),
        (vec![], vec![dns("localhost")], "localhost", false),
        // What is excluded stays so, whatever else is permitted.
        (
            vec![dns("localhost")],
            vec![dns("localhost")],
            "localhost",
            false,
        ),
    ] {
        let what = format!("{permitted:?} {excluded:?}");
        let certificate = Certificate {
            names: vec![host.into()],
            constraints: Some(NameConstraints {
                permitted_subtrees: permitted,
                excluded_subtrees: excluded,
            }),
            ..Certificate::default()
        };
        let server = Server::with(place.served(), &certificate, None);
        let mut config = server.config("rack");
        config.url = format!("https://{host}:{}/rack", server.port)
            .parse()
            .unwrap();
        match fine {
            true => drop(fetch(&config).unwrap_or_else(|error| panic!("{what}: {error}"))),
            false => {
                let error = http_error(&config);
                let text = error.to_string();
                // A name may have several addresses: then each is named with the same reason.
                assert!(text.contains("NameConstraint"), "{what}: {text}");
            }
        }
    }
}

#[test]
fn a_client_certificate_opens_the_door() {
    let place = served();
    let clients = authority();
    let server = Server::with(place.served(), &Certificate::default(), Some(clients.pem()));
    let mut config = server.config("rack");
    fetch(&config).unwrap_err();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["tray-1".into()])
        .unwrap()
        .signed_by(&key, &clients)
        .unwrap();
    config.credentials = Credentials {
        certificate: Some(ClientCertificate {
            chain: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        }),
        token: None,
    };
    fetch(&config).unwrap();
}

#[test]
fn a_token_goes_with_every_request() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    server.edit(move |request: &Request, honest| {
        log.lock()
            .unwrap()
            .push(request.header("Authorization").to_owned());
        honest
    });
    let mut config = server.config("rack");
    config.credentials.token = Some(Token::Bearer("abc".into()));
    fetch(&config).unwrap();
    let seen = seen.lock().unwrap();
    assert!(
        seen.len() >= 3 && seen.iter().all(|header| header == "Bearer abc"),
        "{seen:?}"
    );
}

/// Which of the three kinds of requests this is.
fn stage(request: &Request) -> usize {
    let body = String::from_utf8_lossy(&request.body);
    match (
        request.method.as_str(),
        body.contains("command=ls-refs"),
        body.contains("command=fetch"),
    ) {
        ("GET", ..) => 0,
        (_, true, _) => 1,
        _ => 2,
    }
}

#[test]
fn a_connection_cut_at_any_stage_is_an_error_and_nothing_more() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    for cut_stage in 0..3 {
        for part in 0..12 {
            server.edit(move |request, mut honest| {
                if stage(request) == cut_stage {
                    honest.truncate(honest.len() * part / 12);
                }
                honest
            });
            let error = fetch(&server.config("rack")).unwrap_err();
            assert!(
                matches!(error, RemoteError::Http(HttpError::Cut(_))),
                "stage {cut_stage}, part {part}: {error:?}"
            );
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_pack_is_noticed() {
    let World { place, server, .. } = World::rack("sha1");
    for part in 0..40 {
        server.edit(move |request, mut honest| {
            if stage(request) == 2 {
                let from = honest.windows(4).position(|w| w == b"PACK").unwrap();
                let at = from + (honest.len() - from) * part / 40;
                honest[at] ^= 0x10;
            }
            honest
        });
        // The last pkt-lines are not part of the pack, and approvals do not exist: any success must be the honest tree.
        if let Ok(fetched) = fetch(&server.config("rack")) {
            let tree = fetched.verify(&place.first_boot(&["config"])).unwrap();
            assert_eq!(
                tree.file("rack.yaml"),
                Some(&b"kind: Rack\n"[..]),
                "part {part}"
            );
        }
    }
}

#[test]
fn answers_that_are_not_gits_are_refused() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    type Edit = fn(&[u8]) -> Vec<u8>;
    let edits: [(&str, usize, Edit); 9] = [
        ("old protocol", 0, |_| {
            b"001e# service=git-upload-pack\n0000000eversion 1\n0000".to_vec()
        }),
        ("unknown hash", 0, |_| {
            b"000eversion 2\n0016object-format=md5\n0000".to_vec()
        }),
        ("empty", 0, |_| b"".to_vec()),
        ("bad length", 1, |_| b"zzzz".to_vec()),
        ("short name", 1, |_| {
            b"0019abcdef refs/heads/main0000".to_vec()
        }),
        ("error line", 1, |_| b"000cERR gone".to_vec()),
        ("unasked section", 2, |_| {
            b"0013packfile-uris\n0000".to_vec()
        }),
        ("no pack", 2, |_| b"000dpackfile\n0000".to_vec()),
        ("surplus", 2, |honest| [honest, b"0000"].concat()),
    ];
    for (name, at, edit) in edits {
        server.edit(move |request, honest| {
            let kind = [
                "application/x-git-upload-pack-advertisement",
                "application/x-git-upload-pack-result",
            ][stage(request).min(1)];
            if stage(request) == at {
                answer("200 OK", kind, &edit(body_of(&honest)))
            } else {
                honest
            }
        });
        assert!(fetch(&server.config("rack")).is_err(), "{name}");
    }
}

#[test]
fn endless_answers_end() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    // A listing that does not come to its end, of refs that only begin like the one asked for.
    server.edit(|request, honest| {
        if stage(request) != 1 {
            return honest;
        }
        let mut body = Vec::new();
        for n in 0..200_000 {
            let line = format!("{:040x} refs/heads/main{n}\n", n);
            body.extend_from_slice(format!("{:04x}{line}", line.len() + 4).as_bytes());
        }
        body.extend_from_slice(b"0000");
        answer("200 OK", "application/x-git-upload-pack-result", &body)
    });
    assert!(matches!(
        fetch(&server.config("rack")),
        Err(RemoteError::Http(HttpError::TooLarge(_)))
    ));
    let listed = server
        .remote("rack")
        .list(&["refs/heads/main"], &Limits::RACK);
    assert!(matches!(
        listed,
        Err(RemoteError::Http(HttpError::TooLarge(_)))
    ));
    // A length beyond every bound is refused before a byte of it is read.
    server.edit(|_, _| b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 99999999999\r\n\r\n".to_vec());
    assert!(matches!(
        http_error(&server.config("rack")),
        HttpError::TooLarge(_)
    ));
    // A head that does not end.
    server.edit(|_, _| {
        [
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            b"X-Filler: yes\r\n".repeat(5000),
        ]
        .concat()
    });
    assert!(matches!(
        http_error(&server.config("rack")),
        HttpError::Malformed(_)
    ));
    // A chunked body that does not end.
    server.edit(|_, _| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nTransfer-Encoding: chunked\r\n\r\n";
        let line = b"000eversion 2\n".to_vec();
        let mut body = line;
        body.extend(b"000afiller".repeat(100_000));
        [head.to_vec(), format!("{:x}\r\n", body.len()).into_bytes(), body].concat()
    });
    assert!(matches!(
        http_error(&server.config("rack")),
        HttpError::TooLarge(_)
    ));
}

#[test]
fn framing_that_two_readers_take_for_two_things_is_refused() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Content-Length: -5",
        "Content-Length: +5",
        "Content-Length: 5\r\nContent-Encoding: gzip",
    ] {
        server.edit(move |_, _| format!("HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n{headers}\r\n\r\nhello").into_bytes());
        let error = http_error(&server.config("rack"));
        assert!(
            matches!(error, HttpError::Malformed(_)),
            "{headers}: {error}"
        );
    }
}

#[test]
fn chunked_answers_are_read() {
    let World {
        place: _place,
        server,
        ..
    } = World::rack("sha1");
    server.edit(|_, honest| {
        let head = honest.len() - body_of(&honest).len();
        let head = String::from_utf8(honest[..head].to_vec()).unwrap();
        let kind = head
            .lines()
            .find(|line| line.starts_with("Content-Type"))
            .unwrap();
        let mut out =
            format!("HTTP/1.1 200 OK\r\n{kind}\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
        for piece in body_of(&honest).chunks(7) {
            out.extend_from_slice(format!("{:x};x=y\r\n", piece.len()).as_bytes());
            out.extend_from_slice(piece);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
        out
    });
    fetch(&server.config("rack")).unwrap();
}
