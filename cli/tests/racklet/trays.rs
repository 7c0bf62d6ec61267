// SPDX-License-Identifier: Apache-2.0
//! `racklet status`, `logs` and `sync` against a real TLS server with the tray's key, and against one without it.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use racklet_api::http::{self, Request};
use racklet_trust::TrustRoot;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world::World;

/// What the server answers to a request line.
type Answer = fn(&str) -> (u16, String);

/// A tray that serves `count` requests and checks who asks; gives its address.
fn serve(world: &World, key_pem: &str, count: usize, answer: Answer) -> String {
    let key = KeyPair::from_pem(key_pem).unwrap();
    let certificate = CertificateParams::new(vec!["whatever".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let root = TrustRoot::parse(world.read("rack/trust/1/root.json").as_bytes()).unwrap();
    let config = Arc::new(config);
    thread::spawn(move || {
        for _ in 0..count {
            let (socket, _) = listener.accept().unwrap();
            let mut stream =
                StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_exact(&mut byte).is_err() {
                    return;
                }
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap();
            let header = |name: &str| {
                head.lines()
                    .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                    .unwrap_or_default()
                    .to_owned()
            };
            let mut words = head.split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let timestamp = header(http::TIMESTAMP_HEADER).parse().unwrap();
            let rack = root.rack().to_string();
            let request = Request {
                rack: &rack,
                tray: "tray-1",
                timestamp,
                method,
                target,
                body: b"",
            };
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs();
            let (status, body) =
                match http::authorise(&request, &header(http::SIGNATURE_HEADER), now, &root) {
                    Ok(_) => answer(&format!("{method} {target}")),
                    Err(denied) => (
                        401,
                        serde_json::json!({ "error": denied.to_string() }).to_string(),
                    ),
                };
            write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    address
}

fn identity(world: &World) -> String {
    let folder = fs::read_dir(world.path("home/.local/share/racklet"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::read_to_string(folder.join("tray-1.key")).unwrap()
}

const STATE: &str = r#"{"v":1,"tray":"tray-1","rack":"r","time":1000,"uptime":75,"memory":{"total":1006632960,"available":943718400},"received":9,"head":null,"converged":false,
"rejected":{"commit":"abc","since":940,"reason":"bad file","problems":[{"file":"workloads/web.yaml","line":7,"column":3,"message":"no"}]},
"repository":{"url":"https://git.example/rack.git","branch":"main","reached":990,"error":null},
"release":{"running":"stable 1","manifest":"00","wanted":null,"message":null},
"workloads":[{"name":"web","phase":"back-off","current":true,"message":"exit code 1","age":5,"restarts":3,"exitCode":1,"pid":null,"addresses":["10.80.0.10"],"rootfs":"00"}]}"#;

fn answer(request: &str) -> (u16, String) {
    match request {
        "GET /v1/state" => (200, STATE.to_owned()),
        "POST /v1/sync" => (200, r#"{"v":1,"head":null}"#.to_owned()),
        "GET /v1/workloads/web/logs?log=console" => {
            (200, r#"{"v":1,"lines":[{"stream":"console","line":"Linux version"}],"next":"7.9","lost":false}"#.to_owned())
        }
        "GET /v1/workloads/web/logs?log=console&from=7.9" => (200, r#"{"v":1,"lines":[],"next":"7.9","lost":false}"#.to_owned()),
        other => (404, serde_json::json!({ "error": format!("no {other}") }).to_string()),
    }
}

#[test]
fn status_and_sync_reach_the_tray_with_a_signed_request() {
    let world = World::with_rack();
    let address = serve(&world, &identity(&world), 2, answer);
    let said = world.in_rack(&["status", "tray-1", "--address", &address]);
    for expected in [
        "tray-1  working on it",
        "abc since 1 min 0 s: bad file",
        "workloads/web.yaml:7:3: no",
        "reached 10 s ago",
        "60 of 960 MiB used",
        "web: waiting to restart; for 5 s; at 10.80.0.10; restarted 3 times; exit code 1",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(
        world
            .in_rack(&["sync", "tray-1", "--address", &address])
            .contains("tray-1 looks now")
    );
}

#[test]
fn logs_are_read_to_their_end_from_the_tray_that_runs_the_workload() {
    let world = World::with_rack();
    world.web(&world.artifact("artifact", b"x"));
    world.commit("web");
    let address = serve(&world, &identity(&world), 2, answer);
    run_config(&world, &address);
    assert_eq!(
        world.in_rack(&["logs", "web", "--console"]),
        "Linux version\n"
    );
}

fn run_config(world: &World, address: &str) {
    crate::world::run(&mut world.git("rack", &["config", "racklet.tray-1.address", address]));
}

#[test]
fn a_mistake_in_the_work_tree_does_not_keep_a_tray_from_being_asked() {
    let world = World::with_rack();
    world.web(&world.artifact("artifact", b"x"));
    let file = world.read("rack/workloads/web.yaml");
    world.write(
        "rack/workloads/web.yaml",
        file.replace("kind: MicroVM", "kind: MicroWM"),
    );
    // Committed already, which is worse: what lies in the work tree alone is not even looked at.
    world.commit("web");
    let address = serve(&world, &identity(&world), 1, answer);
    let said = world.in_rack(&["status", "tray-1", "--address", &address]);
    assert!(said.contains("working on it"), "{said}");
    let said = world.refused(&["logs", "web", "--address", &address]);
    assert!(
        said.contains("no workload web")
            && said.contains("left out because of workloads/web.yaml:"),
        "{said}"
    );
}

#[test]
fn a_machine_with_another_key_is_not_talked_to() {
    let world = World::with_rack();
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .unwrap()
        .serialize_pem();
    let address = serve(&world, &other, 1, |_| panic!("nothing may be asked"));
    let said = world.refused(&["status", "tray-1", "--address", &address]);
    assert!(
        said.contains("does not have the identity key of tray-1"),
        "{said}"
    );
}

#[test]
fn what_the_tray_refuses_is_said_with_its_reason() {
    let world = World::with_rack();
    let address = serve(&world, &identity(&world), 1, |_| {
        (503, r#"{"error":"still starting"}"#.to_owned())
    });
    let said = world.refused(&["sync", "tray-1", "--address", &address]);
    assert!(
        said.contains("tray-1 refuses: still starting (HTTP 503)"),
        "{said}"
    );
}

#[test]
fn a_tray_that_is_off_is_named_with_what_to_look_at() {
    let world = World::with_rack();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let said = world.refused(&["status", "tray-1", "--address", &port.to_string()]);
    assert!(said.contains("is it on"), "{said}");
    assert!(
        world
            .refused(&["status", "tray-9", "--address", "127.0.0.1"])
            .contains("the rack has no tray tray-9")
    );
}
