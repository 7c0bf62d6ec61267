// SPDX-License-Identifier: Apache-2.0
//! Where a rack can be hosted: servers that want to know who asks, answers as they are found in the field, and what is said of those that
//! are of no use.
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    time::Duration,
};

use racklet_api::tray::Repository;
use racklet_fetch::{
    http::HttpError,
    limits::Limits,
    progress::Silent,
    rack,
    remote::{Remote, RemoteConfig, RemoteError},
    tls::SystemClock,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use support::{
    nginx::Nginx,
    server::{NOW, Request, Server, answer},
    world::World,
};

/// What a tray finds that is configured so.
fn look_as(repository: serde_json::Value) -> Result<String, RemoteError> {
    let repository: Repository = serde_json::from_value(repository).unwrap();
    look(&RemoteConfig::of_tray(&repository, Arc::new(NOW)).unwrap())
}

fn look(config: &RemoteConfig) -> Result<String, RemoteError> {
    let found = Remote::new(config)
        .unwrap()
        .find("refs/heads/main", &Limits::RACK)?;
    Ok(found.unwrap().to_string())
}

fn refused(result: Result<String, RemoteError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn nginx_lets_in_whoever_has_the_configured_user_name_and_token() {
    let world = World::rack("sha1");
    let nginx = Nginx::before(&world.server, "alice", "s3cret");
    let with = |user: Option<&str>, token: &str| {
        let url = format!("https://127.0.0.1:{}/rack", nginx.port);
        look_as(serde_json::json!({ "url": url, "ca": nginx.ca, "user": user, "token": token }))
    };
    assert_eq!(
        with(Some("alice"), "s3cret").unwrap(),
        world.repository.head()
    );
    for (user, token) in [
        (None, "s3cret"),
        (Some("bob"), "s3cret"),
        (Some("alice"), "x"),
    ] {
        let text = refused(with(user, token));
        assert!(text.contains("401") && text.contains("user name"), "{text}");
    }
}

#[test]
fn the_server_of_the_guide_takes_pushes_and_serves_trays() {
    let world = World::rack("sha256");
    let (user, token) = ("alice", "s3cret");
    let nginx = Nginx::of_the_guide(&world.place.served(), user, token);
    for setting in [
        ["http.receivepack", "true"],
        ["pack.window", "0"],
        ["uploadpack.allowFilter", "true"],
    ] {
        support::git::run(
            std::process::Command::new("git")
                .arg("-C")
                .arg(&world.repository.bare)
                .arg("config")
                .args(setting),
        );
    }
    // More than nginx takes in one request unless it is told to.
    let noise: Vec<u8> = (0..750_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    world.repository.write("noise", noise);
    let head = world.repository.commit(&world.place.key("config"));
    support::git::run(
        std::process::Command::new("git")
            .env("GIT_SSL_CAINFO", nginx.ca_file())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .arg("-C")
            .arg(&world.repository.work)
            .args(["push", "-q"])
            .arg(format!(
                "https://{user}:{token}@127.0.0.1:{}/rack",
                nginx.port
            ))
            .arg("HEAD:refs/heads/main"),
    );
    let url = format!("https://127.0.0.1:{}/rack", nginx.port);
    let tray = serde_json::json!({ "url": url, "ca": nginx.ca, "user": user, "token": token });
    let tray: Repository = serde_json::from_value(tray).unwrap();
    // Its certificate was made just now.
    let config = RemoteConfig::of_tray(&tray, Arc::new(SystemClock)).unwrap();
    let mut remote = Remote::new(&config).unwrap();
    let branch = "refs/heads/main";
    match rack::fetch(&mut remote, branch, None, &Limits::RACK, &mut Silent).unwrap() {
        rack::Outcome::New(fetched) => assert_eq!(fetched.head().to_string(), head),
        rack::Outcome::Unchanged => panic!("nothing was accepted before"),
    }
}

#[test]
fn a_token_is_sent_as_the_scheme_says() {
    let world = World::rack("sha1");
    for (scheme, user, sent) in [
        ("bearer", None, "Bearer t0ken"),
        // The base64 of git:t0ken and of x-token-auth:t0ken.
        ("basic", None, "Basic Z2l0OnQwa2Vu"),
        (
            "basic",
            Some("x-token-auth"),
            "Basic eC10b2tlbi1hdXRoOnQwa2Vu",
        ),
    ] {
        world.server.script(move |request, honest, send| {
            match request.header("Authorization") == sent {
                true => send(&honest),
                false => send(&answer("401 Unauthorized", "text/plain", b"")),
            };
        });
        let url = format!("https://127.0.0.1:{}/rack", world.server.port);
        let found = look_as(serde_json::json!({
            "url": url, "ca": world.server.ca, "scheme": scheme, "user": user, "token": "t0ken"
        }));
        assert_eq!(found.unwrap(), world.repository.head(), "{sent}");
    }
}

#[test]
fn a_kind_of_answer_may_be_written_in_any_case_and_with_parameters() {
    let world = World::rack("sha1");
    world.server.script(|_, honest, send| {
        let text = String::from_utf8_lossy(&honest).into_owned();
        let line = text
            .lines()
            .find(|line| line.starts_with("Content-Type"))
            .unwrap();
        let at = text.find(line).unwrap();
        let (before, behind) = (&honest[..at], &honest[at + line.len()..]);
        let line = format!("{}; charset=utf-8", line.to_uppercase());
        send(&[before, line.as_bytes(), behind].concat());
    });
    assert_eq!(
        look(&world.server.config("rack")).unwrap(),
        world.repository.head()
    );
    world.server.script(|_, _, send| {
        send(&answer(
            "200 OK",
            "application/x-git-upload-pack-advertisement2",
            b"",
        ));
    });
    let text = refused(look(&world.server.config("rack")));
    assert!(text.contains("captive portal"), "{text}");
}

#[test]
fn how_long_a_server_wants_to_be_left_alone_is_heard() {
    let world = World::rack("sha1");
    for (value, heard) in [
        ("120", Some(Duration::from_secs(120))),
        ("18446744073709551616", None),
        // A moment says something only beside what the server takes for now; which may be long past here.
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        (
            "Sun, 06 Nov 1994 08:59:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
            Some(Duration::from_secs(600)),
        ),
        (
            "Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:59:37 GMT",
            Some(Duration::ZERO),
        ),
        (
            "120\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
            Some(Duration::from_secs(120)),
        ),
        ("-1", None),
    ] {
        world.server.script(move |_, _, send| {
            let head = format!(
                "HTTP/1.1 429 Slow Down\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
            );
            send(head.as_bytes());
        });
        match look(&world.server.config("rack")) {
            Err(RemoteError::Http(HttpError::Status { retry_after, .. })) => {
                assert_eq!(retry_after, heard, "{value}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_branch_that_is_not_there_is_answered_with_the_one_that_is() {
    let world = World::rack("sha1");
    let look = |branch| {
        let mut remote = world.server.remote("rack");
        rack::fetch(&mut remote, branch, None, &Limits::RACK, &mut Silent)
    };
    let text = look("refs/heads/trunk").unwrap_err().to_string();
    assert!(
        text.contains("no refs/heads/trunk") && text.contains("\"main\""),
        "{text}"
    );
    let empty = World::empty("sha256");
    let mut remote = empty.server.remote("rack");
    let nothing = rack::fetch(
        &mut remote,
        "refs/heads/main",
        None,
        &Limits::RACK,
        &mut Silent,
    );
    let text = nothing.unwrap_err().to_string();
    assert!(text.contains("nothing was pushed"), "{text}");
}

/// What is said where the server answers everything so.
fn said(world: &World, answer: &'static [u8]) -> String {
    world.server.script(move |_: &Request, _, send| {
        send(answer);
    });
    refused(look(&world.server.config("rack")))
}

#[test]
fn what_a_server_of_no_use_is_said_to_be() {
    let world = World::rack("sha1");
    const V1: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 42\r\n\r\n001e# service=git-upload-pack\n0000000000000";
    for (answer, words) in [
        (
            &b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/users/sign_in\r\nContent-Length: 0\r\n\r\n"[..],
            "login page",
        ),
        (b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", "client_max_body_size"),
        (b"HTTP/1.1 407 Proxy\r\nContent-Length: 0\r\n\r\n", "a proxy"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "blocks this network for a while"),
        (b"HTTP/1.1 511 Login\r\nContent-Length: 0\r\n\r\n", "captive portal"),
        (b"HTTP/1.1 504 Late\r\nContent-Length: 0\r\n\r\n", "stands in front of Git"),
        (V1, "Azure DevOps"),
    ] {
        let text = said(&world, answer);
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn a_port_for_plain_http_is_called_one() {
    let world = World::rack("sha1");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let _ = tcp.read(&mut [0; 4096]);
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut config = world.server.config("rack");
    config.url = format!("https://127.0.0.1:{port}/rack").parse().unwrap();
    let text = refused(look(&config));
    assert!(text.contains("plain HTTP"), "{text}");
}

#[test]
fn an_authoritys_certificate_used_as_the_servers_is_called_that() {
    let world = World::rack("sha1");
    let mut params = support::server::params(vec!["127.0.0.1".into()], (2020, 2040));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let text = refused(look(&self_signed(&world, params)));
    assert!(text.contains("openssl req -x509"), "{text}");
    // What is advised works.
    let mut params = support::server::params(vec!["127.0.0.1".into()], (2020, 2040));
    params.is_ca = IsCa::ExplicitNoCa;
    assert_eq!(
        look(&self_signed(&world, params)).unwrap(),
        world.repository.head()
    );
}

/// A server with a certificate that vouches for itself, trusted as it is.
fn self_signed(world: &World, params: CertificateParams) -> RemoteConfig {
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let server = Server::showing(world.place.served(), &certificate, &key, certificate.pem());
    server.config("rack")
}
