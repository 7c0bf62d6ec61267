// SPDX-License-Identifier: Apache-2.0
//! A network of one tray without a card: a namespace of its own, in which a DHCP server names the file that UEFI's HTTP Boot starts, and
//! a web server has it. What the tray then asks the rack's Git server goes through a relay, since that listens on loopback alone.

use std::{
    fs, io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    console::Console,
    process::{Process, bound_to_us, output, path_with_sbin},
    servers::HOST_AS_SEEN_BY_GUESTS,
    until::until,
};

const TAP: &str = "tray0";
/// The name of the file on the web server.
const FILE: &str = "tray.efi";
/// "x86_64 EFI HTTP boot" among the architectures of DHCP's option 93 (IANA, Processor Architecture Types).
const HTTP_X86_64: u16 = 0x10;

/// See the module. Dropping it ends the servers; the namespace goes with the thread.
#[derive(Debug)]
pub struct Lan {
    folder: PathBuf,
    servers: Vec<Process>,
}

impl Lan {
    /// Moves the calling thread, and what it starts from now on, into a new network namespace that has loopback and nothing else.
    ///
    /// # Errors
    /// Without root.
    pub fn enter() -> Result<()> {
        racklet_linux::netns::unshare().context("make a network namespace: this needs root")?;
        ip(&["link", "set", "lo", "up"])
    }

    /// Serves `file` to a tray's firmware, and relays what the tray sends to `port` to the same port of loopback.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub fn serve(folder: &Path, file: &Path, port: u16) -> Result<Self> {
        fs::create_dir_all(folder.join("www"))?;
        fs::copy(file, folder.join("www").join(FILE)).context("what is served")?;
        ip(&["tuntap", "add", TAP, "mode", "tap"])?;
        let address = format!("{HOST_AS_SEEN_BY_GUESTS}/24");
        ip(&["address", "add", &address, "dev", TAP])?;
        ip(&["link", "set", TAP, "up"])?;
        relay(port)?;
        let mut lan = Self {
            folder: folder.into(),
            servers: Vec::new(),
        };
        lan.start("dnsmasq", &lan.dhcp())?;
        fs::write(folder.join("web.conf"), lan.web())?;
        let config = folder.join("web.conf").display().to_string();
        lan.start("nginx", &["-c".into(), config])?;
        until("the web server listens", Duration::from_secs(20), || {
            for server in &mut lan.servers {
                server.check()?;
            }
            Ok(TcpStream::connect((HOST_AS_SEEN_BY_GUESTS, 80)).ok())
        })?;
        Ok(lan)
    }

    /// What is asked for as `http://…/tray.efi` from now on.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn exchange(&self, contents: &[u8]) -> Result<()> {
        Ok(fs::write(self.folder.join("www").join(FILE), contents)?)
    }

    fn start(&mut self, program: &str, arguments: &[String]) -> Result<()> {
        let mut command = bound_to_us(program);
        command.env("PATH", path_with_sbin()).args(arguments);
        let log = self.folder.join(format!("{program}.log"));
        self.servers
            .push(Process::spawn(program, &mut command, &log)?);
        Ok(())
    }

    fn dhcp(&self) -> Vec<String> {
        let leases = self.folder.join("leases");
        let whole = HOST_AS_SEEN_BY_GUESTS
            .rsplit_once('.')
            .map_or("", |it| it.0);
        let mut arguments: Vec<String> = ["--no-daemon", "--conf-file=/dev/null", "--user=root"]
            .map(str::to_owned)
            .into();
        // No names: port 0 switches DNS off.
        arguments.extend(["--port=0", "--no-resolv", "--bind-interfaces"].map(str::to_owned));
        arguments.extend([
            format!("--interface={TAP}"),
            format!("--dhcp-range={whole}.10,{whole}.20,1h"),
            format!("--dhcp-leasefile={}", leases.display()),
            format!("--dhcp-match=set:http,option:client-arch,{HTTP_X86_64}"),
            "--dhcp-option-force=tag:http,60,HTTPClient".to_owned(),
            format!("--dhcp-boot=tag:http,http://{HOST_AS_SEEN_BY_GUESTS}/{FILE}"),
        ]);
        arguments
    }

    fn web(&self) -> String {
        let root = self.folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
            .concat();
        format!(
            "daemon off;\nmaster_process off;\npid {root}/web.pid;\nerror_log {root}/web-error.log;\n\
             events {{}}\nhttp {{\naccess_log {root}/web-access.log;\n{temporary}\
             server {{ listen {HOST_AS_SEEN_BY_GUESTS}:80; root {root}/www; }}\n}}\n"
        )
    }
}

/// A machine with a card for the network and none for storage.
#[derive(Debug)]
pub struct Diskless {
    process: Process,
    console: Console,
}

impl Diskless {
    /// Switches it on; its firmware (OVMF) is told to ask for nothing but HTTP over IPv4.
    ///
    /// # Errors
    /// When QEMU or the firmware is missing or does not start.
    pub fn boot(lan: &Lan) -> Result<Self> {
        let folder = &lan.folder;
        let variables = folder.join("variables.fd");
        fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).context("OVMF's variables")?;
        let boots = (1..).find(|n| !folder.join(format!("console.{n}.log")).exists());
        let console = folder.join(format!("console.{}.log", boots.unwrap_or(1)));
        let flash =
            |more: &str, file: &Path| format!("if=pflash,format=raw,{more}file={}", file.display());
        let mut command = bound_to_us("qemu-system-x86_64");
        command
            .args(["-M", "q35", "-m", "1024", "-smp", "2", "-nodefaults"])
            .args(["-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-drive"])
            .arg(flash(
                "readonly=on,",
                Path::new("/usr/share/OVMF/OVMF_CODE_4M.fd"),
            ))
            .args(["-drive", &flash("", &variables)])
            .args([
                "-netdev",
                &format!("tap,id=lan,ifname={TAP},script=no,downscript=no"),
            ])
            .args(["-device", "virtio-net-pci,netdev=lan,romfile="])
            .args(["-device", "virtio-rng-pci", "-serial"])
            .arg(format!("file:{}", console.display()));
        for old in ["IPv4PXESupport", "IPv6PXESupport", "IPv6Support"] {
            command.args(["-fw_cfg", &format!("name=opt/org.tianocore/{old},string=n")]);
        }
        let process = Process::spawn("QEMU", &mut command, &folder.join("qemu.log"))?;
        Ok(Self {
            process,
            console: Console::new(&console),
        })
    }

    /// Waits until the console has said these, one after the other.
    ///
    /// # Errors
    /// When one does not come within `bound`, with the end of the console.
    pub fn says(&mut self, lines: &[&str], bound: Duration) -> Result<()> {
        for line in lines {
            self.console.wait_for(&mut self.process, line, bound)?;
        }
        Ok(())
    }

    /// Its serial console.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    output(Command::new("ip").args(arguments)).map(drop)
}

/// Takes connections at the tray's side, for as long as the process lives.
fn relay(port: u16) -> Result<()> {
    let here: SocketAddr = format!("{HOST_AS_SEEN_BY_GUESTS}:{port}").parse()?;
    let listener = TcpListener::bind(here).context("listen for the tray")?;
    thread::spawn(move || {
        for tray in listener.incoming().flatten() {
            thread::spawn(move || {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)) else {
                    return;
                };
                let (Ok(from), Ok(to)) = (tray.try_clone(), server.try_clone()) else {
                    return;
                };
                thread::spawn(move || pass(from, to));
                pass(server, tray);
            });
        }
    });
    Ok(())
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    // A connection that ends, ends.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
