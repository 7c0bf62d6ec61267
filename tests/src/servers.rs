// SPDX-License-Identifier: Apache-2.0
//! An ordinary Git server: `git http-backend` behind nginx with TLS, as an ordinary user would run it, on loopback, in temporary
//! folders, as whoever runs it (root or not).
//!
//! Reading is open; pushing needs the token. In front stands [`Front`], where a test makes the server misbehave.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{
    authority::{Authority, Certificate, Validity},
    front::{Front, Mode},
    process::{Process, bound_to_us, git, output, path_with_sbin},
    until::until,
};

/// Where a guest of QEMU's user network finds the machine that QEMU runs on.
pub const HOST_AS_SEEN_BY_GUESTS: &str = "10.0.2.2";
/// The same over IPv6.
const HOST_AS_SEEN_OVER_IPV6: &str = "fec0::2";

/// How many Git requests are served at the same time.
const GIT_WORKERS: usize = 3;

/// Who may push, in the demo and the tests.
const USER: &str = "rack";

/// A scratch folder whose name leaves room for the sockets in it: where those of other programs are, or in `/tmp` where that is too long.
///
/// # Errors
/// When it cannot be made.
pub fn scratch() -> io::Result<TempDir> {
    let mut top = env::temp_dir();
    if top.as_os_str().len() > 40 {
        top = "/tmp".into();
    }
    tempfile::Builder::new().prefix("racklet-").tempdir_in(top)
}

/// The server; ends with the value.
#[derive(Debug)]
pub struct GitServer {
    folder: PathBuf,
    authority: Authority,
    token: String,
    front: Front,
    nginx: Process,
    workers: Vec<Process>,
}

impl GitServer {
    /// Starts a server that keeps everything, sockets and logs included, under `folder`.
    ///
    /// # Errors
    /// When a program is missing or does not come up; with its log.
    pub fn start(folder: &Path) -> Result<Self> {
        if folder.as_os_str().len() > 80 {
            bail!(
                "{}: too long for the sockets in it; choose a shorter folder",
                folder.display()
            );
        }
        for part in ["git", "static", "tmp", "log"] {
            fs::create_dir_all(folder.join(part))
                .with_context(|| format!("folder of the Git server {}", folder.display()))?;
        }
        let authority = Authority::create(&folder.join("ca"))?;
        let here = format!(
            "IP:{HOST_AS_SEEN_BY_GUESTS},IP:{HOST_AS_SEEN_OVER_IPV6},IP:127.0.0.1,DNS:localhost"
        );
        let good = authority.issue("good", &here, Validity::Current)?;
        let expired = authority.issue("expired", &here, Validity::Expired)?;
        let young = authority.issue("young", &here, Validity::Young)?;
        let other = authority.issue("other", "DNS:elsewhere.example", Validity::Current)?;
        let token = output(Command::new("openssl").args(["rand", "-hex", "16"]))?
            .trim()
            .to_owned();
        fs::write(
            folder.join("push.users"),
            format!("{USER}:{{PLAIN}}{token}\n"),
        )?;

        let workers = (0..GIT_WORKERS)
            .map(|n| git_worker(folder, n))
            .collect::<Result<Vec<_>>>()?;
        let backends = BTreeMap::from([
            (Mode::Good, folder.join("good.sock")),
            (Mode::ExpiredCertificate, folder.join("expired.sock")),
            (Mode::YoungCertificate, folder.join("young.sock")),
            (Mode::WrongName, folder.join("name.sock")),
            (Mode::CaptivePortal, folder.join("portal.sock")),
        ]);
        let config = nginx_config(folder, [&good, &expired, &young, &other])?;
        fs::write(folder.join("nginx.conf"), config)?;
        let mut nginx = Process::spawn(
            "nginx",
            bound_to_us("nginx")
                .env("PATH", path_with_sbin())
                .arg("-p")
                .arg(folder)
                .arg("-c")
                .arg(folder.join("nginx.conf"))
                .arg("-e")
                .arg(folder.join("log/nginx-error.log")),
            &folder.join("log/nginx.log"),
        )?;
        let sockets: Vec<_> = backends.values().cloned().collect();
        until("nginx listens", Duration::from_secs(20), || {
            nginx.check()?;
            Ok(sockets
                .iter()
                .all(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok())
                .then_some(()))
        })?;
        Ok(Self {
            front: Front::start(backends)?,
            folder: folder.into(),
            authority,
            token,
            nginx,
            workers,
        })
    }

    /// Where it misbehaves and counts.
    #[must_use]
    pub fn front(&self) -> &Front {
        &self.front
    }

    /// PEM of the authority that its certificate comes from.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.authority.certificate()
    }

    /// Its logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Makes an empty repository that may be pushed to, whose objects are named by `format` (sha1 or sha256), and gives its folder.
    ///
    /// # Errors
    /// When git fails.
    pub fn create_repository(&self, name: &str, format: &str) -> Result<PathBuf> {
        let path = self.folder.join("git").join(format!("{name}.git"));
        output(
            Command::new("git")
                .args([
                    "init",
                    "--quiet",
                    "--bare",
                    "--initial-branch=main",
                    "--object-format",
                    format,
                ])
                .arg(&path),
        )?;
        for (key, value) in [
            ("http.receivepack", "true"),
            ("receive.denyDeleteCurrent", "ignore"),
        ] {
            output(git(&path).args(["config", key, value]))?;
        }
        Ok(path)
    }

    /// Puts a folder as a package on `branch` of a repository, with the ref of the manifest `digest`: what whoever runs the
    /// server can do, without any key.
    ///
    /// # Errors
    /// When git fails.
    pub fn serve(&self, name: &str, branch: &str, digest: &str, package: &Path) -> Result<()> {
        let bare = self.folder.join("git").join(format!("{name}.git"));
        let run = |arguments: &[&str]| {
            output(
                git(package)
                    .env("GIT_DIR", &bare)
                    .env("GIT_WORK_TREE", package)
                    .env("GIT_INDEX_FILE", bare.join("package.index"))
                    .args(["-c", "user.name=S", "-c", "user.email=s@server.example"])
                    .args(arguments),
            )
        };
        run(&["read-tree", "--empty"])?;
        run(&["add", "--all", "--force", "."])?;
        let tree = run(&["write-tree"])?;
        let commit = run(&["commit-tree", "-m", "package", tree.trim()])?;
        for reference in [
            format!("refs/heads/{branch}"),
            format!("refs/racklet/manifests/{digest}"),
        ] {
            run(&["update-ref", &reference, commit.trim()])?;
        }
        Ok(())
    }

    /// The address of a repository for a tray in QEMU.
    #[must_use]
    pub fn url_for_trays(&self, name: &str) -> String {
        format!(
            "https://{HOST_AS_SEEN_BY_GUESTS}:{}/{name}.git",
            self.front.port()
        )
    }

    /// The same for a tray that has IPv6 alone.
    #[must_use]
    pub fn url_over_ipv6(&self, name: &str) -> String {
        format!(
            "https://[{HOST_AS_SEEN_OVER_IPV6}]:{}/{name}.git",
            self.front.port()
        )
    }

    /// The address of a repository on this machine.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("https://localhost:{}/{name}.git", self.front.port())
    }

    /// A folder of plain files, and its address on this machine.
    #[must_use]
    pub fn plain(&self, name: &str) -> (PathBuf, String) {
        let url = format!("https://localhost:{}/static/{name}", self.front.port());
        (self.folder.join("static").join(name), url)
    }

    /// Lets the ordinary `git` in the working copy `folder` reach and push to this server, by its own configuration.
    ///
    /// # Errors
    /// When git fails.
    pub fn teach(&self, folder: &Path) -> Result<()> {
        let authority = self.authority();
        let credentials = base64(format!("{USER}:{}", self.token).as_bytes());
        for (key, value) in [
            ("http.sslCAInfo", authority.display().to_string()),
            (
                "http.extraHeader",
                format!("Authorization: Basic {credentials}"),
            ),
        ] {
            output(git(folder).args(["config", key, &value]))?;
        }
        Ok(())
    }

    /// An error if one of its processes has ended.
    ///
    /// # Errors
    /// Which one, and the end of its log.
    pub fn check(&mut self) -> Result<()> {
        self.nginx.check()?;
        self.workers.iter_mut().try_for_each(Process::check)
    }
}

/// nginx and fcgiwrap may be in /usr/sbin, which an ordinary user's PATH lacks.
fn git_worker(folder: &Path, n: usize) -> Result<Process> {
    let socket = folder.join(format!("git{n}.sock"));
    let log = folder.join(format!("log/git-http-backend.{n}.log"));
    let mut process = Process::spawn(
        "fcgiwrap",
        bound_to_us("fcgiwrap")
            .env("PATH", path_with_sbin())
            .env("HOME", folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .arg("-s")
            .arg(format!("unix:{}", socket.display())),
        &log,
    )?;
    until("fcgiwrap listens", Duration::from_secs(20), || {
        process.check()?;
        Ok(socket.exists().then_some(()))
    })?;
    Ok(process)
}

fn nginx_config(folder: &Path, [good, expired, young, other]: [&Certificate; 4]) -> Result<String> {
    let backend = output(Command::new("git").arg("--exec-path"))?;
    let backend = Path::new(backend.trim()).join("git-http-backend");
    if !backend.exists() {
        bail!("{} is not there: is git complete?", backend.display());
    }
    let root = folder.display();
    let mut workers = String::new();
    for n in 0..GIT_WORKERS {
        write!(workers, " server unix:{root}/git{n}.sock;")?;
    }
    let git = format!(
        "\
        fastcgi_param SCRIPT_FILENAME {};
        fastcgi_param GIT_PROJECT_ROOT {root}/git;
        fastcgi_param GIT_HTTP_EXPORT_ALL \"\";
        fastcgi_param GIT_PROTOCOL $http_git_protocol;
        fastcgi_param PATH_INFO $uri;
        fastcgi_param QUERY_STRING $query_string;
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param CONTENT_TYPE $content_type;
        fastcgi_param CONTENT_LENGTH $content_length;
        fastcgi_param REMOTE_USER $remote_user;
        fastcgi_param REMOTE_ADDR $remote_addr;
        fastcgi_read_timeout 600s;
        fastcgi_pass workers;",
        backend.display()
    );
    let repositories = format!(
        "\
    location ~ /git-receive-pack$ {{
        auth_basic \"rack\"; auth_basic_user_file {root}/push.users;
{git}
    }}
    location /static/ {{ alias {root}/static/; }}
    location / {{
{git}
    }}"
    );
    let portal = "\
    location / { default_type text/html; return 200 \"<!doctype html>\\n<title>Welcome</title>\\n<p>Please accept our terms.\\n\"; }"
        .to_owned();
    let server = |socket: &str, certificate: &Certificate, locations: &str| {
        format!(
            "
server {{
    listen unix:{root}/{socket}.sock ssl;
    ssl_certificate {};
    ssl_certificate_key {};
    ssl_protocols TLSv1.2 TLSv1.3;
{locations}
}}",
            certificate.certificate.display(),
            certificate.key.display()
        )
    };
    let servers = [
        server("good", good, &repositories),
        server("expired", expired, &repositories),
        server("young", young, &repositories),
        server("name", other, &repositories),
        server("portal", good, &portal),
    ]
    .concat();
    Ok(format!(
        "daemon off;
master_process off;
pid {root}/nginx.pid;
error_log {root}/log/nginx-error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {root}/log/nginx-access.log;
    client_body_temp_path {root}/tmp/body;
    proxy_temp_path {root}/tmp/proxy;
    fastcgi_temp_path {root}/tmp/fastcgi;
    uwsgi_temp_path {root}/tmp/uwsgi;
    scgi_temp_path {root}/tmp/scgi;
    client_max_body_size 0;
    server_tokens off;
    upstream workers {{{workers} }}
{servers}
}}
"
    ))
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for place in 0..4 {
            if place <= group.len() {
                let index = bits >> (18 - 6 * place) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, arguments: &[&str]) -> Result<String> {
        output(
            git(folder)
                .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
                .args(arguments),
        )
    }

    #[test]
    fn base64_is_what_everybody_elses_is() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn the_ordinary_git_pushes_and_clones_and_every_fault_is_noticed_by_it() {
        let folder = scratch().unwrap();
        let mut server = GitServer::start(&folder.path().join("s")).unwrap();
        server.create_repository("rack", "sha256").unwrap();
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        run(
            &work,
            &[
                "init",
                "--quiet",
                "--initial-branch=main",
                "--object-format=sha256",
            ],
        )
        .unwrap();
        run(
            &work,
            &["commit", "--quiet", "--allow-empty", "-m", "first"],
        )
        .unwrap();
        let url = server.url("rack");
        run(&work, &["remote", "add", "origin", &url]).unwrap();
        let stranger = run(&work, &["push", "--quiet", "origin", "main"]).unwrap_err();
        assert!(stranger.to_string().contains("certificate"), "{stranger}");
        server.teach(&work).unwrap();
        run(&work, &["push", "--quiet", "origin", "main"]).unwrap();
        // A variable of the surroundings counts more than what the working copy was taught.
        let push = |program: &[&str]| {
            let mut command = Command::new(program[0]);
            command
                .args(&program[1..])
                .args(["push", "--quiet", "origin", "main"]);
            output(
                command
                    .current_dir(&work)
                    .env("GIT_SSL_CAINFO", "/dev/null"),
            )
        };
        push(&["git"]).unwrap_err();
        push(&["env", "-u", "GIT_SSL_CAINFO", "git"]).unwrap();

        let authority = format!("http.sslCAInfo={}", server.authority().display());
        let list = || run(folder.path(), &["-c", &authority, "ls-remote", &url]);
        assert!(list().unwrap().contains("refs/heads/main"));
        let push_without_token = run(
            &work,
            &[
                "-c",
                "http.extraHeader=",
                "push",
                "--quiet",
                "origin",
                "main:other",
            ],
        );
        assert!(push_without_token.is_err());

        for (mode, reason) in [
            (Mode::Down, ""),
            (Mode::Cut(200), ""),
            (Mode::ExpiredCertificate, "certificate"),
            (Mode::YoungCertificate, "certificate"),
            (Mode::WrongName, "target host name"),
            (Mode::CaptivePortal, "info/refs"),
        ] {
            server.front().set_mode(mode);
            let error = list().unwrap_err().to_string();
            assert!(error.contains(reason), "{mode:?}: {error}");
        }
        server.front().set_mode(Mode::Good);
        assert!(list().is_ok());
        server.check().unwrap();
    }
}
