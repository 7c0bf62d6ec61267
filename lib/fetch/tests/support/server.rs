// SPDX-License-Identifier: Apache-2.0
//! An HTTPS server on the loopback interface with a throw-away authority.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use racklet_fetch::{
    limits::Timeouts,
    remote::{Remote, RemoteConfig},
    tls::Authorities,
};
use rcgen::{
    BasicConstraints, Certificate as Certified, CertificateParams, CertifiedIssuer, IsCa, KeyPair,
    NameConstraints,
};
use rustls::{ConfigBuilder, ServerConfig, ServerConnection, StreamOwned, server::WantsServerCert};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A time at which the certificates made here are valid.
pub const NOW: u64 = 1_790_000_000;

/// One request, as far as a handler may care.
pub struct Request {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }
}

type Answer = Box<dyn Fn(&Request, Vec<u8>) -> Vec<u8> + Send>;
/// Gets the request, Git's honest answer, and what sends bytes; that says false when nobody listens any more.
type Script = dyn Fn(&Request, Vec<u8>, &mut dyn FnMut(&[u8]) -> bool) + Send + Sync;

/// What to do with Git's whole answer (head and body) before it is sent.
pub enum Mode {
    Honest,
    Edit(Answer),
    /// One byte after another, with a pause between them.
    Trickle(Duration),
    /// Sends what it likes, and the connection stays open, unless it sends nothing.
    Script(Arc<Script>),
}

pub struct Server {
    pub port: u16,
    pub ca: String,
    mode: Arc<Mutex<Mode>>,
    pub log: Arc<Mutex<Vec<String>>>,
    /// How many connections came.
    pub connections: Arc<AtomicUsize>,
}

pub struct Certificate {
    pub names: Vec<String>,
    /// Years of the first and the last day.
    pub years: (i32, i32),
    /// For which names its authority may vouch.
    pub constraints: Option<NameConstraints>,
}

impl Default for Certificate {
    fn default() -> Self {
        Self {
            names: vec!["127.0.0.1".into(), "localhost".into()],
            years: (2020, 2040),
            constraints: None,
        }
    }
}

pub fn params(names: Vec<String>, years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    params
}

pub fn authority() -> CertifiedIssuer<'static, KeyPair> {
    authority_for(None)
}

fn authority_for(constraints: Option<NameConstraints>) -> CertifiedIssuer<'static, KeyPair> {
    let mut ca = params(vec![], (2000, 2100));
    ca.name_constraints = constraints;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap()
}

impl Server {
    /// Serves the bare repositories in `root`.
    pub fn start(root: PathBuf) -> Self {
        Self::with(root, &Certificate::default(), None)
    }

    pub fn with(root: PathBuf, certificate: &Certificate, clients: Option<String>) -> Self {
        let ca = authority_for(certificate.constraints.clone());
        let key = KeyPair::generate().unwrap();
        let leaf = params(certificate.names.clone(), certificate.years)
            .signed_by(&key, &ca)
            .unwrap();
        let builder =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                use rustls_pki_types::pem::PemObject;
                let mut roots = rustls::RootCertStore::empty();
                roots
                    .add(rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
                    .unwrap();
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                builder.with_client_cert_verifier(
                    rustls::server::WebPkiClientVerifier::builder_with_provider(
                        Arc::new(roots),
                        provider,
                    )
                    .build()
                    .unwrap(),
                )
            }
        };
        Self::speaking(root, builder, &leaf, &key, ca.pem())
    }

    /// With this very certificate, which `ca` vouches for.
    pub fn showing(root: PathBuf, certificate: &Certified, key: &KeyPair, ca: String) -> Self {
        let builder =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth();
        Self::speaking(root, builder, certificate, key, ca)
    }

    fn speaking(
        root: PathBuf,
        builder: ConfigBuilder<ServerConfig, WantsServerCert>,
        leaf: &Certified,
        key: &KeyPair,
        ca: String,
    ) -> Self {
        let config = builder
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            ca,
            mode: Arc::new(Mutex::new(Mode::Honest)),
            log: Arc::default(),
            connections: Arc::default(),
        };
        let connections = server.connections.clone();
        let (config, mode, log) = (Arc::new(config), server.mode.clone(), server.log.clone());
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (config, mode, log, root) =
                    (config.clone(), mode.clone(), log.clone(), root.clone());
                std::thread::spawn(move || serve(tcp, config, &mode, &log, &root));
            }
        });
        server
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    pub fn edit(&self, answer: impl Fn(&Request, Vec<u8>) -> Vec<u8> + Send + 'static) {
        self.set(Mode::Edit(Box::new(answer)));
    }

    pub fn script(
        &self,
        script: impl Fn(&Request, Vec<u8>, &mut dyn FnMut(&[u8]) -> bool) + Send + Sync + 'static,
    ) {
        self.set(Mode::Script(Arc::new(script)));
    }

    pub fn config(&self, repository: &str) -> RemoteConfig {
        let url = format!("https://127.0.0.1:{}/{repository}", self.port)
            .parse()
            .unwrap();
        let mut config = RemoteConfig::new(url, Arc::new(NOW));
        config.authorities = Authorities::Pem(self.ca.clone().into_bytes());
        config.timeouts = Timeouts {
            pack: Duration::from_secs(120),
            ..Timeouts::default()
        };
        config
    }

    pub fn remote(&self, repository: &str) -> Remote {
        Remote::new(&self.config(repository)).unwrap()
    }
}

/// A complete answer.
pub fn answer(status: &str, kind: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn serve(
    tcp: TcpStream,
    config: Arc<ServerConfig>,
    mode: &Mutex<Mode>,
    log: &Mutex<Vec<String>>,
    root: &std::path::Path,
) {
    let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
    let mut stream = BufReader::new(tls);
    while let Some(request) = read_request(&mut stream) {
        log.lock()
            .unwrap()
            .push(format!("{} {}", request.method, request.target));
        let honest = git(&request, root);
        let mut script = None;
        let (bytes, pause) = match &*mode.lock().unwrap() {
            Mode::Honest => (honest, None),
            Mode::Edit(edit) => (edit(&request, honest), None),
            Mode::Trickle(pause) => (honest, Some(*pause)),
            Mode::Script(how) => {
                script = Some(how.clone());
                (honest, None)
            }
        };
        let tls = stream.get_mut();
        if let Some(script) = script {
            let mut listens = true;
            script(&request, bytes, &mut |bytes| {
                listens &= !bytes.is_empty();
                listens &= tls.write_all(bytes).and_then(|()| tls.flush()).is_ok();
                listens
            });
            if !listens {
                tls.conn.send_close_notify();
                let _ = tls.flush();
                return;
            }
            continue;
        }
        match pause {
            None => {
                if tls.write_all(&bytes).and_then(|()| tls.flush()).is_err() {
                    return;
                }
            }
            Some(pause) => {
                for byte in bytes {
                    if tls.write_all(&[byte]).and_then(|()| tls.flush()).is_err() {
                        return;
                    }
                    std::thread::sleep(pause);
                }
            }
        }
        // A shortened answer ends with the connection.
        if matches!(&*mode.lock().unwrap(), Mode::Edit(_)) {
            tls.conn.send_close_notify();
            let _ = tls.flush();
            return;
        }
    }
}

fn read_request(stream: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request {
        method: words.next()?,
        target: words.next()?,
        headers: vec![],
        body: vec![],
    };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|&n| n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        request.headers.push((name.into(), value.into()));
    }
    let length = request.header("Content-Length").parse().unwrap_or(0);
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).ok()?;
    Some(request)
}

/// Git's own CGI program.
fn git(request: &Request, root: &std::path::Path) -> Vec<u8> {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", &request.method)
        .env("CONTENT_TYPE", request.header("Content-Type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("GIT_PROTOCOL", request.header("Git-Protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = request.body.clone();
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&body)));
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    feeder.join().unwrap();
    child.wait().unwrap();
    let end = out
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .unwrap_or(out.len());
    let head = String::from_utf8_lossy(&out[..end]).into_owned();
    let field = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(str::to_owned)
    };
    let status = field("Status: ").unwrap_or("200 OK".into());
    answer(
        &status,
        &field("Content-Type: ").unwrap_or_default(),
        out.get(end + 4..).unwrap_or(&[]),
    )
}
