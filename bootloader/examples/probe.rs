// SPDX-License-Identifier: Apache-2.0
//! Stands in for Linux in tests of the bootloader: says what it was given, then ends as its arguments tell it.
//!
//! It asks for the initramfs exactly as Linux's EFI stub does (by the vendor media path, size first), so that a test sees what
//! a kernel would see, in two seconds instead of ten. `probe.end=` is `off`, `reset`, `return` or `hang`.
#![cfg_attr(target_os = "uefi", no_std, no_main)]

#[cfg(target_os = "uefi")]
extern crate alloc;

#[cfg(target_os = "uefi")]
mod probe {
    use alloc::{string::String, vec::Vec};
    use core::time::Duration;

    use racklet_trust::Digest;
    use uefi::{
        Status, boot, guid, println,
        proto::{
            device_path::{DevicePath, build},
            loaded_image::LoadedImage,
            media::load_file::LoadFile2,
        },
        runtime::{self, ResetType},
    };

    #[uefi::entry]
    fn main() -> Status {
        println!();
        let arguments = arguments().unwrap_or_else(|error| alloc::format!("unreadable: {error}"));
        println!("probe: arguments: {arguments}");
        match initramfs() {
            Ok(initramfs) => {
                println!("probe: initramfs: {}", Digest::of(&initramfs));
                let text = String::from_utf8_lossy(&initramfs);
                for start in ["{\"slot\":", "{\"tray\":", "{\"type\":"] {
                    let found = text.split_once(start).map_or("", |(_, rest)| rest);
                    println!("probe: {start}{}", found.lines().next().unwrap_or(""));
                }
            }
            Err(error) => println!("probe: no initramfs: {error}"),
        }
        match arguments
            .split(' ')
            .find_map(|word| word.strip_prefix("probe.end="))
        {
            Some("reset") => runtime::reset(ResetType::COLD, Status::SUCCESS, None),
            Some("return") => Status::ABORTED,
            Some("hang") => loop {
                boot::stall(Duration::from_secs(1));
            },
            _ => runtime::reset(ResetType::SHUTDOWN, Status::SUCCESS, None),
        }
    }

    fn arguments() -> uefi::Result<String> {
        let image = boot::open_protocol_exclusive::<LoadedImage>(boot::image_handle())?;
        let options = image
            .load_options_as_cstr16()
            .map_err(|_| Status::INVALID_PARAMETER)?;
        Ok(String::from(options))
    }

    fn initramfs() -> uefi::Result<Vec<u8>> {
        let mut storage = Vec::new();
        let vendor = build::media::Vendor {
            vendor_guid: guid!("5568e427-68fc-4f3d-ac74-ca555231cc68"),
            vendor_defined_data: &[],
        };
        let path: &DevicePath = build::DevicePathBuilder::with_vec(&mut storage)
            .push(&vendor)
            .and_then(|path| path.finalize())
            .map_err(|_| Status::OUT_OF_RESOURCES)?;
        let mut rest = path;
        let handle = boot::locate_device_path::<LoadFile2>(&mut rest)?;
        let mut file = boot::open_protocol_exclusive::<LoadFile2>(handle)?;
        let contents = file.load_file(path)?;
        Ok(contents.into_vec())
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
        println!("probe: fault: {info}");
        runtime::reset(ResetType::SHUTDOWN, Status::ABORTED, None)
    }
}

#[cfg(not(target_os = "uefi"))]
fn main() {}
