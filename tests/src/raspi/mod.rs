// SPDX-License-Identifier: Apache-2.0
//! A Raspberry Pi 4 Model B in QEMU (`raspi4b`), started with what its firmware would have loaded from the card that is in it, by the
//! rules of [`crate::firmware`]. QEMU has no such firmware: it is given a kernel, and these are the kernel, initramfs, tree and
//! command line of the image's own bytes.
//!
//! What the emulation lacks is disabled in the copy of the tree that it gets, and nowhere else; what firmware fills in is filled in. At a
//! reset of the guest QEMU stands still: what is read from it then is what the firmware begins the next start with.

pub mod bench;
pub mod scene;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use crate::{
    console::Console,
    firmware::{self, KNOWS_A_B, Loaded, Machine, Model, Reset, card::Image},
    process::{Process, bound_to_us, output, tail},
    qemu::{free_port, qmp},
    until::until,
};

/// PM_RSTS, as processors see it.
const RSTS: &str = "xp /1wx 0xfe100020";
/// What QEMU's mailbox says of a property that it does not know: the request for a one-shot, which it gets with the flag set alone.
const TRYBOOT: &str = "unhandled tag 0x00038064";
/// QEMU's SD cards have a size that is a power of two.
const CARD: u64 = 1 << 30;
/// Nodes of mainline's tree for what QEMU 10.0 does not model, below `/soc` unless they begin with `/`. With all of them enabled
/// nothing was said within 85 s.
const NOT_MODELLED: &[&str] = &[
    "txp@7e004000",
    "spi@7e204000",
    "spi@7e215080",
    "spi@7e2150c0",
    "spi@7e204600",
    "spi@7e204800",
    "spi@7e204a00",
    "spi@7e204c00",
    "dsi@7e209000",
    "dsi@7e700000",
    "csi@7e800000",
    "csi@7e801000",
    "pwm@7e20c000",
    "pwm@7e20c800",
    "hvs@7e400000",
    "avs-monitor@7d5d2000",
    "rng@7e104000",
    "pixelvalve@7e206000",
    "pixelvalve@7e207000",
    "pixelvalve@7e20a000",
    "pixelvalve@7e216000",
    "pixelvalve@7ec12000",
    "vec@7ec13000",
    "hdmi@7ef00700",
    "hdmi@7ef05700",
    "i2c@7ef04500",
    "i2c@7ef09500",
    "clock@7ef00000",
    "interrupt-controller@7ef00100",
    "/scb/pcie@7d500000",
    "/scb/ethernet@7d580000",
    "/gpu",
];

/// A board with a card in it; it is off.
#[derive(Debug)]
pub struct Pi {
    folder: PathBuf,
    machine: Machine,
    reset: Reset,
    starts: u32,
}

impl Pi {
    /// Writes `image` to a fresh card in `folder`, as `dd` does.
    ///
    /// # Errors
    /// When it cannot be copied, or is larger than the card.
    pub fn with(image: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let card = folder.join("card.img");
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto"]);
        output(copy.arg(image).arg(&card))?;
        let file = fs::OpenOptions::new().write(true).open(&card)?;
        ensure!(
            file.metadata()?.len() <= CARD,
            "the image is larger than the card"
        );
        file.set_len(CARD)?;
        Ok(Self {
            folder: folder.into(),
            machine: Machine {
                model: Model::FourB,
                eeprom: KNOWS_A_B,
                serial: 0x1000_0000,
            },
            reset: Reset::default(),
            starts: 0,
        })
    }

    /// The card's image.
    #[must_use]
    pub fn card(&self) -> PathBuf {
        self.folder.join("card.img")
    }

    /// What the last reset left, which the next start begins with.
    pub fn leave(&mut self, reset: Reset) {
        self.reset = reset;
    }

    /// What the firmware would load now.
    ///
    /// # Errors
    /// When the card cannot be read, or nothing would start.
    pub fn loaded(&self) -> Result<Loaded> {
        let image = Image::open(&self.card())?;
        match firmware::boot(&image, &self.machine, self.reset)? {
            Ok(loaded) => Ok(loaded),
            Err(refused) => bail!("the firmware starts nothing: {refused:?}"),
        }
    }

    /// Switches it on, with the network's USB card in it or without. QEMU's controller (hcd-dwc2, 10.0) has no reset ("Core soft reset not
    /// implemented") and goes on with what one kernel had it do when another one runs, which finds a card that does not answer: so a card
    /// works in the first kernel that has it, and the one that kexec starts has to get it later ([`Running::plug_in`]).
    ///
    /// # Errors
    /// When the firmware would start nothing, or QEMU does not start.
    pub fn switch_on(&mut self, network: bool) -> Result<Running> {
        let loaded = self.loaded()?;
        ensure!(loaded.missing.is_empty(), "missing: {:?}", loaded.missing);
        ensure!(!loaded.reads_hat, "a HAT's overlay would be applied");
        self.starts += 1;
        let file = |name: &str| self.folder.join(name);
        fs::write(file("kernel"), &loaded.kernel.contents)?;
        fs::write(file("initramfs"), loaded.archive())?;
        let tree = file("tree.dtb");
        fs::write(&tree, &loaded.tree.contents)?;
        self.fill_in(&tree, &loaded)?;
        let console = file(&format!("console.{}.log", self.starts));
        let faults = file(&format!("faults.{}.log", self.starts));
        // A socket's name may have 107 letters, and the folder's may have more.
        let sockets = tempfile::Builder::new().prefix("racklet-").tempdir()?;
        let qmp = sockets.path().join("qmp.sock");
        let api = free_port()?;
        let mut command = bound_to_us("qemu-system-aarch64");
        command
            .args(["-M", "raspi4b", "-smp", "4", "-m", "2G", "-display", "none"])
            .args(["-nodefaults", "-no-user-config"])
            .args(["-action", "reboot=shutdown,shutdown=pause"])
            .arg("-kernel")
            .arg(file("kernel"))
            .arg("-initrd")
            .arg(file("initramfs"))
            .arg("-dtb")
            .arg(&tree)
            .arg("-append")
            .arg(&loaded.arguments)
            .arg("-drive")
            .arg(format!("if=sd,format=raw,file={}", self.card().display()))
            .arg("-chardev")
            .arg(format!("file,id=console,path={}", console.display()))
            .args(["-serial", "chardev:console"])
            .args(["-d", "unimp", "-D"])
            .arg(&faults)
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", qmp.display()))
            .arg("-netdev")
            .arg(format!("user,id=lan,hostfwd=tcp:127.0.0.1:{api}-:7443"));
        if network {
            command.args(["-device", "usb-net,netdev=lan,port=1"]);
        }
        let mut process = Process::spawn("QEMU", &mut command, &file("qemu.log"))?;
        until("QEMU opens the console", Duration::from_secs(20), || {
            process.check()?;
            Ok(console.exists().then_some(()))
        })?;
        // The one-shot counts for one start, and a number in PM_RSTS is this model's to clear.
        self.reset = Reset::default();
        Ok(Running {
            process,
            console: Console::new(&console),
            loaded,
            faults,
            sockets,
            api,
        })
    }

    /// What firmware writes into the tree, and what the emulation lacks.
    fn fill_in(&self, tree: &Path, loaded: &Loaded) -> Result<()> {
        let put = |arguments: &[&str]| -> Result<()> {
            let mut command = Command::new("fdtput");
            command.arg(arguments[0]).arg(tree).args(&arguments[1..]);
            output(&mut command)
                .with_context(|| format!("fdtput {arguments:?}"))
                .map(|_| ())
        };
        for node in NOT_MODELLED {
            let node = match node.strip_prefix('/') {
                Some(_) => (*node).to_owned(),
                None => format!("/soc/{node}"),
            };
            put(&["-ts", &node, "status", "disabled"])?;
        }
        // QEMU has the card at the controller that leads to WiFi on a board, where the tree says that nothing is ever put in.
        put(&["-d", "/soc/mmc@7e300000", "mmc-pwrseq", "non-removable"])?;
        let chosen = "/chosen/bootloader";
        put(&["-cp", chosen])?;
        for (name, value) in [
            ("partition", loaded.choice.partition),
            ("tryboot", u32::from(loaded.choice.tryboot)),
            ("rsts", self.reset.rsts),
            // From an SD card.
            ("boot-mode", 1),
            ("build-timestamp", u32::try_from(self.machine.eeprom)?),
        ] {
            put(&["-tx", chosen, name, &format!("{value:x}")])?;
        }
        // There is no source of randomness in this machine: firmware gives the kernel 32 bytes of its own.
        let mut seed = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
        let seed: Vec<String> = seed.iter().map(|byte| format!("{byte:x}")).collect();
        let mut words = vec!["-tbx", "/chosen", "rng-seed"];
        words.extend(seed.iter().map(String::as_str));
        put(&words)
    }
}

/// A board that is on; dropping it pulls the plug.
#[derive(Debug)]
pub struct Running {
    process: Process,
    console: Console,
    loaded: Loaded,
    faults: PathBuf,
    sockets: tempfile::TempDir,
    api: u16,
}

impl Running {
    /// What it was started with.
    #[must_use]
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Its console.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }

    /// The loopback port at which its network API (7443) is reached.
    #[must_use]
    pub fn api(&self) -> u16 {
        self.api
    }

    /// An error if it is off.
    ///
    /// # Errors
    /// With the end of QEMU's log.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Puts the network's USB card in.
    ///
    /// # Errors
    /// When QEMU refuses.
    pub fn plug_in(&mut self) -> Result<()> {
        let card = json!({"driver": "usb-net", "netdev": "lan", "port": "1"});
        let socket = self.sockets.path().join("qmp.sock");
        qmp::ask(&socket, "device_add", card).map(drop)
    }

    /// Waits until the guest resets the board, switches that off, and gives what the firmware finds afterwards.
    ///
    /// # Errors
    /// When it does not within `bound`: with the end of the console.
    pub fn reset(mut self, bound: Duration) -> Result<Reset> {
        let socket = self.sockets.path().join("qmp.sock");
        let stands = until("the board resets", bound, || {
            self.process.check()?;
            let status = qmp::ask(&socket, "query-status", json!({}))?;
            Ok((status["status"] == "shutdown").then_some(()))
        });
        stands.with_context(|| tail(self.console.path(), 25))?;
        let line = json!({"command-line": RSTS});
        let said = qmp::ask(&socket, "human-monitor-command", line)?;
        let word = said.as_str().and_then(|said| said.trim().rsplit_once("0x"));
        let (_, digits) = word.with_context(|| format!("QEMU says {said} of PM_RSTS"))?;
        self.process.kill();
        Ok(Reset {
            rsts: u32::from_str_radix(digits, 16)?,
            tryboot: fs::read_to_string(&self.faults)?.contains(TRYBOOT),
        })
    }

    /// Waits until the console says `what`, and gives the line.
    ///
    /// # Errors
    /// When it does not within `bound`: with the end of the console.
    pub fn wait_for(&mut self, what: &str, bound: Duration) -> Result<String> {
        self.console.wait_for(&mut self.process, what, bound)
    }
}
