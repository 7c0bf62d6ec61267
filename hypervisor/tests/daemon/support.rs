// SPDX-License-Identifier: Apache-2.0
//! A rack repository on a real Git server over TLS, and the daemon as an ordinary process that follows it. Only the monitor and the
//! two neighbours (`init`, `netd`) are stand-ins.

use anyhow::{Context, Result, bail, ensure};
use racklet_api::handoff::{Handoff, Head};
use racklet_api::init::{self, FloorsReport, SlotsStatus};
use racklet_api::netd as net;
use racklet_fetch::publish;
use racklet_tests::process::{git, output};
use racklet_tests::servers::{GitServer, scratch};
use racklet_tests::until::until;
use racklet_trust::manifest::Kind;
use racklet_trust::root::{RoleKeys, Roles};
use racklet_trust::{Architecture, Digest, Manifest, PublicKey, TrustRoot};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const RACK: &str = "0123456789abcdef0123456789abcdef";
/// Long enough for a loaded machine; a test that passes does not wait for it.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

const RACK_YAML: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Rack
metadata: {name: home}
spec: {id: 0123456789abcdef0123456789abcdef, pollSeconds: 1, policies: {rebootWaitSeconds: 0}}
";
const TRAY_YAML: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Tray
metadata: {name: tray-1}
spec: {board: qemu-x86_64}
";
const NETWORK_YAML: &str = "\
apiVersion: racklet.dev/v1alpha1
kind: Network
metadata: {name: lan}
spec: {ipv4: 10.80.0.0/24}
";

pub(crate) struct Tray {
    dir: tempfile::TempDir,
    pub(crate) server: GitServer,
    /// The rack's repository on it.
    bare: PathBuf,
    /// The digest of the artifact that workloads boot.
    pub(crate) artifact: String,
    daemon: Option<Child>,
    /// What `init` was told.
    pub(crate) told: Arc<Mutex<Vec<Value>>>,
    /// What `init` remembers of heads, when it is asked.
    pub(crate) floors: Arc<Mutex<Option<FloorsReport>>>,
    /// What `init` says of the bootstrap slots.
    pub(crate) slots: Arc<Mutex<Option<SlotsStatus>>>,
    /// Whether `init` has found this boot good.
    pub(crate) good: Arc<AtomicBool>,
    /// How many more times `init` refuses to raise floors.
    pub(crate) refusals: Arc<AtomicU32>,
}

impl Tray {
    /// A rack with one tray and no workload, its artifact published, the daemon not yet started.
    pub(crate) fn new() -> Result<Self> {
        let dir = scratch()?;
        let server = GitServer::start(&dir.path().join("s"))?;
        let bare = server.create_repository("rack", "sha1")?;
        let mut tray = Self {
            dir,
            server,
            bare,
            artifact: String::new(),
            daemon: None,
            told: Arc::default(),
            floors: Arc::default(),
            slots: Arc::default(),
            good: Arc::default(),
            refusals: Arc::default(),
        };
        for folder in ["keys", "handoff", "guest", "run"] {
            fs::create_dir(tray.path(folder))?;
        }
        for key in ["owner", "stranger"] {
            tray.make_key(key)?;
        }
        tray.hand_over()?;
        tray.start_neighbours()?;
        tray.make_repository()?;
        tray.artifact = tray.publish(
            Kind::Artifact,
            "server",
            1,
            &[("rootfs", b"a root file system")],
        )?;
        Ok(tray)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make_key(&self, name: &str) -> Result<()> {
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(self.key(name));
        output(&mut command).map(drop)
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.path("keys").join(name)
    }

    fn public(&self, name: &str) -> Result<PublicKey> {
        let text = fs::read_to_string(self.key(name).with_extension("pub"))?;
        text.trim().parse().context("a public key")
    }

    fn root(&self) -> Result<TrustRoot> {
        let keys = RoleKeys {
            threshold: 1,
            keys: vec![self.public("owner")?],
        };
        let roles = Roles {
            root: keys.clone(),
            config: keys.clone(),
            payload: keys.clone(),
            firmware: keys,
        };
        Ok(TrustRoot::new(RACK.parse()?, 1, roles)?)
    }

    /// What the bootstrap would have left behind.
    fn hand_over(&self) -> Result<()> {
        self.hand_over_with(None, 1)
    }

    /// The same, with what it accepted and the newest signed time that it knows.
    pub(crate) fn hand_over_with(&self, head: Option<Head>, time_floor: u64) -> Result<()> {
        let handoff = self.path("handoff");
        fs::write(handoff.join("trust-root.json"), self.root()?.to_canonical())?;
        let identity = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)?;
        let tray = json!({
            "v": 1, "rack": RACK, "tray": "tray-1", "board": "qemu-x86_64", "built": 1,
            "repository": {"url": self.server.url("rack"), "ca": fs::read_to_string(self.server.authority())?},
            "identity": identity.serialize_pem(),
        });
        fs::write(handoff.join("tray.json"), tray.to_string())?;
        let given = json!({
            "v": 1, "head": head, "trustRoot": 1, "timeFloor": time_floor, "time": {"unix": 1, "source": "rtc"}, "boot": null,
            "payload": {"manifest": "00".repeat(32), "name": "stable", "version": 1, "fallback": null},
            "lease": null, "persistent": true,
        });
        fs::write(handoff.join("handoff.json"), given.to_string())?;
        for file in ["vmlinux", "initramfs.cpio"] {
            fs::write(self.path("guest").join(file), b"never started here")?;
        }
        Ok(())
    }

    /// Changes a value of what the bootstrap left behind.
    pub(crate) fn hand_over_value(&self, file: &str, pointer: &str, value: Value) -> Result<()> {
        let path = self.path("handoff").join(file);
        let mut given: Value = serde_json::from_slice(&fs::read(&path)?)?;
        match given.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => given[pointer.trim_start_matches('/')] = value,
        }
        Ok(fs::write(path, given.to_string())?)
    }

    fn start_neighbours(&self) -> Result<()> {
        let (told, floors) = (Arc::clone(&self.told), Arc::clone(&self.floors));
        let (good, refusals) = (Arc::clone(&self.good), Arc::clone(&self.refusals));
        let slots = Arc::clone(&self.slots);
        let handoff: Handoff =
            serde_json::from_slice(&fs::read(self.path("handoff/handoff.json"))?)?;
        answer(&self.path("run/init.sock"), move |asked| {
            if asked["op"] == "status" {
                let status = init::Status {
                    tray: "tray-1".into(),
                    rack: RACK.into(),
                    handoff: handoff.clone(),
                    floors: floors.lock().expect("lock").clone(),
                    marked_good: good.load(Ordering::SeqCst),
                    uptime: 1,
                    state: init::StateStatus {
                        read_only: true,
                        reason: Some("the card takes no writes".into()),
                        ..init::StateStatus::default()
                    },
                    slots: slots.lock().expect("lock").clone(),
                    services: BTreeMap::new(),
                };
                return json!({"v": 1, "ok": true, "status": status});
            }
            let fewer = |left: u32| left.checked_sub(1);
            if asked["op"] == "raise"
                && refusals
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer)
                    .is_ok()
            {
                return json!({"v": 1, "ok": false, "error": "not now"});
            }
            told.lock().expect("lock").push(asked);
            json!({"v": 1, "ok": true})
        })?;
        // As strict as the real one: an address belongs to one workload until that lets go of it.
        let owners: Mutex<BTreeMap<String, String>> = Mutex::default();
        answer(&self.path("run/netd.sock"), move |asked| {
            let mut owners = owners.lock().expect("lock");
            let mut response = net::Response::done();
            let asked: net::Request = serde_json::from_value(asked).expect("a good request");
            match asked.op {
                net::Op::Attach { port, .. } => {
                    for address in &port.addresses {
                        let owner = owners
                            .entry(address.to_string())
                            .or_insert_with(|| port.workload.clone());
                        if *owner != port.workload {
                            let refused = net::Response::refused(format!("{address} is {owner}'s"));
                            return serde_json::to_value(refused).expect("json");
                        }
                    }
                    let dns = vec!["10.80.0.1".parse().expect("ip")];
                    response.attached = Some(net::Attached {
                        tap: "tap7".into(),
                        mtu: 1500,
                        dns,
                    });
                }
                net::Op::Detach { workload } => owners.retain(|_, owner| *owner != workload),
                net::Op::Retain { .. } | net::Op::Status => {}
            }
            serde_json::to_value(response).expect("json")
        })
    }

    fn make_repository(&self) -> Result<()> {
        let work = self.path("rack");
        output(
            Command::new("git")
                .args(["init", "-q", "-b", "main", "--template="])
                .arg(&work),
        )?;
        // How commits come to the server is not what is looked at here: they are written to its disk, which saves a push two programs
        // and a handshake each. One file at once saves a start of git per line.
        let (key, bare) = (self.key("owner"), &self.bare);
        fs::OpenOptions::new()
            .append(true)
            .open(work.join(".git/config"))?
            .write_all(
                format!(
                    "[user]\n\tname = Owner\n\temail = owner@example.org\n\tsigningkey = {}\n\
                     [gpg]\n\tformat = ssh\n[commit]\n\tgpgsign = true\n[maintenance]\n\tauto = false\n\
                     [remote \"origin\"]\n\turl = {}\n",
                    key.display(),
                    bare.display()
                )
                .as_bytes(),
            )?;
        self.write("rack.yaml", RACK_YAML)?;
        self.write("trays/tray-1.yaml", TRAY_YAML)?;
        self.write("networks/lan.yaml", NETWORK_YAML)?;
        let root = self.root()?.to_canonical();
        fs::create_dir_all(work.join("trust/1/signatures"))?;
        fs::write(work.join("trust/1/root.json"), &root)?;
        fs::write(
            work.join("trust/1/signatures/1.sig"),
            self.sign("owner", "trust-root@racklet.dev", &root)?,
        )?;
        self.push("the rack").map(drop)
    }

    /// An SSHSIG, as everybody can make it.
    pub(crate) fn sign(&self, key: &str, namespace: &str, message: &[u8]) -> Result<String> {
        let mut child = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(self.key(key))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        child.stdin.take().context("stdin")?.write_all(message)?;
        let out = child.wait_with_output()?;
        ensure!(out.status.success(), "ssh-keygen failed");
        Ok(String::from_utf8(out.stdout)?)
    }

    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path("rack").join(path);
        fs::create_dir_all(path.parent().context("a folder")?)?;
        Ok(fs::write(path, text)?)
    }

    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        Ok(fs::remove_file(self.path("rack").join(path))?)
    }

    /// Commits everything and pushes it; the commit's name.
    pub(crate) fn push(&self, message: &str) -> Result<String> {
        self.push_with(message, &[])
    }

    /// The same with a moment of the past in the commit.
    pub(crate) fn push_at(&self, message: &str, unix: u64) -> Result<String> {
        self.push_dated(message, &[], Some(unix))
    }

    /// The same with Git configuration of its own, for example another key.
    pub(crate) fn push_with(&self, message: &str, configuration: &[&str]) -> Result<String> {
        self.push_dated(message, configuration, None)
    }

    fn push_dated(
        &self,
        message: &str,
        configuration: &[&str],
        unix: Option<u64>,
    ) -> Result<String> {
        let work = self.path("rack");
        output(git(&work).args(["add", "-A"]))?;
        let mut commit = git(&work);
        commit.envs(unix.map(|unix| ("GIT_COMMITTER_DATE", format!("{unix} +0000"))));
        for entry in configuration {
            commit.args(["-c", entry]);
        }
        output(commit.args(["commit", "-q", "-m", message]))?;
        output(git(&work).args(["push", "-q", "--force", "origin", "main"]))?;
        let head = fs::read_to_string(work.join(".git/refs/heads/main"))?;
        Ok(head.trim().to_owned())
    }

    /// Signs and publishes a payload or artifact of these files; the digest of its manifest.
    pub(crate) fn publish(
        &self,
        kind: Kind,
        name: &str,
        version: u64,
        files: &[(&str, &[u8])],
    ) -> Result<String> {
        self.publish_until(kind, name, version, files, None)
    }

    /// The same with the moment from which it must not be used any more.
    pub(crate) fn publish_until(
        &self,
        kind: Kind,
        name: &str,
        version: u64,
        files: &[(&str, &[u8])],
        expires: Option<u64>,
    ) -> Result<String> {
        let folder = self.path(&format!("{kind}-{name}-{version}"));
        fs::create_dir_all(folder.join("signatures"))?;
        let mut manifest = Manifest::new(kind, name, version, Architecture::HERE);
        if kind != Kind::Artifact {
            manifest.boards = vec!["qemu-x86_64".into()];
        }
        manifest.created = 1;
        manifest.expires = expires;
        for (file, bytes) in files {
            let file = publish::split(file, *bytes, |chunk, packed| {
                let path = folder.join(publish::chunk_path(chunk.sha256));
                fs::create_dir_all(path.parent().expect("chunks are in folders"))?;
                fs::write(path, packed)
            })?;
            manifest.files.push(file);
        }
        let bytes = manifest.to_canonical();
        fs::write(folder.join(publish::MANIFEST_PATH), &bytes)?;
        let signature = self.sign("owner", "manifest@racklet.dev", &bytes)?;
        fs::write(folder.join(publish::signature_path(1)), signature)?;
        let digest = Digest::of(&bytes).to_string();
        let branch = format!("{kind}/{name}");
        self.server.serve("rack", &branch, &digest, &folder)?;
        Ok(digest)
    }

    /// A workload that runs `command` (a YAML list), with further lines for its spec.
    pub(crate) fn workload(&self, name: &str, command: &str, more: &str) -> Result<()> {
        let artifact = &self.artifact;
        let text = format!(
            "apiVersion: racklet.dev/v1alpha1\nkind: MicroVM\nmetadata: {{name: {name}}}\nspec:\n  tray: tray-1\n  \
             rootfs: {{artifact: server, manifest: \"sha256:{artifact}\"}}\n  memory: 64Mi\n  graceSeconds: 0\n  command: {command}\n{more}"
        );
        self.write(&format!("workloads/{name}.yaml"), &text)
    }

    /// Starts the daemon, or starts it again.
    pub(crate) fn start(&mut self) -> Result<()> {
        let program = Path::new(env!("CARGO_BIN_EXE_hypervisor"));
        let monitor = program
            .parent()
            .context("target folder")?
            .join("examples/stand-in-monitor");
        ensure!(
            monitor.exists(),
            "{} is built by `cargo test` of this crate",
            monitor.display()
        );
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("console"))?;
        let child = Command::new(program)
            .arg("--state")
            .arg(self.path("state"))
            .arg("--run")
            .arg(self.path("run"))
            .arg("--handoff")
            .arg(self.path("handoff"))
            .arg("--guest")
            .arg(self.path("guest"))
            .arg("--vmm")
            .arg(monitor)
            .args(["--cgroup", "none", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.daemon = Some(child);
        Ok(())
    }

    /// Ends the daemon as a power-hungry kernel would: without a chance to say anything.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("it runs")?;
        daemon.kill()?;
        daemon.wait()?;
        Ok(())
    }

    /// KiB that the daemon alone uses.
    pub(crate) fn own_memory(&self) -> Result<u64> {
        let daemon = self.daemon.as_ref().context("it runs")?.id();
        let rollup = fs::read_to_string(format!("/proc/{daemon}/smaps_rollup"))?;
        let line = (rollup.lines()).find_map(|line| line.strip_prefix("Private_Dirty:"));
        let words = line.context("no such line")?.trim();
        Ok(words.trim_end_matches(" kB").trim().parse()?)
    }

    /// The living processes that were started with this workload's folder.
    pub(crate) fn monitors(&self, workload: &str) -> Vec<String> {
        let folder = self.path("run/vm").join(workload).display().to_string();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut found: Vec<String> = processes
            .filter_map(|entry| {
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let is_it = line
                    .split(|b| *b == 0)
                    .skip(1)
                    .any(|word| word == folder.as_bytes());
                is_it.then(|| entry.file_name().to_string_lossy().into_owned())
            })
            .collect();
        found.sort();
        found
    }

    pub(crate) fn console(&self) -> String {
        fs::read_to_string(self.path("console")).unwrap_or_default()
    }

    /// Asks over the Unix socket.
    pub(crate) fn ask(&self, method: &str, target: &str) -> Result<(u16, String)> {
        let mut socket = UnixStream::connect(self.path("run/hypervisor.sock"))?;
        socket.set_read_timeout(Some(BOUND))?;
        write!(socket, "{method} {target} HTTP/1.1\r\nHost: tray\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        parse(&text)
    }

    pub(crate) fn state(&self) -> Result<Value> {
        let (status, body) = self.ask("GET", "/v1/state")?;
        ensure!(status == 200, "{status}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Waits until the state answers `probe`.
    pub(crate) fn until<T>(&self, what: &str, probe: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let mut last = Value::Null;
        let found = until(what, BOUND, || {
            // The daemon may be about to start.
            let Ok(state) = self.state() else {
                return Ok(None);
            };
            last = state;
            Ok(probe(&last))
        });
        found.with_context(|| {
            format!(
                "the last state was {last:#}\nthe console said\n{}",
                self.console()
            )
        })
    }

    /// Waits until everything is as the newest commit wants it, and gives the state.
    pub(crate) fn converged(&self, commit: &str) -> Result<Value> {
        self.until("converged", |state| {
            (state["head"]["commit"] == commit && state["converged"] == true).then(|| state.clone())
        })
    }
}

impl Drop for Tray {
    fn drop(&mut self) {
        let _ = self.kill();
        // Monitors outlive the daemon: that is the point of some tests, and the end of these.
        for entry in fs::read_dir(self.path("run/vm"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let status = fs::read(entry.path().join("status.json")).unwrap_or_default();
            let status: Value = serde_json::from_slice(&status).unwrap_or_default();
            if let Some(pid) = status["pid"].as_u64().filter(|_| status["state"] == "up") {
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
            }
        }
    }
}

/// Answers every line of every connection, from a thread.
fn answer(socket: &Path, respond: impl Fn(Value) -> Value + Send + 'static) -> Result<()> {
    let listener = UnixListener::bind(socket)?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            while let Ok(Some(asked)) = racklet_line::read::<Value>(&mut reader) {
                if racklet_line::write(&mut &stream, &respond(asked)).is_err() {
                    break;
                }
            }
        }
    });
    Ok(())
}

/// Status and body of a response.
pub(crate) fn parse(text: &str) -> Result<(u16, String)> {
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        bail!("no response: {text:?}")
    };
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// The workload `name` in a state.
pub(crate) fn workload<'s>(state: &'s Value, name: &str) -> &'s Value {
    let all = state["workloads"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    all.iter()
        .find(|w| w["name"] == name)
        .unwrap_or(&Value::Null)
}

/// Whether a process is there and not only waiting to be reaped.
pub(crate) fn alive(pid: &Value) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
