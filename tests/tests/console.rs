// SPDX-License-Identifier: Apache-2.0
//! The console of a tray through its BMC: our image on an emulated microcontroller, whose serial line is that of an emulated tray, and
//! `racklet console` and OpenSSL at the other end of TLS.
#![forbid(unsafe_code)]

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use racklet_tests::{bmc::Bmc, process::Process, qemu::Machine, scene::Scene, until::until};

/// A boot as far as it is looked at here, on an emulated processor.
const BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);

/// A BMC that is enrolled, and somebody who may type on its console.
struct Desk {
    scene: Scene,
    bmc: Bmc,
    /// Short, because of the sockets in it.
    folder: tempfile::TempDir,
}

impl Desk {
    fn new(name: &str) -> Result<Self> {
        let scene = Scene::new(name)?;
        let folder = tempfile::Builder::new().prefix("racklet-").tempdir()?;
        let vault = folder.path().join("vault");
        scene
            .rack
            .racklet(&["key", "issue", "ada", "--role", "operator"])
            .within()
            .run()?;
        let vault_at = vault.display().to_string();
        scene
            .rack
            .racklet(&["key", "enrol", "tray-1", "-o", &vault_at])
            .within()
            .run()?;
        let mut bmc = Bmc::start(&folder.path().join("bmc"), Some(&vault))?;
        bmc.says("listening")?;
        bmc.has_line()?;
        Ok(Self { scene, bmc, folder })
    }

    /// `racklet console`, whose output grows in a file of this name.
    fn reads(&self, name: &str, arguments: &[&str]) -> Result<(Process, PathBuf)> {
        let file = self.folder.path().join(name);
        let process = Process::spawn(
            name,
            Command::new(self.scene.rack.program())
                .args([
                    "console",
                    "tray-1",
                    "--no-input",
                    "--address",
                    &self.bmc.address(),
                ])
                .args(arguments)
                .current_dir(self.scene.rack.repository())
                .env("HOME", self.scene.rack.home())
                .env_remove("XDG_DATA_HOME")
                .stdin(Stdio::null()),
            &file,
        )?;
        Ok((process, file))
    }

    /// What the console has now, and what comes until nothing does for a second.
    fn history(&self) -> Result<String> {
        let address = self.bmc.address();
        self.scene
            .rack
            .racklet(&[
                "console",
                "tray-1",
                "--no-input",
                "--idle",
                "1",
                "--address",
                &address,
            ])
            .args(["--since", "start"])
            .within()
            .run()
    }

    /// The line itself, where a tray would be.
    fn line(&self) -> Result<UnixStream> {
        let line = UnixStream::connect(self.bmc.line())?;
        line.set_read_timeout(Some(SOON))?;
        Ok(line)
    }

    fn keys(&self) -> Result<PathBuf> {
        let data = self.scene.rack.home().join(".local/share/racklet");
        let racks = std::fs::read_dir(&data)?;
        let found = racks
            .flatten()
            .map(|rack| rack.path().join("management"))
            .find(|folder| folder.exists());
        found.context("the rack has no authority")
    }

    /// What OpenSSL says of a session with these arguments.
    fn openssl(&self, arguments: &[&str]) -> Result<String> {
        let authority = self.keys()?.join("authority.pem");
        let mut client = Command::new("timeout")
            .args(["20", "openssl", "s_client", "-connect", &self.bmc.address()])
            .args(["-servername", "tray-1", "-verify_hostname", "tray-1"])
            .args(["-alpn", "racklet-console/1"])
            .arg("-CAfile")
            .arg(authority)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        // Whether a certificate was good enough, a server of TLS 1.3 says after the handshake: OpenSSL has to stay and listen.
        std::thread::sleep(Duration::from_secs(3));
        drop(client.stdin.take());
        let out = client.wait_with_output()?;
        Ok(String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    }

    fn openssl_with(&self, folder: &Path, more: &[&str]) -> Result<String> {
        let certificate = folder.join("people/ada.pem").display().to_string();
        let key = folder.join("people/ada.key").display().to_string();
        self.openssl(&[&["-cert", &certificate, "-key", &key], more].concat())
    }
}

fn comes(file: &Path, what: &str, bound: Duration) -> Result<()> {
    until(&format!("the reader shows {what:?}"), bound, || {
        let text = std::fs::read(file).unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).contains(what).then_some(()))
    })
}

#[test]
fn a_boot_is_seen_live_and_afterwards_and_after_a_reset_of_the_bmc() -> Result<()> {
    let mut desk = Desk::new("console-boot")?;
    let (_reader, shown) = desk.reads("live", &["--since", "start"])?;
    let machine = Machine {
        line: Some(desk.bmc.line()),
        ..Machine::default()
    };
    let mut tray = desk.scene.boot_on(&machine)?;
    // The bootloader, then Linux with PID 1, by what the tray itself printed.
    tray.wait_for("slot a: ", BOOT)?;
    comes(&shown, "slot a: ", SOON)?;
    tray.wait_for("Linux version", BOOT)?;
    comes(&shown, "Linux version", SOON)?;
    ensure!(
        desk.history()?.contains("slot a: "),
        "not there for who comes later"
    );
    desk.bmc.reset()?;
    desk.bmc.says("history goes on")?;
    desk.bmc.says("listening")?;
    ensure!(
        desk.history()?.contains("slot a: "),
        "not there after a reset"
    );
    // The first reader came back by itself, and the tray never noticed.
    tray.wait_for("kexec", BOOT)?;
    comes(&shown, "kexec", SOON)?;
    tray.check()
}

#[test]
fn every_byte_arrives_once_while_another_reader_stands_still() -> Result<()> {
    let desk = Desk::new("console-bytes")?;
    let mut line = desk.line()?;
    // Connected, and never read again once it was let in.
    let keys = desk.keys()?;
    let (certificate, key) = (keys.join("people/ada.pem"), keys.join("people/ada.key"));
    let mut stalled = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-connect",
            &desk.bmc.address(),
            "-alpn",
            "racklet-console/1",
            "-cert",
        ])
        .arg(certificate)
        .arg("-key")
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut ask = stalled.stdin.take().context("a pipe")?;
    // Attach, from the oldest byte on (lib/wire).
    ask.write_all(&[1, 1, 0, 0])?;
    let (_reader, shown) = desk.reads("good", &["--since", "start"])?;
    let printed: String = (0..20_000).map(|number| format!("{number:07}\n")).collect();
    line.write_all(printed.as_bytes())?;
    comes(&shown, "0019999\n", SOON * 2)?;
    let text = std::fs::read_to_string(&shown)?;
    ensure!(text == printed, "{} bytes of {}", text.len(), printed.len());
    // 160 KB went past it; it is told what it lost as soon as it reads on, and gets the rest.
    drop(ask);
    stalled.kill()?;
    stalled.wait()?;
    let history = desk.history()?;
    ensure!(
        printed.ends_with(&history) && history.len() > 64 << 10,
        "{} bytes are kept",
        history.len()
    );
    Ok(())
}

#[test]
fn what_is_typed_reaches_the_tray_and_only_from_who_may_type() -> Result<()> {
    let desk = Desk::new("console-input")?;
    let mut line = desk.line()?;
    desk.scene
        .rack
        .racklet(&["key", "issue", "bob", "--role", "viewer"])
        .within()
        .run()?;
    let types = |who: &str, what: &str| -> Result<()> {
        let mut process = Command::new(desk.scene.rack.program())
            .args([
                "console", "tray-1", "--since", "now", "--idle", "3", "--as", who,
            ])
            .args(["--address", &desk.bmc.address()])
            .current_dir(desk.scene.rack.repository())
            .env("HOME", desk.scene.rack.home())
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::piped())
            .spawn()?;
        process
            .stdin
            .take()
            .context("a pipe")?
            .write_all(what.as_bytes())?;
        ensure!(process.wait()?.success(), "racklet console of {who}");
        Ok(())
    };
    types("bob", "forbidden")?;
    types("ada", "reboot")?;
    let mut got = [0; 6];
    line.read_exact(&mut got)?;
    ensure!(&got == b"reboot", "{:?}", String::from_utf8_lossy(&got));
    Ok(())
}

#[test]
fn nobody_gets_in_without_a_certificate_of_the_rack_or_with_an_older_tls() -> Result<()> {
    let desk = Desk::new("console-access")?;
    let mine = desk.keys()?;
    // As a control: OpenSSL gets in with it, and finds the BMC to be who it says.
    let good = desk.openssl_with(&mine, &[])?;
    ensure!(good.contains("Verify return code: 0 (ok)"), "{good}");
    ensure!(
        good.contains("TLSv1.3") && good.contains("ALPN protocol: racklet-console/1"),
        "{good}"
    );
    ensure!(!good.contains("alert"), "{good}");
    let none = desk.openssl(&[])?;
    ensure!(none.contains("alert certificate required"), "{none}");
    let old = desk.openssl_with(&mine, &["-tls1_2"])?;
    ensure!(
        old.contains("alert") && !old.contains("Cipher is TLS_"),
        "{old}"
    );
    // Another rack's authority, and a certificate of its.
    let other = Scene::new("console-access-other")?;
    other
        .rack
        .racklet(&["key", "issue", "ada", "--role", "owner"])
        .within()
        .run()?;
    let data = other.rack.home().join(".local/share/racklet");
    let rack = std::fs::read_dir(data)?
        .flatten()
        .map(|rack| rack.path().join("management"))
        .find(|folder| folder.exists())
        .context("the other rack has no authority")?;
    let foreign = desk.openssl_with(&rack, &[])?;
    ensure!(
        foreign.contains("alert unknown ca") || foreign.contains("alert decrypt error"),
        "{foreign}"
    );
    Ok(())
}
