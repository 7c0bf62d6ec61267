// SPDX-License-Identifier: Apache-2.0
//! What both roles of PID 1 share: reading what was handed over, and never dying without a reboot.

use std::fs::File;
use std::io::{self, Read};
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

use racklet_api::handoff::Card;
use racklet_api::tray::TrayConfig;
use racklet_linux::block;
use racklet_linux::power::{self, Leave};
use racklet_linux::watchdog::Watchdog;
use racklet_tell::error::Chain;
use serde::de::DeserializeOwned;

use crate::console::Topic;

const INIT: Topic = Topic("init");
/// Long enough to be read or photographed.
const READING_TIME: Duration = Duration::from_secs(5);
/// A Raspberry Pi's card was there 1 s after PID 1 in QEMU; USB sticks need some seconds, and the kernel's own `rootwait` no end.
const DISK: Duration = Duration::from_secs(10);
/// Longest file that the stage before leaves for us.
const MAX_FILE: u64 = 4 << 20;

/// Reboots when any thread panics: the bootloader has counted this start. The kernel would panic anyway when PID 1
/// ends (`panic=5` reboots then too), but without saying why.
pub(crate) fn reboot_on_panic() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let place = info
            .location()
            .map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        fatal(format_args!(
            "this is a fault in init{place}: {}",
            text.unwrap_or("no reason given")
        ));
    }));
}

/// Tells why and reboots.
pub(crate) fn fatal(reason: impl std::fmt::Display) -> ! {
    INIT.failed(
        reason,
        format_args!("reboot in {} s", READING_TIME.as_secs()),
    );
    thread::sleep(READING_TIME);
    leave(Leave::Reboot)
}

/// Leaves the machine, whatever it takes.
pub(crate) fn leave(how: Leave) -> ! {
    if !power::is_pid_one() {
        // A developer ran it by hand.
        std::process::exit(1);
    }
    let error = power::leave(how);
    INIT.failed(
        format_args!("reboot: {error}"),
        "end PID 1, which makes the kernel reboot",
    );
    std::process::abort();
}

/// Arms the watchdog, where the machine has one that may be: for `seconds`, or as long as the board's counts right.
pub(crate) fn arm(tray: &TrayConfig, seconds: u32) -> Option<Watchdog> {
    let seconds = tray.watchdog(seconds)?;
    match Watchdog::arm(seconds) {
        Ok(Some(dog)) => {
            INIT.say(format_args!("watchdog armed, {} s", dog.seconds()));
            Some(dog)
        }
        Ok(None) => None,
        Err(error) => {
            INIT.failed(
                format_args!("arm the watchdog: {error}"),
                "go on without it",
            );
            None
        }
    }
}

/// A file that the stage before left in `/racklet`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandedError {
    #[error("read {0}")]
    Read(&'static str, #[source] io::Error),
    #[error("{0} is longer than {MAX_FILE} bytes")]
    TooLong(&'static str),
    #[error("{0} does not parse")]
    Parse(&'static str, #[source] serde_json::Error),
}

/// Reads it; `None` when there is none.
pub(crate) fn handed(path: &'static str) -> Result<Option<Vec<u8>>, HandedError> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > MAX_FILE => Err(HandedError::TooLong(path)),
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HandedError::Read(path, error)),
    }
}

/// Reads and parses it.
pub(crate) fn handed_json<T: DeserializeOwned>(
    path: &'static str,
) -> Result<Option<T>, HandedError> {
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| HandedError::Parse(path, error))
    };
    handed(path)?.map(parse).transpose()
}

/// What the stage before knows about the disk, which is there when this returns, or does not come. A tray without that, or with
/// something else there, goes by labels.
pub(crate) fn card() -> Card {
    let card = match handed_json::<Card>("/racklet/card.json") {
        Ok(card) => card.unwrap_or_default(),
        Err(error) => {
            INIT.failed(Chain(&error), "find the disk by its labels");
            Card::default()
        }
    };
    if let Some(boot) = &card.boot_partition
        && !block::wait_for(boot, DISK)
    {
        INIT.failed(
            format_args!(
                "the disk that this tray was started from has not come within {} s",
                DISK.as_secs()
            ),
            "go on without",
        );
    }
    card
}
