// SPDX-License-Identifier: Apache-2.0
//! The API over the network: who is let in, and what it takes to be let go.

use crate::support::{BOUND, Tray, parse};
use anyhow::{Context, Result};
use racklet_api::http::{
    self, Request, SIGNATURE_HEADER, TIMESTAMP_HEADER, canonical_request, signature_to_header,
};
use racklet_tests::until::until;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
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

fn ask(tray: &Tray, target: &str, key: Option<&str>, timestamp: u64) -> Result<(u16, String)> {
    let (mut stream, _) = connect(tray, &[&rustls::version::TLS13])?;
    let mut head = format!("GET {target} HTTP/1.1\r\nHost: tray-1\r\n");
    if let Some(key) = key {
        let request = Request {
            rack: crate::support::RACK,
            tray: "tray-1",
            timestamp,
            method: "GET",
            target,
            body: b"",
        };
        let signature = tray.sign(key, "api@racklet.dev", &canonical_request(&request))?;
        let signature = signature_to_header(&signature);
        head.push_str(&format!(
            "{TIMESTAMP_HEADER}: {timestamp}\r\n{SIGNATURE_HEADER}: {signature}\r\n"
        ));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text)
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
    for (who, key, timestamp, expected) in [
        ("nobody", None, now(), 401),
        ("a stranger", Some("stranger"), now(), 403),
        ("the owner an hour ago", Some("owner"), now() - 3600, 401),
    ] {
        let (status, body) = ask(&tray, "/v1/state", key, timestamp)?;
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
    let config = std::fs::read_to_string(tray.path("handoff/tray.json"))?;
    let config: serde_json::Value = serde_json::from_str(&config)?;
    let identity = rcgen::KeyPair::from_pem(config["identity"].as_str().context("an identity")?)?;
    let certificate = remember.0.lock().expect("lock").clone();
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
fn silent_clients_do_not_keep_others_out() -> Result<()> {
    let tray = running()?;
    let address = address(&tray)?;
    let silent: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(&address))
        .collect::<Result<_, _>>()?;
    assert_eq!(
        tray.ask("GET", "/v1/state")?.0,
        200,
        "the local door is another one"
    );
    // Each silent client loses its place after a bounded time; then there is room again.
    until("room again", BOUND, || {
        Ok(ask(&tray, "/v1/state", Some("owner"), now())
            .ok()
            .filter(|(status, _)| *status == 200))
    })?;
    drop(silent);
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
