// SPDX-License-Identifier: Apache-2.0
//! Starts Linux through its EFI stub, with the initramfs offered over LoadFile2.
//!
//! Source: Linux, drivers/firmware/efi/libstub/efi-stub-helper.c (`efi_load_initrd_dev_path`) and
//! Documentation/arch/x86/boot.rst; UEFI 2.10, 13.2 (LoadFile2) and 7.4 (image services).

use alloc::{boxed::Box, format, vec::Vec};
use core::{ffi::c_void, ptr};

use racklet_bootloader::verify::{Bootable, Refusal};
use uefi::Identify as _;
use uefi::{
    CString16, Guid, Handle, Status,
    boot::{self, LoadImageSource},
    guid,
    proto::{device_path::DevicePath, loaded_image::LoadedImage, media::load_file::LoadFile2},
};

/// `LINUX_EFI_INITRD_MEDIA_GUID`: where the stub looks for its initramfs.
const INITRD_MEDIA: Guid = guid!("5568e427-68fc-4f3d-ac74-ca555231cc68");

/// A device path of a vendor's media (4, 3) and the end (0x7f, 0xff); aligned, because firmware reads it as structs.
#[repr(C, align(8))]
struct InitrdPath([u8; 24]);

impl InitrdPath {
    fn new() -> Self {
        let mut path = [0; 24];
        path[..4].copy_from_slice(&[4, 3, 20, 0]);
        path[4..20].copy_from_slice(&INITRD_MEDIA.to_bytes());
        path[20..].copy_from_slice(&[0x7f, 0xff, 4, 0]);
        Self(path)
    }
}

/// The protocol as the firmware calls it, and behind it what it hands out.
#[repr(C)]
struct Initrd {
    load_file: unsafe extern "efiapi" fn(
        *mut Initrd,
        *const c_void,
        u8,
        *mut usize,
        *mut c_void,
    ) -> Status,
    contents: Vec<u8>,
}

/// Hands out the initramfs: first its size, then its bytes.
///
/// # Safety
/// `this` is the interface that [`start`] installed; `size` points to a number, and `buffer`, unless null, to that many bytes.
unsafe extern "efiapi" fn load_file(
    this: *mut Initrd,
    _path: *const c_void,
    boot_policy: u8,
    size: *mut usize,
    buffer: *mut c_void,
) -> Status {
    if boot_policy != 0 {
        return Status::UNSUPPORTED;
    }
    if this.is_null() || size.is_null() {
        return Status::INVALID_PARAMETER;
    }
    // SAFETY: `this` is the box that `start` keeps until the image has returned, and nothing changes it meanwhile; `size` was
    // checked for null and is the caller's own variable by the protocol's contract.
    let (contents, room) = unsafe { (&(*this).contents, *size) };
    // SAFETY: as above, the caller's own variable.
    unsafe { *size = contents.len() };
    if buffer.is_null() || room < contents.len() {
        return Status::BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller says that `buffer` has `room` bytes, at least as many as are copied (checked above), and memory that it
    // allocated does not overlap ours.
    unsafe { ptr::copy_nonoverlapping(contents.as_ptr(), buffer.cast(), contents.len()) };
    Status::SUCCESS
}

/// Starts the kernel. Returns only when that did not work.
pub(crate) fn start(bootable: Bootable, initramfs_end: &[u8], arguments: &str) -> Refusal {
    let failed = |what: &str, error: uefi::Error| {
        Refusal::Start(format!("{what}: the firmware says {}", error.status()))
    };
    let mut contents = bootable.initramfs.into_inner();
    // The kernel looks for a further archive at a multiple of four bytes.
    let padded = contents.len().next_multiple_of(4);
    if contents
        .try_reserve_exact(padded - contents.len() + initramfs_end.len())
        .is_err()
    {
        return Refusal::Start("there is no memory for its initramfs".into());
    }
    contents.resize(padded, 0);
    contents.extend_from_slice(initramfs_end);
    let options = match CString16::try_from(arguments) {
        Ok(options) => options,
        Err(_) => return Refusal::Start("its arguments are not text".into()),
    };

    // From the memory that was hashed, not from the disk.
    let source = LoadImageSource::FromBuffer {
        buffer: &bootable.kernel,
        file_path: None,
    };
    let image = match boot::load_image(boot::image_handle(), source) {
        Ok(image) => image,
        Err(error) => return failed("its kernel cannot be loaded", error),
    };
    if let Err(error) = set_options(image, &options) {
        let _ = boot::unload_image(image);
        return failed("its kernel takes no arguments", error);
    }
    let offer = match Offer::new(contents) {
        Ok(offer) => offer,
        Err(refusal) => {
            let _ = boot::unload_image(image);
            return refusal;
        }
    };
    let status = boot::start_image(image).map_or_else(|error| error.status(), |()| Status::SUCCESS);
    drop(offer);
    Refusal::Start(format!("its kernel came back with {status}"))
}

/// `options` must outlive the image; [`start`] keeps it until the image has returned.
fn set_options(image: Handle, options: &CString16) -> uefi::Result {
    let mut loaded = super::open::<LoadedImage>(image)?;
    let size = u32::try_from(options.num_bytes()).map_err(|_| Status::BAD_BUFFER_SIZE)?;
    // SAFETY: the options live in `start`, which returns after the image has.
    unsafe { loaded.set_load_options(options.as_ptr().cast(), size) };
    Ok(())
}

/// The initramfs, on offer as long as this lives.
struct Offer {
    handle: Handle,
    path: Box<InitrdPath>,
    initrd: Box<Initrd>,
}

impl Offer {
    fn new(contents: Vec<u8>) -> Result<Self, Refusal> {
        let failed = |error: uefi::Error| {
            Refusal::Start(format!(
                "its initramfs cannot be offered: the firmware says {}",
                error.status()
            ))
        };
        let path = Box::new(InitrdPath::new());
        let initrd = Box::new(Initrd {
            load_file,
            contents,
        });
        // SAFETY: both interfaces are boxed, so that their addresses hold, and live until `drop` has removed them.
        let handle = unsafe {
            boot::install_protocol_interface(None, &DevicePath::GUID, ptr::from_ref(&*path).cast())
        }
        .map_err(failed)?;
        // SAFETY: as above.
        let installed = unsafe {
            boot::install_protocol_interface(
                Some(handle),
                &LoadFile2::GUID,
                ptr::from_ref(&*initrd).cast(),
            )
        };
        let offer = Self {
            handle,
            path,
            initrd,
        };
        installed.map_err(failed)?;
        // The kernel takes the first handle with this path. Another's, installed before ours, would be unverified.
        // SAFETY: the path is a well-formed device path (see `InitrdPath::new`) and lives as long as `offer`.
        let mut searched = unsafe { DevicePath::from_ffi_ptr(ptr::from_ref(&*offer.path).cast()) };
        match boot::locate_device_path::<LoadFile2>(&mut searched) {
            Ok(found) if found == offer.handle => Ok(offer),
            Ok(_) => Err(Refusal::Start(
                "something else in the firmware offers an initramfs; remove its option (such as QEMU's -initrd)".into(),
            )),
            Err(error) => Err(failed(error)),
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        // SAFETY: these are the interfaces that `new` installed; after this the firmware does not use them any more. One that was
        // never installed (an error in `new`) is refused by the firmware, which changes nothing.
        unsafe {
            let _ = boot::uninstall_protocol_interface(
                self.handle,
                &LoadFile2::GUID,
                ptr::from_ref(&*self.initrd).cast(),
            );
            let _ = boot::uninstall_protocol_interface(
                self.handle,
                &DevicePath::GUID,
                ptr::from_ref(&*self.path).cast(),
            );
        }
    }
}
