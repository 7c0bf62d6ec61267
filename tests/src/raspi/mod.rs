// SPDX-License-Identifier: Apache-2.0
//! A Raspberry Pi 4 Model B in QEMU (`raspi4b`), started with what its firmware would have loaded from the card that is in it, by the
//! rules of [`crate::firmware`]. QEMU has no such firmware: it is given a kernel, and these are the kernel, initramfs, tree and
//! command line of the image's own bytes.
//!
//! What the emulation lacks is disabled in the copy of the tree that it gets, and nowhere else; what firmware fills in is filled in.

pub mod bench;

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    console::Console,
    firmware::{self, KNOWS_A_B, Loaded, Machine, Model, Reset, card::Image},
    process::{Process, bound_to_us, output},
    until::until,
};

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

    /// Switches it on, with further arguments for the kernel.
    ///
    /// # Errors
    /// When the firmware would start nothing, or QEMU does not start.
    pub fn switch_on(&mut self, more: &str) -> Result<Running> {
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
            .arg(format!("{} {more}", loaded.arguments).trim())
            .arg("-drive")
            .arg(format!("if=sd,format=raw,file={}", self.card().display()))
            .arg("-chardev")
            .arg(format!("file,id=console,path={}", console.display()))
            .args(["-serial", "chardev:console"])
            .args(["-netdev", "user,id=lan", "-device", "usb-net,netdev=lan"]);
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
        // The card's supplies are switched by the firmware's pins, of which this one answers with an error; the driver of the card would
        // wait for them for ever.
        let card = "/emmc2bus/mmc@7e340000";
        put(&["-d", card, "vqmmc-supply", "vmmc-supply"])?;
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

    /// Waits until the console says `what`, and gives the line.
    ///
    /// # Errors
    /// When it does not within `bound`: with the end of the console.
    pub fn wait_for(&mut self, what: &str, bound: Duration) -> Result<String> {
        self.console.wait_for(&mut self.process, what, bound)
    }
}
