// SPDX-License-Identifier: Apache-2.0
//! A real nginx with TLS and basic authentication: in front of a [`Server`], or as the guide describes it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rcgen::KeyPair;
use tempfile::TempDir;

use super::{
    git::run,
    server::{self, Server},
};

/// Ends with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Nginx {
    pub port: u16,
    /// PEM of the authority that vouches for it.
    pub ca: String,
    _programs: Vec<Running>,
    folder: TempDir,
    _socket: Option<TempDir>,
}

/// The first block of docs/guide/hosting.md behind `mark` that begins with `kind`.
fn block_behind(mark: &str, kind: &str) -> String {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/hosting.md");
    let guide = fs::read_to_string(guide).unwrap();
    let (_, behind) = guide.split_once(mark).unwrap();
    let (_, block) = behind.split_once(kind).unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

/// Writes the guide's hook into a bare repository, for plain files in `plain`.
pub fn plain_files_hook(bare: &Path, plain: &Path) {
    let hook = block_behind("### Plain files", "```sh\n");
    let there = "static=/srv/static/home\n";
    assert!(hook.contains(there));
    let hook = hook.replace(there, &format!("static={}\n", plain.display()));
    let path = bare.join("hooks/post-receive");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, hook).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A folder with a certificate for the loopback address, its key, and the authority that vouches for it.
fn with_certificate() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (ca, key) = (server::authority(), KeyPair::generate().unwrap());
    let leaf = server::params(vec!["127.0.0.1".into()], (2020, 2040));
    let leaf = leaf.signed_by(&key, &ca).unwrap();
    for (name, pem) in [
        ("fullchain.pem", leaf.pem()),
        ("key.pem", key.serialize_pem()),
        ("ca.pem", ca.pem()),
    ] {
        fs::write(folder.path().join(name), pem).unwrap();
    }
    folder
}

/// Starts a program and waits until it is `up`; what it left to say where it ends before.
fn start(command: &mut Command, up: impl Fn() -> bool) -> Option<Running> {
    let child = command.stdin(Stdio::null()).spawn().unwrap();
    let mut running = Running(child);
    for _ in 0..300 {
        if running.0.try_wait().unwrap().is_some() {
            return None;
        }
        if up() {
            return Some(running);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

impl Nginx {
    /// Lets in to `server` whoever knows `user` and `password`.
    pub fn before(server: &Server, user: &str, password: &str) -> Self {
        let behind = server.port;
        let folder = with_certificate();
        Self::with(folder, [user, password], vec![], |folder, port| {
            format!(
                "server {{
                    listen 127.0.0.1:{port} ssl;
                    ssl_certificate {folder}/fullchain.pem; ssl_certificate_key {folder}/key.pem;
                    auth_basic git; auth_basic_user_file {folder}/git.users;
                    client_max_body_size 0;
                    location / {{ proxy_pass https://127.0.0.1:{behind}; proxy_http_version 1.1; }}
                }}"
            )
        })
    }

    /// The server of docs/guide/hosting.md, with a certificate as it is made there, for the repositories in `served`; only its places and
    /// its port are others.
    pub fn of_the_guide(served: &Path, user: &str, password: &str) -> Self {
        let block = block_behind("## One of your own", "```nginx\n");
        // Beside the repositories, whether anything is there or not.
        let plain = served.with_file_name("static");
        let folder = tempfile::tempdir().unwrap();
        let certificate = block_behind("### A certificate of your own", "```console\n");
        for line in certificate.lines() {
            let line = line.strip_prefix("$ ").unwrap();
            let line = line.replace("192.0.2.5", "127.0.0.1");
            let mut sh = Command::new("sh");
            run(sh.current_dir(&folder).args(["-e", "-c", &line]));
        }
        let scratch = tempfile::tempdir().unwrap();
        let socket = scratch.path().join("fcgiwrap.socket");
        let mut fcgiwrap = Command::new("/usr/sbin/fcgiwrap");
        fcgiwrap.arg("-s").arg(format!("unix:{}", socket.display()));
        let fcgiwrap = start(&mut fcgiwrap, || socket.exists()).unwrap();
        let programs = run(Command::new("git").arg("--exec-path"));
        let nginx = Self::with(folder, [user, password], vec![fcgiwrap], |folder, port| {
            let mut block = block.clone();
            for (there, here) in [
                ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
                ("/etc/ssl/git", folder.into()),
                ("/etc/nginx", folder.into()),
                ("/usr/lib/git-core", programs.clone()),
                ("/srv/git", served.display().to_string()),
                ("/srv/static", plain.display().to_string()),
                ("/run/fcgiwrap.socket", socket.display().to_string()),
            ] {
                assert!(block.contains(there), "{there} is not in the guide");
                block = block.replace(there, &here);
            }
            block
        });
        Self {
            _socket: Some(scratch),
            ..nginx
        }
    }

    /// The cache of docs/guide/hosting.md in front of `server`.
    pub fn cache_of_the_guide(server: &Self) -> Self {
        let block = block_behind("### A cache at home", "```nginx\n");
        let folder = with_certificate();
        let authorities = server.ca_file().display().to_string();
        let (address, nobody) = (format!("127.0.0.1:{}", server.port), ["nobody", "nothing"]);
        Self::with(folder, nobody, vec![], |folder, port| {
            let mut block = block.clone();
            for (there, here) in [
                ("/var/cache/nginx/home", format!("{folder}/cache")),
                ("listen 8443 ", format!("listen 127.0.0.1:{port} ")),
                ("/etc/ssl/cache", folder.into()),
                ("https://git.example.org", format!("https://{address}")),
                // nginx looks for names in certificates, not for addresses.
                (
                    "proxy_ssl_verify on;",
                    "proxy_ssl_verify on; proxy_ssl_name git.example.org;".into(),
                ),
                ("/etc/ssl/certs/ca-certificates.crt", authorities.clone()),
            ] {
                assert!(block.contains(there), "{there} is not in the guide");
                block = block.replace(there, &here);
            }
            block
        })
    }

    /// What stands in `folder`, the certificates, is used by `block`.
    fn with(
        folder: TempDir,
        [user, password]: [&str; 2],
        mut programs: Vec<Running>,
        block: impl Fn(&str, u16) -> String,
    ) -> Self {
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::write(path("git.users"), format!("{user}:{{PLAIN}}{password}\n")).unwrap();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};\n", path(kind)))
            .concat();
        // Somebody else may take the port between here and nginx: then it says so, and another one is tried.
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let config = format!(
                "daemon off; master_process off; pid {}; error_log {};
                events {{}}
                http {{ log_format r '$request_method $request_uri $status'; access_log {} r; {temporary} {} }}",
                path("pid"),
                path("log"),
                path("access"),
                block(&folder.path().display().to_string(), port),
            );
            fs::write(path("conf"), config).unwrap();
            let mut nginx = Command::new("/usr/sbin/nginx");
            nginx.args(["-p", &path(""), "-c", &path("conf"), "-e", &path("log")]);
            let up = || TcpStream::connect(("127.0.0.1", port)).is_ok();
            if let Some(nginx) = start(&mut nginx, up) {
                programs.push(nginx);
                return Self {
                    port,
                    ca: fs::read_to_string(path("ca.pem")).unwrap(),
                    _programs: programs,
                    folder,
                    _socket: None,
                };
            }
        }
        panic!(
            "nginx: {}",
            fs::read_to_string(path("log")).unwrap_or_default()
        );
    }

    /// What was asked for since the last call, and the status of each answer.
    pub fn requests(&self) -> Vec<String> {
        // nginx, which is one process here, writes a line once it has answered: what it answers later finds all of them written.
        let mut mark = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        mark.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        mark.read_to_end(&mut Vec::new()).unwrap();
        let log = self.folder.path().join("access");
        let text = fs::read_to_string(&log).unwrap();
        // Truncated, and not removed: nginx has it open, and appends.
        fs::write(&log, "").unwrap();
        let lines = text.lines().filter(|line| !line.ends_with(" 400"));
        lines.map(str::to_owned).collect()
    }

    /// Where its authority's certificate lies, for Git.
    pub fn ca_file(&self) -> std::path::PathBuf {
        self.folder.path().join("ca.pem")
    }
}
