// SPDX-License-Identifier: Apache-2.0
//! The API over the network: who is let in, and what it takes to be let go.

use crate::support::{BOUND, RACK, Tray, parse};
use anyhow::{Context, Result, ensure};
use racklet_api::hypervisor as http;
use racklet_api::hypervisor::access::{
    self, CHANNEL_LABEL, Channel, PASS_HEADER, Pass, Request, SIGNATURE_HEADER, canonical_request,
    signature_to_header,
};
use racklet_tests::until::until;
use racklet_trust::sshsig::{armor, to_be_signed};
use rcgen::SigningKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

/// Believes any certificate and remembers it: which key it holds is looked at by the test.
#[derive(Debug, Default)]
struct Remember(Mutex<Vec<u8>>);

impl ServerCertVerifier for Remember {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().expect("lock") = certificate.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

fn address(tray: &Tray) -> Result<String> {
    until("the API listens", BOUND, || {
        let console = tray.console();
        let line = console
            .lines()
            .rev()
            .find_map(|line| line.split_once("the API listens at "));
        Ok(line.map(|(_, address)| address.to_owned()))
    })
}

fn connect(
    tray: &Tray,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Result<(StreamOwned<ClientConnection, TcpStream>, Arc<Remember>)> {
    let remember = Arc::new(Remember::default());
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&remember) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
    let socket = TcpStream::connect(address(tray)?)?;
    socket.set_read_timeout(Some(BOUND))?;
    let connection = ClientConnection::new(Arc::new(config), "tray-1".try_into()?)?;
    Ok((StreamOwned::new(connection, socket), remember))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}

/// The tray's identity key.
fn identity(tray: &Tray) -> Result<rcgen::KeyPair> {
    let config = std::fs::read_to_string(tray.path("handoff/tray.json"))?;
    let config: serde_json::Value = serde_json::from_str(&config)?;
    let pem = config["identity"].as_str().context("an identity")?;
    Ok(rcgen::KeyPair::from_pem(pem)?)
}

/// A short-lived key and the pass that a person gave it.
struct Asker {
    key: rcgen::KeyPair,
    pass: String,
}

impl Asker {
    fn new(tray: &Tray, person: &str, from: u64) -> Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let pass = Pass {
            key: access::ed25519(key.public_key_raw())?,
            from,
            until: from + 600,
        };
        let armored = tray.sign(person, "api@racklet.dev", &pass.canonical(RACK))?;
        let pass = pass.to_header(&armored);
        Ok(Self { key, pass })
    }

    /// The headers of a request for `target` over the connection `channel`.
    fn headers(&self, tray: &Tray, channel: &Channel, target: &str) -> Result<String> {
        let request = Request {
            rack: RACK,
            tray: "tray-1",
            identity: &access::ed25519(identity(tray)?.public_key_raw())?,
            channel,
            method: "GET",
            target,
            body: b"",
        };
        let namespace = "api@racklet.dev";
        let message = to_be_signed(namespace, &canonical_request(&request));
        let signature = self.key.sign(&message)?;
        let signature = signature.as_slice().try_into()?;
        let own = access::ed25519(self.key.public_key_raw())?;
        let signature = signature_to_header(&armor(&own, namespace, signature));
        Ok(format!(
            "{PASS_HEADER}: {}\r\n{SIGNATURE_HEADER}: {signature}\r\n",
            self.pass
        ))
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection after its handshake, and what only its two ends know.
fn shaken(tray: &Tray) -> Result<(Stream, Channel)> {
    let (mut stream, _) = connect(tray, &[&rustls::version::TLS13])?;
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let channel = stream
        .conn
        .export_keying_material(Channel::default(), CHANNEL_LABEL, None)?;
    Ok((stream, channel))
}

fn send(stream: &mut Stream, target: &str, headers: &str) -> Result<(u16, String)> {
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: tray-1\r\n{headers}\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text)
}

fn ask(tray: &Tray, target: &str, person: Option<&str>, from: u64) -> Result<(u16, String)> {
    let asker = person
        .map(|person| Asker::new(tray, person, from))
        .transpose()?;
    let (mut stream, channel) = shaken(tray)?;
    let headers = match asker {
        Some(asker) => asker.headers(tray, &channel, target)?,
        None => String::new(),
    };
    send(&mut stream, target, &headers)
}

fn running() -> Result<Tray> {
    let mut tray = Tray::new()?;
    tray.workload("web", "[run]", "")?;
    let head = tray.push("one")?;
    tray.start()?;
    tray.converged(&head)?;
    Ok(tray)
}

#[test]
fn only_a_fresh_signature_of_a_config_key_is_let_in() -> Result<()> {
    let tray = running()?;
    let (status, body) = ask(&tray, "/v1/state", Some("owner"), now())?;
    assert_eq!(status, 200, "{body}");
    let state: http::State = serde_json::from_str(&body)?;
    assert_eq!((state.tray.as_str(), state.converged), ("tray-1", true));
    for (who, key, from, expected) in [
        ("nobody", None, now(), 401),
        ("a stranger", Some("stranger"), now(), 403),
        ("the owner an hour ago", Some("owner"), now() - 3600, 401),
    ] {
        let (status, body) = ask(&tray, "/v1/state", key, from)?;
        assert_eq!(status, expected, "{who}: {body}");
        assert!(!body.contains("workloads"), "{who}: {body}");
    }
    Ok(())
}

#[test]
fn the_certificate_holds_the_trays_own_key() -> Result<()> {
    let tray = running()?;
    let (mut stream, remember) = connect(&tray, &[&rustls::version::TLS13])?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let certificate = remember.0.lock().expect("lock").clone();
    let identity = identity(&tray)?;
    let key = identity.public_key_raw();
    assert!(
        certificate.windows(key.len()).any(|w| w == key),
        "the identity's public key is in the certificate"
    );
    Ok(())
}

#[test]
fn tls_1_2_is_refused() -> Result<()> {
    let tray = running()?;
    let (mut stream, _) = connect(&tray, &[&rustls::version::TLS12])?;
    let error = stream
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .and_then(|()| stream.flush())
        .expect_err("refused");
    assert!(
        format!("{error:?}").contains("ProtocolVersion"),
        "{error:?}"
    );
    Ok(())
}

#[test]
fn what_was_sent_once_is_not_answered_over_another_connection() -> Result<()> {
    let tray = running()?;
    let asker = Asker::new(&tray, "owner", now())?;
    let (mut stream, channel) = shaken(&tray)?;
    let headers = asker.headers(&tray, &channel, "/v1/state")?;
    assert_eq!(send(&mut stream, "/v1/state", &headers)?.0, 200);
    for _ in 0..3 {
        let (mut stream, _) = shaken(&tray)?;
        let (status, body) = send(&mut stream, "/v1/state", &headers)?;
        assert_eq!(status, 401, "{body}");
        assert!(body.contains("signature of the request"), "{body}");
    }
    Ok(())
}

/// Opens a connection for every permit, says nothing and holds the newest hundred.
fn idle(address: SocketAddr, permits: &Mutex<mpsc::Receiver<()>>) -> Result<usize> {
    let (mut open, mut opened) = (VecDeque::new(), 0);
    while permits.lock().expect("lock").recv().is_ok() {
        open.push_back(TcpStream::connect(address)?);
        opened += 1;
        if open.len() > 100 {
            open.pop_front();
        }
    }
    Ok(opened)
}

#[test]
fn a_thousand_idle_connections_keep_nobody_out() -> Result<()> {
    let tray = running()?;
    let address: SocketAddr = address(&tray)?.parse()?;
    let (permit, permits) = mpsc::channel();
    let permits = &Mutex::new(permits);
    thread::scope(|scope| -> Result<()> {
        let idlers: Vec<_> = (0..4)
            .map(|_| scope.spawn(move || idle(address, permits)))
            .collect();
        let ask_among_them = || -> Result<()> {
            for _ in 0..20 {
                // They come while it is asked, all of them from the same address.
                for _ in 0..50 {
                    permit.send(())?;
                }
                let (status, body) = ask(&tray, "/v1/state", Some("owner"), now())?;
                ensure!(status == 200, "{status}: {body}");
            }
            Ok(())
        };
        let asked = ask_among_them();
        drop(permit);
        let mut opened = 0;
        for idler in idlers {
            opened += idler.join().expect("no panic")?;
        }
        asked?;
        assert_eq!(opened, 1000);
        let (status, body) = ask(&tray, "/v1/state", Some("owner"), now())?;
        assert_eq!(status, 200, "{body}");
        Ok(())
    })?;
    assert_eq!(tray.ask("GET", "/v1/state")?.0, 200, "the local door");
    Ok(())
}

#[test]
fn clients_that_speak_and_do_not_go_on_are_let_go() -> Result<()> {
    let tray = running()?;
    let address = address(&tray)?;
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(&address)?;
            // The first byte of a TLS record.
            let _ = stream.write(&[22]);
            Ok(stream)
        })
        .collect::<Result<_>>()?;
    assert_eq!(ask(&tray, "/v1/state", Some("owner"), now())?.0, 200);
    // All of them are closed, the last ones after their 3 s.
    for mut stream in silent {
        stream.set_read_timeout(Some(BOUND))?;
        let ended = stream.read(&mut [0; 64]);
        assert!(
            !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
            "{ended:?}"
        );
    }
    Ok(())
}

#[test]
fn sync_makes_the_tray_look_at_once() -> Result<()> {
    let tray = running()?;
    let text = std::fs::read_to_string(tray.path("rack/rack.yaml"))?;
    tray.write(
        "rack.yaml",
        &text.replace("pollSeconds: 1", "pollSeconds: 3600"),
    )?;
    let slow = tray.push("an hour between looks")?;
    tray.converged(&slow)?;
    tray.workload("api", "[run]", "")?;
    let next = tray.push("two")?;
    let (status, body) = tray.ask("POST", "/v1/sync")?;
    assert_eq!(status, 200);
    assert!(body.contains(&slow), "{body}");
    tray.converged(&next)?;
    Ok(())
}
