// SPDX-License-Identifier: Apache-2.0
//! The UEFI application. What it decides is in the library; this is the entry point and the end of every path.
#![cfg_attr(target_os = "uefi", no_std, no_main)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod firmware;

#[cfg(target_os = "uefi")]
mod entry {
    use core::sync::atomic::{AtomicBool, Ordering};

    use racklet_bootloader::{
        baked::Baked,
        flow::{self, Firmware as _},
    };
    use uefi::{
        Status, boot,
        runtime::{self, ResetType},
    };

    use crate::firmware::{OwnImage, Uefi};
    use racklet_trust::Architecture;

    #[uefi::entry]
    fn main() -> Status {
        let mut machine = Uefi::new();
        machine.say(format_args!(
            "racklet bootloader {} for {}",
            env!("CARGO_PKG_VERSION"),
            Architecture::HERE
        ));
        // A firmware that hangs while it reads a disk is reset after this, and the try is counted.
        let _ = boot::set_watchdog_timer(300, 0x1_0000, None);
        let image = OwnImage::find();
        match image.as_ref().map(Baked::from_image) {
            Ok(Ok(baked)) => {
                machine.say(format_args!(
                    "rack {}, trust root version {}, board {}",
                    baked.root.rack(),
                    baked.root.version(),
                    baked.board.board
                ));
                if let Some(carried) = &baked.carried {
                    let refusal =
                        flow::run_carried(&mut machine, carried, &baked, Architecture::HERE);
                    stop(&mut machine, format_args!("it is refused: {refusal}"));
                    reset();
                }
                match machine.open_partition() {
                    Ok(()) => {
                        let refused = flow::run(&mut machine, &baked, Architecture::HERE);
                        flow::give_up(&mut machine, &refused);
                    }
                    Err(error) => stop(
                        &mut machine,
                        format_args!("the boot partition cannot be opened: {error}"),
                    ),
                }
            }
            Ok(Err(error)) => stop(&mut machine, format_args!("{error}")),
            Err(error) => stop(
                &mut machine,
                format_args!("the bootloader cannot find itself in memory: {error}"),
            ),
        }
        reset()
    }

    fn stop(machine: &mut Uefi, reason: core::fmt::Arguments<'_>) {
        machine.say(reason);
        machine.say(format_args!(
            "nothing can be started; restarting in {} s",
            flow::READING_TIME.as_secs()
        ));
        machine.pause(flow::READING_TIME);
    }

    fn reset() -> ! {
        runtime::reset(ResetType::COLD, Status::ABORTED, None)
    }

    /// Set by the first fault, so that a fault while it is being told ends in a reset and not in a circle.
    static FAULT: AtomicBool = AtomicBool::new(false);

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        if !FAULT.swap(true, Ordering::Relaxed) {
            stop(
                &mut Uefi::new(),
                format_args!("a fault in the bootloader, please report it: {info}"),
            );
        }
        reset()
    }
}

#[cfg(not(target_os = "uefi"))]
fn main() -> std::process::ExitCode {
    eprintln!("this is a UEFI application: build it for x86_64-unknown-uefi (`cargo xtask build`)");
    std::process::ExitCode::FAILURE
}
