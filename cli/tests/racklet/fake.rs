// SPDX-License-Identifier: Apache-2.0
//! A tray as the network shows it: a TLS server with a key, that checks who asks and answers what the test says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use racklet_api::hypervisor::access::{self, CHANNEL_LABEL, Channel, Request};
use racklet_trust::TrustRoot;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world::World;

/// Status and body for a request such as `GET /v1/state`; `None` ends the connection instead.
pub(crate) type Answer = Option<(u16, String)>;

pub(crate) struct Fake {
    name: String,
    key: KeyPair,
    root: TrustRoot,
    config: Arc<ServerConfig>,
}

impl Fake {
    /// Serves until the test's process ends; gives the address.
    pub(crate) fn serve(
        world: &World,
        name: &str,
        key_pem: &str,
        answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> String {
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
        let tray = Arc::new(Self {
            name: name.to_owned(),
            key,
            root: TrustRoot::parse(world.read("rack/trust/1/root.json").as_bytes()).unwrap(),
            config: Arc::new(config),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (tray, answer) = (Arc::clone(&tray), Arc::clone(&answer));
                // Whoever connects and then asks nothing is nobody's fault.
                thread::spawn(move || tray.converse(socket, &*answer));
            }
        });
        address
    }

    fn converse(&self, socket: TcpStream, answer: &dyn Fn(&str) -> Answer) -> Option<()> {
        let mut stream = StreamOwned::new(
            ServerConnection::new(Arc::clone(&self.config)).ok()?,
            socket,
        );
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?;
        let (status, body) = match self.admit(&stream.conn, &head) {
            Ok(asked) => answer(&asked)?,
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
        .ok()?;
        stream.conn.send_close_notify();
        stream.flush().ok()
    }

    fn admit(&self, connection: &ServerConnection, head: &str) -> Result<String, access::Denied> {
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                .unwrap_or_default()
        };
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let channel = connection
            .export_keying_material(Channel::default(), CHANNEL_LABEL, None)
            .unwrap();
        let request = Request {
            rack: &self.root.rack().to_string(),
            tray: &self.name,
            identity: &access::ed25519(self.key.public_key_raw()).unwrap(),
            channel: &channel,
            method,
            target,
            body: b"",
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        access::authorise(
            &request,
            header(access::PASS_HEADER),
            header(access::SIGNATURE_HEADER),
            now,
            &self.root,
        )?;
        Ok(format!("{method} {target}"))
    }
}

/// A tray that is found at once, with an identity key of its own: a second or third one of the rack.
pub(crate) fn another(
    world: &World,
    name: &str,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> String {
    let address = uncommitted(world, name, answer);
    world.commit(name);
    address
}

/// The same, of which the rack knows once its file is committed.
pub(crate) fn uncommitted(
    world: &World,
    name: &str,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> String {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let identity = access::ed25519(key.public_key_raw()).unwrap();
    world.write(
        &format!("rack/trays/{name}.yaml"),
        format!(
            "apiVersion: racklet.dev/v1alpha1\nkind: Tray\nmetadata: {{name: {name}}}\nspec:\n  board: qemu-x86_64\n  identity: {identity}\n"
        ),
    );
    let address = Fake::serve(world, name, &key.serialize_pem(), answer);
    at(world, name, &address);
    address
}

/// Tells the rack where a tray is.
pub(crate) fn at(world: &World, name: &str, address: &str) {
    let setting = format!("racklet.{name}.address");
    crate::world::run(&mut world.git("rack", &["config", &setting, address]));
}

/// The key of `tray-1`, which the bootstrap image holds.
pub(crate) fn identity(world: &World) -> String {
    let folder = std::fs::read_dir(world.path("home/.local/share/racklet"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    std::fs::read_to_string(folder.join("tray-1.key")).unwrap()
}

/// `tray-1` of the rack, known by its address.
pub(crate) fn first(
    world: &World,
    answer: impl Fn(&str) -> Answer + Send + Sync + 'static,
) -> String {
    let address = Fake::serve(world, "tray-1", &identity(world), answer);
    at(world, "tray-1", &address);
    address
}
