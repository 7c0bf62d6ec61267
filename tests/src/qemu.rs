// SPDX-License-Identifier: Apache-2.0
//! A tray as a QEMU machine: its board, a disk with a tray's image, a network card on QEMU's user network, a serial console.

pub mod qmp;

use std::{
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use racklet_boards::{Board, Flash};
use racklet_trust::Architecture;
use serde_json::Value;

use crate::{
    board,
    card::Card,
    console::Console,
    process::{Process, bound_to_us, output, tail},
    until::until,
};

/// Size of the card the image is put on: larger than the image, as cards are.
const CARD: u64 = 3 << 30;

/// How the processor is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Emulated, with nested SVM.
    Tcg,
    /// The machine's own.
    Kvm,
}

impl Accelerator {
    /// `RACKLET_ACCEL` decides (`tcg` or `kvm`); `cargo xtask` sets it once it has tried a real guest. Emulation is the default.
    #[must_use]
    pub fn chosen() -> Self {
        match env::var("RACKLET_ACCEL").as_deref() {
            Ok("kvm") => Self::Kvm,
            _ => Self::Tcg,
        }
    }

    /// The value of `RACKLET_ACCEL` for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }

    /// QEMU's arguments for this board; another architecture's is emulated whatever is wanted.
    #[must_use]
    pub fn arguments(self, board: &Board) -> [String; 4] {
        let [accelerator, processor] = match self {
            Self::Kvm if board.architecture == Architecture::HERE => ["kvm", "host"],
            _ => ["tcg,thread=multi", &board::emulator(board).processor],
        };
        ["-accel", accelerator, "-cpu", processor].map(str::to_owned)
    }
}

/// What the machine is like.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What it is.
    pub board: Board,
    /// MiB.
    pub memory: u32,
    /// Processors.
    pub processors: u32,
    /// What the battery-backed clock says, as `-rtc base=` wants it, e.g. `1970-01-01`.
    pub clock: Option<String>,
    /// The socket of who is at the other end of its serial line; nobody is, when there is none, and it is written down either way.
    pub line: Option<PathBuf>,
    /// Whether there is a network card.
    pub network: bool,
    /// Whether that network has IPv6 alone; nobody outside reaches the tray's API then.
    pub ipv6_only: bool,
    /// How its card behaves.
    pub card: Card,
    /// Images of further disks that are plugged in, which it may write to.
    pub more_disks: Vec<PathBuf>,
    /// How its processor is had.
    pub accelerator: Accelerator,
    /// Makes the guest's clock count instructions, one a nanosecond; emulated whatever the accelerator is.
    pub count_instructions: bool,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            board: board::board(),
            memory: 1024,
            processors: 2,
            clock: None,
            line: None,
            network: true,
            ipv6_only: false,
            card: Card::Sound,
            more_disks: Vec::new(),
            accelerator: Accelerator::chosen(),
            count_instructions: false,
        }
    }
}

/// A machine that is on; dropping it pulls the plug.
#[derive(Debug)]
pub struct Tray {
    folder: PathBuf,
    process: Process,
    console: Console,
    api: u16,
    name: String,
}

impl Tray {
    /// Puts `image` on a fresh card in `folder` and switches the machine on.
    ///
    /// # Errors
    /// When QEMU or the firmware is missing or does not start.
    pub fn boot(name: &str, folder: &Path, image: &Path, machine: &Machine) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("folder of {name}"))?;
        let card = folder.join("card.img");
        output(
            Command::new("cp")
                .args(["--sparse=always", "--reflink=auto"])
                .arg(image)
                .arg(&card),
        )?;
        let file = fs::OpenOptions::new().write(true).open(&card)?;
        if file.metadata()?.len() < CARD {
            file.set_len(CARD)?;
        }
        let firmware = firmware(&machine.board)?;
        fs::copy(&firmware.variables, folder.join("firmware-variables.fd"))
            .context("the firmware's variables")?;
        Self::switch_on(name, folder, machine)
    }

    /// Switches on a machine whose card is in `folder` already, as it was left.
    ///
    /// # Errors
    /// When QEMU or the firmware is missing or does not start.
    pub fn switch_on(name: &str, folder: &Path, machine: &Machine) -> Result<Self> {
        let emulator = board::emulator(&machine.board);
        let api = free_port()?;
        let boots = (1..)
            .find(|n| !folder.join(format!("console.{n}.log")).exists())
            .unwrap_or(1);
        let console = folder.join(format!("console.{boots}.log"));
        let card = machine.card.drive(&folder.join("card.img"), folder)?;
        let mut command = bound_to_us(&emulator.program);
        command
            .args(["-name", name, "-nodefaults", "-no-user-config"])
            .args(["-display", "none"])
            .args(&emulator.machine)
            .args([
                "-m",
                &machine.memory.to_string(),
                "-smp",
                &machine.processors.to_string(),
            ])
            .arg("-drive")
            .arg(format!(
                "if=pflash,format=raw,unit=0,readonly=on,file={}",
                firmware(&machine.board)?.code
            ))
            .arg("-drive")
            .arg(format!(
                "if=pflash,format=raw,unit=1,file={}",
                folder.join("firmware-variables.fd").display()
            ))
            .arg("-drive")
            .arg(format!("if=none,id=card,{card}"))
            .args(["-device", "virtio-blk-pci,drive=card,bootindex=0"])
            .args(["-device", "virtio-rng-pci"])
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .arg("-chardev")
            .arg(match &machine.line {
                None => format!("file,id=console,path={}", console.display()),
                Some(line) => format!(
                    "socket,id=console,path={},logfile={}",
                    line.display(),
                    console.display()
                ),
            })
            .args(["-serial", "chardev:console"])
            .arg("-qmp")
            .arg(format!(
                "unix:{},server=on,wait=off",
                folder.join("qmp.sock").display()
            ));
        for (number, disk) in machine.more_disks.iter().enumerate() {
            let file = disk.display();
            command
                .arg("-drive")
                .arg(format!("if=none,id=more{number},format=raw,file={file}"))
                .args(["-device", &format!("virtio-blk-pci,drive=more{number}")]);
        }
        if machine.count_instructions {
            command
                .args(["-accel", "tcg,thread=single", "-cpu", &emulator.processor])
                .args(["-icount", "shift=0,sleep=off"]);
        } else {
            command.args(machine.accelerator.arguments(&machine.board));
        }
        if machine.network {
            command
                .arg("-netdev")
                .arg(match machine.ipv6_only {
                    false => format!("user,id=lan,hostfwd=tcp:127.0.0.1:{api}-:7443"),
                    // QEMU forwards IPv4 ports only.
                    true => "user,id=lan,ipv4=off,ipv6=on".to_owned(),
                })
                .args(["-device", "virtio-net-pci,netdev=lan,romfile="]);
        }
        if let Some(clock) = &machine.clock {
            command.arg("-rtc").arg(format!("base={clock}"));
        }
        let mut process = Process::spawn("QEMU", &mut command, &folder.join("qemu.log"))?;
        until("QEMU opens the console", Duration::from_secs(20), || {
            process.check()?;
            Ok(console.exists().then_some(()))
        })?;
        Ok(Self {
            folder: folder.into(),
            process,
            console: Console::new(&console),
            api,
            name: name.into(),
        })
    }

    /// Its serial console.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// Waits until the console says `what`, and gives the line.
    ///
    /// # Errors
    /// When it does not within `bound`, or the machine is off: with the end of the console.
    pub fn wait_for(&mut self, what: &str, bound: Duration) -> Result<String> {
        let line = self.console.wait_for(&mut self.process, what, bound);
        line.with_context(|| self.name.clone())
    }

    /// Waits until the console has said all of `lines`, in any order.
    ///
    /// # Errors
    /// As [`wait_for`](Self::wait_for).
    pub fn wait_for_all(&mut self, lines: &[&str], bound: Duration) -> Result<()> {
        let Self {
            process, console, ..
        } = self;
        let found = until(&format!("the console says {lines:?}"), bound, || {
            if console.find_all(lines) {
                return Ok(Some(()));
            }
            process.check()?;
            Ok(None)
        });
        found.with_context(|| format!("{}\n{}", self.name, tail(self.console.path(), 25)))
    }

    /// The next line of the console that has `what` in it, if it is there by now; an error if the machine is off.
    ///
    /// # Errors
    /// With the end of QEMU's log.
    pub fn seen(&mut self, what: &str) -> Result<Option<String>> {
        let line = self.console.find(what);
        if line.is_none() {
            self.process.check()?;
        }
        Ok(line)
    }

    /// The loopback port at which its network API (7443) is reached.
    #[must_use]
    pub fn api(&self) -> u16 {
        self.api
    }

    /// Where its card and logs are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An error if the machine is off.
    ///
    /// # Errors
    /// With the end of QEMU's log.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Waits until the machine has switched itself off.
    ///
    /// # Errors
    /// When it does not within `bound`: with the end of the console; or when QEMU itself failed.
    pub fn wait_until_off(&mut self, bound: Duration) -> Result<()> {
        let Self {
            process, console, ..
        } = self;
        let ended = until("the machine switches off", bound, || process.ended());
        let status =
            ended.with_context(|| format!("{}\n{}", self.name, tail(console.path(), 25)))?;
        if !status.success() {
            bail!("QEMU ended: {status}");
        }
        Ok(())
    }

    /// Pulls the plug: whatever the machine had not written is lost.
    pub fn cut_power(mut self) {
        self.process.kill();
    }

    /// One command on QEMU's machine protocol (QMP), e.g. `system_reset` or `screendump`.
    ///
    /// # Errors
    /// When QEMU does not answer or refuses.
    pub fn command(&self, execute: &str, arguments: Value) -> Result<Value> {
        qmp::ask(&self.folder.join("qmp.sock"), execute, arguments)
    }
}

/// The firmware of a board that an emulator has: code, and the variables to copy.
///
/// # Errors
/// When there is none.
pub fn firmware(board: &Board) -> Result<&Flash> {
    let there = |it: &&Flash| {
        [&it.code, &it.variables]
            .iter()
            .all(|it| Path::new(it).exists())
    };
    let mut known = board::emulator(board).firmware.iter();
    known.find(there).with_context(|| {
        format!(
            "no firmware of {} is there: `cargo xtask doctor` says what to install",
            board.name
        )
    })
}

/// A TCP port on loopback that was free a moment ago.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
