// SPDX-License-Identifier: Apache-2.0
//! A user's machine in a scratch folder: a home with keys, a rack, a server to push to.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Mutex;

use serde_json::Value;

use crate::schema;

pub(crate) struct World {
    folder: tempfile::TempDir,
    /// The commands whose JSON was held against the schema.
    checked: Mutex<BTreeSet<String>>,
}

/// A command that must succeed, and its standard output.
pub(crate) fn run(command: &mut Command) -> String {
    let out = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        out.status.success(),
        "{command:?}\n{}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
    text(&out.stdout)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Makes the rack called `rack`.
const INIT: [&str; 9] = [
    "rack",
    "init",
    "rack",
    "--tray",
    "tray-1",
    "--board",
    "qemu-x86_64",
    "--repository",
    "https://git.example/rack.git",
];

impl World {
    /// A home with one key, `id_ed25519`.
    pub(crate) fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            checked: Mutex::default(),
        };
        fs::create_dir_all(world.path("home/.ssh")).unwrap();
        world.keygen("home/.ssh/id_ed25519");
        // Neither templates nor tidying up, which cost a start of git and a dozen files each.
        world.write(
            "home/.gitconfig",
            "[user]\n\tname = Owner\n\temail = owner@h\n\
             [init]\n\ttemplateDir =\n[maintenance]\n\tauto = false\n[receive]\n\tautogc = false\n",
        );
        world
    }

    /// The same with a rack called `rack` and a bare repository `server.git`.
    pub(crate) fn with_rack() -> Self {
        let world = Self::new();
        world.ok(&INIT);
        world.server();
        world
    }

    /// The same, whose commits need the approval of a second key, `ben`.
    pub(crate) fn with_two_keys() -> Self {
        let world = Self::new();
        world.keygen("ben");
        let both = ["--key", "home/.ssh/id_ed25519", "--key", "ben"];
        let both = [&both[..], &["--threshold", "config=2"]].concat();
        world.ok(&[&INIT[..], &both].concat());
        world.server();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn keygen(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&path));
        path
    }

    pub(crate) fn server(&self) {
        run(&mut self.git(
            ".",
            &[
                "init",
                "-q",
                "--bare",
                "--object-format=sha256",
                "-b",
                "main",
                "server.git",
            ],
        ));
        run(self
            .git("rack", &["remote", "set-url", "--push", "origin"])
            .arg(self.path("server.git")));
        // Fetching from origin reaches the same place, while its address stays the one that trays use.
        let place = format!("url.{}.insteadOf", self.path("server.git").display());
        run(&mut self.git("rack", &["config", &place, "https://git.example/rack.git"]));
    }

    fn command(&self, program: &str, folder: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path(folder))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path("home"))
            .env("LC_ALL", "C.UTF-8")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        command
    }

    pub(crate) fn git(&self, folder: &str, args: &[&str]) -> Command {
        let mut command = self.command("git", folder);
        command.args(args);
        command
    }

    pub(crate) fn racklet_in(&self, folder: &str, args: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_racklet"), folder);
        command.args(args);
        command
    }

    /// Runs `racklet` beside the rack.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        run(&mut self.racklet_in(".", args))
    }

    /// Runs `racklet` inside of the rack.
    pub(crate) fn in_rack(&self, args: &[&str]) -> String {
        run(&mut self.racklet_in("rack", args))
    }

    /// The same, with `--json`.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let value =
            serde_json::from_str(&run(self.racklet_in("rack", args).arg("--json"))).unwrap();
        self.checked(args, &value);
        value
    }

    /// The same for a command that may fail: its exit status, and the one value on standard output.
    pub(crate) fn json_code(&self, args: &[&str]) -> (i32, Value) {
        let out = self
            .racklet_in("rack", args)
            .arg("--json")
            .output()
            .unwrap();
        let said = text(&out.stdout);
        let value = serde_json::from_str(&said)
            .unwrap_or_else(|error| panic!("racklet {args:?} said {said:?}: {error}"));
        self.checked(args, &value);
        (out.status.code().unwrap(), value)
    }

    fn checked(&self, args: &[&str], answer: &Value) {
        let name = schema::check(args, answer);
        self.checked.lock().unwrap().insert(name);
    }

    /// The commands whose JSON was held against the schema.
    pub(crate) fn all_checked(&self) -> BTreeSet<String> {
        self.checked.lock().unwrap().clone()
    }

    /// Runs `racklet` inside of the rack; it must refuse. What it said, on both outputs.
    pub(crate) fn refused(&self, args: &[&str]) -> String {
        let out: Output = self.racklet_in("rack", args).output().unwrap();
        let said = text(&out.stdout) + &text(&out.stderr);
        assert_eq!(
            out.status.code(),
            Some(1),
            "racklet {args:?} was expected to refuse:\n{said}"
        );
        said
    }

    /// The fingerprint of the rack's first trust root, as its maker sees it.
    pub(crate) fn root(&self) -> String {
        let config = ["config", "--get", "racklet.root"];
        run(&mut self.git("rack", &config)).trim().to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// Somebody without any key of the rack changes what the server has, and the rack is pulled.
    pub(crate) fn attack(&self, change: impl FnOnce(&Self)) {
        run(&mut self.git("rack", &["push", "-q", "-u", "origin", "main"]));
        run(&mut self.git(".", &["clone", "-q", "server.git", "eve"]));
        change(self);
        run(&mut self.git("eve", &["add", "-A"]));
        let eve = ["-c", "user.name=eve", "-c", "user.email=eve@h"];
        run(&mut self.git(
            "eve",
            &[&eve[..], &["commit", "-q", "--no-gpg-sign", "-m", "evil"]].concat(),
        ));
        run(&mut self.git("eve", &["push", "-q", "origin", "main"]));
        run(&mut self.git("rack", &["pull", "-q", "--ff-only"]));
    }

    pub(crate) fn commit(&self, message: &str) {
        run(&mut self.git("rack", &["add", "-A"]));
        run(&mut self.git("rack", &["commit", "-q", "-m", message]));
    }

    /// Something that looks like a kernel to everybody but a CPU.
    pub(crate) fn kernel(&self) -> PathBuf {
        let mut image = vec![0x5a; 300_000];
        image[..2].copy_from_slice(b"MZ");
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x236..0x238].copy_from_slice(&1u16.to_le_bytes());
        image[0x20e..0x210].copy_from_slice(&0x600u16.to_le_bytes());
        image[0x800..0x811].copy_from_slice(b"6.12.90 (a@b) #1\0");
        self.write("bzImage", image)
    }

    /// Builds a payload or bootstrap.
    pub(crate) fn build(&self, kind: &str, folder: &str, version: u64) -> Value {
        self.kernel();
        self.write("initramfs", vec![0x11; 100_000]);
        let (version, output) = (version.to_string(), format!("../{folder}"));
        self.json(&[
            kind,
            "build",
            "--kernel",
            "../bzImage",
            "--initramfs",
            "../initramfs",
            "--name",
            "stable",
            "--version",
            &version,
            "--board",
            "qemu-x86_64",
            "--created",
            "1790000000",
            "-o",
            &output,
        ])
    }

    /// Builds the artifact `web` out of one page.
    pub(crate) fn artifact(&self, folder: &str, page: &[u8]) -> Value {
        self.write("root/www/index.html", page);
        self.json(&[
            "artifact",
            "build",
            "--from",
            "../root",
            "--name",
            "web",
            "--created",
            "1790000000",
            "-o",
            &format!("../{folder}"),
        ])
    }

    /// A workload that runs the artifact.
    pub(crate) fn web(&self, built: &Value) {
        let digest = built["manifest"].as_str().unwrap();
        let example = self.read("rack/workloads/web.yaml.example");
        self.write(
            "rack/workloads/web.yaml",
            example.replace(&"0".repeat(64), digest),
        );
    }

    /// Payload and artifact: built, signed, published and pinned, but not committed.
    pub(crate) fn release(&self) {
        self.build("payload", "payload", 1);
        self.web(&self.artifact("artifact", b"<h1>one</h1>"));
        for kind in ["payload", "artifact"] {
            let folder = format!("../{kind}");
            for verb in ["sign", "publish", "pin"] {
                self.in_rack(&[kind, verb, &folder]);
            }
        }
    }

    /// Names of what a failed or interrupted command left in the scratch folder.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with('.'))
            .collect()
    }
}
