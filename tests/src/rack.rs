// SPDX-License-Identifier: Apache-2.0
//! A rack as its owner makes it: keys, repository, payload, workload and a tray's image, all with `racklet` and the ordinary
//! `git`, pushed to a [`GitServer`].

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use racklet_boards::Boot;
use serde_json::Value;

use crate::{
    artifacts::Artifacts,
    board::board,
    process::{describe, git, output},
    servers::GitServer,
};

mod packages;

pub use packages::sha256;

/// The tray that every rack here has.
pub const TRAY: &str = "tray-1";
/// The workload that every rack here has.
pub const WORKLOAD: &str = "web";
/// What it says at first.
pub const FIRST_MESSAGE: &str = "first edition";

/// What the workload runs: says its message in its log and serves it as a page.
const START: &str = "\
#!/bin/sh
echo \"serving: $MESSAGE\"
mkdir -p /www && echo \"<h1>$MESSAGE</h1>\" > /www/index.html
exec httpd -f -v -p 80 -h /www
";

/// A rack and the key of its owner.
#[derive(Debug, Clone)]
pub struct Rack {
    folder: PathBuf,
    racklet: PathBuf,
    /// The board its tray is built on.
    board: String,
    /// Name of its repository on the server.
    name: String,
    /// Where trays find that.
    url: String,
}

impl Rack {
    /// Makes a rack named `name` in `folder` with its first workload and pushes all of it to `server`. Its payload adds
    /// `arguments` to the kernel's.
    ///
    /// # Errors
    /// When a tool fails; with what it said.
    pub fn create(
        name: &str,
        folder: &Path,
        artifacts: &Artifacts,
        arguments: &str,
        server: &GitServer,
    ) -> Result<Self> {
        Self::create_for(&board().name, name, folder, artifacts, arguments, server)
    }

    /// As [`Rack::create`], for a tray of this board.
    ///
    /// # Errors
    /// When a tool fails; with what it said.
    pub fn create_for(
        board: &str,
        name: &str,
        folder: &Path,
        artifacts: &Artifacts,
        arguments: &str,
        server: &GitServer,
    ) -> Result<Self> {
        fs::create_dir_all(folder.join("home/.ssh")).context("home of the rack's owner")?;
        let rack = Self {
            folder: folder.into(),
            racklet: artifacts.racklet(),
            board: board.into(),
            name: name.into(),
            url: server.url_for_trays(name),
        };
        output(
            Command::new("ssh-keygen")
                .args([
                    "-q",
                    "-t",
                    "ed25519",
                    "-N",
                    "",
                    "-C",
                    "owner@rack.example",
                    "-f",
                ])
                .arg(rack.key()),
        )?;
        let (kernel, initramfs) = (artifacts.kernel(), artifacts.host_initramfs());
        rack.system(
            "payload", "stable", 1, &kernel, &initramfs, arguments, artifacts,
        )?;
        rack.racklet(&[
            "rack",
            "init",
            "repository",
            "--name",
            name,
            "--tray",
            TRAY,
            "--board",
            &rack.board,
        ])
        .args([
            "--repository",
            &server.url_for_trays(name),
            "--poll",
            "2",
            "--payload",
            "stable-1",
        ])
        .arg("--ca")
        .arg(server.authority())
        .arg("--key")
        .arg(rack.key())
        .run()?;
        let format = rack.git(&["rev-parse", "--show-object-format"])?;
        server.create_repository(name, format.trim())?;
        server.teach(&rack.repository())?;
        // `origin` is where trays find it; from here the same server has another address.
        rack.git(&[
            "config",
            &format!("url.{}.insteadOf", server.url(name)),
            &rack.url,
        ])?;
        rack.git(&["config", "user.name", "Rack Owner"])?;
        rack.git(&["config", "user.email", "owner@rack.example"])?;
        rack.publish("payload", "stable-1")?;

        rack.artifact(WORKLOAD, 1, artifacts)?;
        rack.publish("artifact", "web-1")?;
        rack.write("workloads/web.yaml", &workload(FIRST_MESSAGE))?;
        rack.racklet(&["artifact", "pin", "../web-1"])
            .within()
            .run()?;
        rack.push("web: first workload")?;
        Ok(rack)
    }

    /// The working copy.
    #[must_use]
    pub fn repository(&self) -> PathBuf {
        self.folder.join("repository")
    }

    /// Its owner's private key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.folder.join("home/.ssh/id_ed25519")
    }

    /// `git` in the working copy.
    ///
    /// # Errors
    /// When git fails; with what it said.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        output(
            git(&self.repository())
                .env("HOME", self.home())
                .args(arguments),
        )
    }

    /// Writes a file of the working copy.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, contents: &str) -> Result<()> {
        let path = self.repository().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, contents).with_context(|| format!("write {}", path.display()))
    }

    /// Commits everything, signed as the rack's configuration has it, pushes, and gives the commit's name.
    ///
    /// # Errors
    /// When git fails; with what it said.
    pub fn push(&self, message: &str) -> Result<String> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message])?;
        self.git(&["push", "--quiet", "--set-upstream", "origin", "main"])?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Signs and publishes a built image of the workload, pins it, and pushes that.
    ///
    /// # Errors
    /// When a tool fails; with what it said.
    pub fn upgrade(&self, package: &str) -> Result<String> {
        self.publish("artifact", package)?;
        self.racklet(&["artifact", "pin", &format!("../{package}")])
            .within()
            .run()?;
        self.push(&format!("web: image {package}"))
    }

    /// Changes what the workload says, and pushes that.
    ///
    /// # Errors
    /// When git fails; with what it said.
    pub fn edit(&self, message: &str) -> Result<String> {
        let path = self.repository().join("workloads/web.yaml");
        let text = fs::read_to_string(&path)?;
        let lines: Vec<String> = text
            .lines()
            .map(|line| match line.split_once("MESSAGE: ") {
                Some((indent, _)) => format!("{indent}MESSAGE: {message}"),
                None => line.to_owned(),
            })
            .collect();
        self.write("workloads/web.yaml", &(lines.join("\n") + "\n"))?;
        self.push(&format!("web: {message}"))
    }

    /// Builds, but neither signs nor publishes, a payload with this initramfs in the folder `<name>-<version>`.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn payload_of(
        &self,
        name: &str,
        version: u32,
        initramfs: &Path,
        artifacts: &Artifacts,
    ) -> Result<()> {
        let kernel = artifacts.kernel();
        self.system("payload", name, version, &kernel, initramfs, "", artifacts)
    }

    /// Builds, but neither signs nor publishes, a bootstrap with this initramfs in the folder `bootstrap-<version>`.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn bootstrap_of(
        &self,
        version: u32,
        initramfs: &Path,
        artifacts: &Artifacts,
    ) -> Result<()> {
        let (kind, kernel) = ("bootstrap", self.bootstrap_kernel(artifacts)?);
        self.system(kind, kind, version, &kernel, initramfs, "", artifacts)
    }

    /// UEFI starts the one that unpacks itself, a board's own firmware the one that kexec starts.
    fn bootstrap_kernel(&self, artifacts: &Artifacts) -> Result<PathBuf> {
        Ok(match racklet_boards::find(&self.board)?.boot {
            Boot::Uefi => artifacts.bootstrap_kernel(),
            Boot::RaspberryPi => artifacts.kernel(),
        })
    }

    #[allow(clippy::too_many_arguments, reason = "they are what it is made of")]
    fn system(
        &self,
        kind: &str,
        name: &str,
        version: u32,
        kernel: &Path,
        initramfs: &Path,
        arguments: &str,
        artifacts: &Artifacts,
    ) -> Result<()> {
        let mut build = self.racklet(&[
            kind,
            "build",
            "--board",
            &self.board,
            "--name",
            name,
            "--version",
            &version.to_string(),
        ]);
        if kind == "bootstrap" && racklet_boards::find(&self.board)?.firmware.is_some() {
            let folder = artifacts.path(&format!("firmware/{}", self.board));
            build = build.arg("--firmware").arg(folder);
        }
        build
            .args(["--output", &format!("{name}-{version}")])
            .args(["--source", &format!("linux={}", artifacts.linux_source()?)])
            .args(["--arguments", arguments])
            .arg("--kernel")
            .arg(kernel)
            .arg("--initramfs")
            .arg(initramfs)
            .run()?;
        Ok(())
    }

    /// Builds, but neither signs nor publishes, the workload's image in the folder `<name>-<version>`.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn artifact(&self, name: &str, version: u32, artifacts: &Artifacts) -> Result<()> {
        self.artifact_with(name, version, artifacts, &[])
    }

    /// As [`Rack::artifact`], with a file `/data` in it when `data` is not empty.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn artifact_with(
        &self,
        name: &str,
        version: u32,
        artifacts: &Artifacts,
        data: &[u8],
    ) -> Result<()> {
        let root = self.folder.join(format!("{name}-{version}.root"));
        for folder in ["bin", "www", "tmp", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy(artifacts.busybox(), root.join("bin/busybox"))
            .context("busybox of the workload")?;
        for applet in ["sh", "httpd", "mkdir", "echo", "cat", "sleep", "wget"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        let start = root.join("bin/start");
        fs::write(&start, START)?;
        output(Command::new("chmod").arg("755").arg(&start))?;
        if !data.is_empty() {
            fs::write(root.join("data"), data).context("data of the workload's image")?;
        }
        self.racklet(&[
            "artifact",
            "build",
            "--name",
            name,
            "--version",
            &version.to_string(),
        ])
        .args(["--architecture", artifacts.architecture().name()])
        .args(["--output", &format!("{name}-{version}")])
        .arg("--from")
        .arg(&root)
        .run()?;
        Ok(())
    }

    /// Signs a built payload or artifact and pushes it to its branch.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn publish(&self, kind: &str, package: &str) -> Result<()> {
        let package = format!("../{package}");
        self.racklet(&[kind, "sign", &package]).within().run()?;
        self.racklet(&[kind, "publish", &package]).within().run()?;
        Ok(())
    }

    /// Builds, signs and publishes bootstrap `version`, whose initramfs is `initramfs`, and pins it. Gives its manifest's digest.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn pin_bootstrap(
        &self,
        version: u32,
        initramfs: &[u8],
        artifacts: &Artifacts,
    ) -> Result<String> {
        let file = self.package(&format!("initramfs-{version}"));
        fs::write(&file, initramfs)?;
        self.bootstrap_of(version, &file, artifacts)?;
        let package = format!("bootstrap-{version}");
        self.publish("bootstrap", &package)?;
        self.repin_bootstrap(&package)
    }

    /// Pins a bootstrap that is published. Gives its manifest's digest.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn repin_bootstrap(&self, package: &str) -> Result<String> {
        let folder = format!("../{package}");
        self.racklet(&["bootstrap", "pin", &folder])
            .within()
            .run()?;
        self.push(&format!("stable: {package}"))?;
        sha256(&self.package(package).join("manifest.json"))
    }

    /// Builds the image of the tray's card and gives its path.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn image(&self, artifacts: &Artifacts) -> Result<PathBuf> {
        self.image_with(artifacts, "")
    }

    /// As [`Rack::image`], with more arguments for the bootstrap's kernel.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn image_with(&self, artifacts: &Artifacts, arguments: &str) -> Result<PathBuf> {
        self.system(
            "bootstrap",
            "bootstrap",
            1,
            &self.bootstrap_kernel(artifacts)?,
            &artifacts.bootstrap_initramfs(),
            arguments,
            artifacts,
        )?;
        self.racklet(&["bootstrap", "sign", "../bootstrap-1"])
            .within()
            .run()?;
        self.image_at(artifacts, TRAY, &self.url)
    }

    /// An image called `name`, for a tray that finds the rack at `url`, of the bootstrap that is there already.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn image_at(&self, artifacts: &Artifacts, name: &str, url: &str) -> Result<PathBuf> {
        let image = self.folder.join(format!("{name}.img"));
        self.racklet(&["image", "build", "--board", &self.board, "--tray", TRAY])
            .within()
            .args(["--bootstrap", "../bootstrap-1"])
            .args(["--url", url])
            .arg("--bootloader")
            .arg(artifacts.bootloader())
            .arg("--output")
            .arg(&image)
            .run()?;
        Ok(image)
    }

    /// What a tray without a card starts, with that bootstrap.
    ///
    /// # Errors
    /// When `racklet` fails; with what it said.
    pub fn netboot(&self, artifacts: &Artifacts) -> Result<PathBuf> {
        let file = self.folder.join("tray.efi");
        self.racklet(&["image", "build", "--netboot", "--tray", TRAY])
            .within()
            .args(["--bootstrap", "../bootstrap-1", "--url", &self.url])
            .arg("--bootloader")
            .arg(artifacts.bootloader())
            .arg("--output")
            .arg(&file)
            .run()?;
        Ok(file)
    }

    /// A `racklet` command line of the rack's owner, to be run in the folder of the rack.
    #[must_use]
    pub fn racklet(&self, arguments: &[&str]) -> Racklet {
        let mut command = Command::new(&self.racklet);
        command
            .args(arguments)
            .current_dir(&self.folder)
            .env("HOME", self.home())
            .env_remove("XDG_DATA_HOME")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("SSH_AUTH_SOCK");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GIT_") {
                command.env_remove(name);
            }
        }
        Racklet {
            command,
            repository: self.repository(),
        }
    }

    /// What the tray behind the loopback port `api` says about itself, whether all is well with it or not.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self, api: u16) -> Result<Value> {
        let text = self
            .racklet(&[
                "--json",
                "status",
                TRAY,
                "--address",
                &format!("127.0.0.1:{api}"),
            ])
            .within()
            .answer()?;
        let mut states: Vec<Value> =
            serde_json::from_str(&text).with_context(|| format!("racklet status said {text}"))?;
        let state = states.pop().context("racklet status said nothing")?;
        ensure!(state["error"].is_null(), "{TRAY}: {}", state["error"]);
        Ok(state)
    }

    /// The workload's log, as the tray behind the loopback port `api` has it.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn logs(&self, api: u16, workload: &str) -> Result<String> {
        self.racklet(&["logs", workload, "--address", &format!("127.0.0.1:{api}")])
            .within()
            .run()
    }

    /// The board its tray is built on.
    #[must_use]
    pub fn board(&self) -> &str {
        &self.board
    }

    /// Its name, which is also that of its repository on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The `racklet` it is worked with.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.racklet
    }

    /// The home folder of its owner.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }
}

/// A `racklet` command line.
#[derive(Debug)]
pub struct Racklet {
    command: Command,
    repository: PathBuf,
}

impl Racklet {
    /// Runs it in the rack repository.
    #[must_use]
    pub fn within(mut self) -> Self {
        self.command.current_dir(&self.repository);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.command.args(arguments);
        self
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs it and gives what it said.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn run(mut self) -> Result<String> {
        output(&mut self.command)
    }

    /// Runs it and gives its answer, also where that is bad news (exit code 1) and not a failure.
    ///
    /// # Errors
    /// When there is no answer; with what it said.
    pub fn answer(mut self) -> Result<String> {
        let line = describe(&self.command);
        let out = self.command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(
            matches!(out.status.code(), Some(0 | 1)) && !out.stdout.is_empty(),
            "{line}: {}\n{said}",
            out.status
        );
        Ok(String::from_utf8(out.stdout)?)
    }
}

/// The workload's file, before `racklet artifact pin` fills in the digest.
fn workload(message: &str) -> String {
    format!(
        "\
apiVersion: racklet.dev/v1alpha1
kind: MicroVM
metadata:
  name: {WORKLOAD}
spec:
  tray: {TRAY}
  rootfs:
    artifact: {WORKLOAD}
    manifest: sha256:{:064}
  cpus: 1
  memory: 64Mi
  command: [/bin/start]
  env:
    PATH: /bin
    MESSAGE: {message}
  network:
    name: lan
    address: 10.80.0.10
  restartPolicy: Always
",
        0
    )
}

/// How long a tray under emulation may take from power-on to a running workload.
pub const UP: Duration = Duration::from_secs(300);
