// SPDX-License-Identifier: Apache-2.0
//! `racklet key issue`, `key enrol` and `racklet console`, against a BMC of a few lines: its vault and its frames are those of the real one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use racklet_firmware_core::vault::Vault;
use racklet_wire::console::{ALPN, Ask, ROOM, Since, Tell};
use racklet_wire::frame::Frame;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::world::{World, text};

/// RFC 8410: what stands before the seed of an Ed25519 key.
const PKCS8: [u8; 16] = [
    0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
];

/// A session as the BMC has it.
pub(crate) struct Session(StreamOwned<ServerConnection, TcpStream>);

impl Session {
    fn tell(&mut self, tell: &Tell<'_>) {
        let mut frame = [0; ROOM];
        let length = tell.write(&mut frame).unwrap();
        self.0.write_all(&frame[..length]).unwrap();
        self.0.flush().unwrap();
    }

    /// The reader's first words.
    fn attached(&mut self) -> Since {
        let mut bytes = Vec::new();
        loop {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            bytes.extend(byte);
            if let Some((frame, _)) = Frame::first(&bytes).unwrap() {
                match Ask::read(frame).unwrap() {
                    Ask::Attach { since } => return since,
                    other => panic!("{other:?} before it attached"),
                }
            }
        }
    }

    pub(crate) fn welcome(&mut self, begins: u64) -> Since {
        let since = self.attached();
        self.tell(&Tell::Welcome {
            history: 7,
            oldest: 0,
            end: begins,
            begins,
            may_type: true,
        });
        since
    }

    pub(crate) fn print(&mut self, offset: u64, bytes: &[u8]) {
        self.tell(&Tell::Output { offset, bytes });
    }

    /// Until the reader goes.
    pub(crate) fn stay(mut self) {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
    }
}

/// A BMC that has the vault in this file, for as many sessions as there are of `parts`; and where it is.
pub(crate) fn bmc(
    world: &World,
    vault: &str,
    parts: Vec<Box<dyn FnOnce(Session) + Send>>,
) -> (String, JoinHandle<()>) {
    let copy = fs::read(world.path(vault)).unwrap();
    let (vault, _) = Vault::read([&copy, &[]]).unwrap();
    let provider = Arc::new(default_provider());
    let mut authorities = RootCertStore::empty();
    authorities
        .add(CertificateDer::from(vault.authority.to_vec()))
        .unwrap();
    let people =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
            .build()
            .unwrap();
    let key = [&PKCS8[..], vault.key].concat();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(people)
        .with_single_cert(
            vec![CertificateDer::from(vault.certificate.to_vec())],
            PrivatePkcs8KeyDer::from(key).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let serving = thread::spawn(move || {
        for part in parts {
            let (socket, _) = listener.accept().unwrap();
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            part(Session(StreamOwned::new(connection, socket)));
        }
    });
    (address, serving)
}

/// A rack with somebody who may type, and a vault for its tray.
fn enrolled() -> World {
    let world = World::with_rack();
    world.in_rack(&["key", "issue", "ada", "--role", "operator"]);
    world.in_rack(&["key", "enrol", "tray-1", "-o", "../vault"]);
    world
}

#[test]
fn a_console_goes_on_at_the_byte_at_which_it_broke_and_says_what_it_lost() {
    let world = enrolled();
    let first = |mut session: Session| {
        assert_eq!(session.welcome(0), Since::Last(16 << 10));
        session.print(0, b"hello");
    };
    let second = |mut session: Session| {
        let goes_on = Since::At {
            history: 7,
            offset: 5,
        };
        assert_eq!(session.welcome(5), goes_on);
        session.tell(&Tell::Lost { from: 5, to: 100 });
        session.print(100, b" world");
        session.stay();
    };
    let (address, bmc) = bmc(&world, "vault", vec![Box::new(first), Box::new(second)]);
    let out = world
        .racklet_in("rack", &["console", "tray-1", "--no-input", "--idle", "2"])
        .args(["--address", &address])
        .output()
        .unwrap();
    bmc.join().unwrap();
    assert_eq!(text(&out.stdout), "hello world");
    let said = text(&out.stderr);
    assert!(said.contains("95 bytes were overwritten"), "{said}");
}

#[test]
fn a_bmc_of_another_rack_is_not_spoken_with() {
    let (world, other) = (enrolled(), enrolled());
    // Its client goes away within the handshake.
    let refused = |session: Session| session.stay();
    let (address, bmc) = bmc(&other, "vault", vec![Box::new(refused)]);
    let said = world.refused(&["console", "tray-1", "--no-input", "--address", &address]);
    bmc.join().unwrap();
    assert!(said.contains("connect to the BMC of tray-1"), "{said}");
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn what_is_secret_is_for_its_owner_alone_and_never_overwritten() {
    let world = enrolled();
    let value = world.json(&["key", "issue", "bob", "--role", "viewer"]);
    let key = std::path::PathBuf::from(value["key"].as_str().unwrap());
    for path in [
        key.clone(),
        world.path("vault"),
        key.with_file_name("../authority.key"),
    ] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let before = fs::read(&key).unwrap();
    let said = world.refused(&["key", "issue", "bob", "--role", "owner"]);
    assert!(said.contains("is there already"), "{said}");
    assert_eq!(fs::read(&key).unwrap(), before);
    let said = world.refused(&["key", "enrol", "tray-9", "-o", "../other"]);
    assert!(
        said.contains("the rack has no tray tray-9; it has: tray-1"),
        "{said}"
    );
    world.refused(&["key", "enrol", "tray-1", "-o", "../vault"]);
    let said = world.refused(&["key", "issue", "a b", "--role", "viewer"]);
    assert!(said.contains("cannot be in a certificate"), "{said}");
}
