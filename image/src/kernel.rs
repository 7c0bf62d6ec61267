// SPDX-License-Identifier: Apache-2.0
//! What a kernel image says about itself, so that a manifest can name it and a wrong file is noticed at once.
//!
//! Sources: Linux, Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst and, for a compressed EFI application,
//! drivers/firmware/efi/libstub/zboot-header.S. The images are the builder's own; this is for mistakes, not for attacks, and decides nothing about trust.

use std::io::Read as _;

use racklet_trust::Architecture;

/// Why a file is not a kernel that a tray can start.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KernelError {
    /// No magic number that we know.
    #[error(
        "not a Linux kernel image (x86: arch/x86/boot/bzImage, arm64: arch/arm64/boot/Image or vmlinuz.efi)"
    )]
    Unknown,
    /// A 32-bit kernel.
    #[error("this is a 32-bit kernel; build it with CONFIG_64BIT")]
    NotSixtyFourBit,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelInfo {
    /// What it runs on.
    pub architecture: Architecture,
    /// `6.12.90 (builder@host) #1 …`, where the format has it.
    pub version: Option<String>,
    /// Whether UEFI firmware can start it (CONFIG_EFI_STUB); kexec does not need that.
    pub efi_stub: bool,
    /// Whether kexec can start it: an EFI application that unpacks itself (CONFIG_EFI_ZBOOT) only UEFI can.
    pub kexec: bool,
}

impl KernelInfo {
    /// The first word of the version, such as `6.12.90`.
    pub fn release(&self) -> Option<&str> {
        self.version.as_deref()?.split(' ').next()
    }
}

/// Looks at a kernel image, of which the first 128 KiB are enough. One in gzip counts as what is in it.
pub fn inspect(image: &[u8]) -> Result<KernelInfo, KernelError> {
    const HEAD: u64 = 128 << 10;
    if is_gzip(image) {
        let mut head = Vec::new();
        // A piece of a file ends early, which says nothing about its beginning.
        let _ = flate2::read::GzDecoder::new(image)
            .take(HEAD)
            .read_to_end(&mut head);
        return match is_gzip(&head) {
            true => Err(KernelError::Unknown),
            false => inspect(&head),
        };
    }
    if image.get(0x202..0x206) == Some(b"HdrS") {
        return inspect_x86(image);
    }
    if image.get(56..60) == Some(b"ARM\x64") {
        return Ok(KernelInfo {
            architecture: Architecture::Aarch64,
            version: None,
            efi_stub: image.starts_with(b"MZ"),
            kexec: true,
        });
    }
    if image.starts_with(b"MZ\0\0zimg") {
        return inspect_zboot(image).ok_or(KernelError::Unknown);
    }
    Err(KernelError::Unknown)
}

/// Which processor it is for stands in the PE header, whose place is at 0x3c.
fn inspect_zboot(image: &[u8]) -> Option<KernelInfo> {
    let place = image.get(0x3c..0x40)?.try_into().ok()?;
    let header = image.get(usize::try_from(u32::from_le_bytes(place)).ok()?..)?;
    let machine: [u8; 2] = header.strip_prefix(b"PE\0\0")?.get(..2)?.try_into().ok()?;
    let machine = u16::from_le_bytes(machine);
    let architecture = Architecture::ALL
        .into_iter()
        .find(|it| crate::disk::pe::machine_of(*it) == machine)?;
    Some(KernelInfo {
        architecture,
        version: None,
        efi_stub: true,
        kexec: false,
    })
}

/// Whether these are the first bytes of a gzip file, by which a Raspberry Pi's firmware knows one, too.
#[must_use]
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

fn inspect_x86(image: &[u8]) -> Result<KernelInfo, KernelError> {
    let word = |at: usize| {
        image
            .get(at..at + 2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .unwrap_or(0)
    };
    const KERNEL_64: u16 = 1;
    if word(0x236) & KERNEL_64 == 0 {
        return Err(KernelError::NotSixtyFourBit);
    }
    let at = usize::from(word(0x20e)) + 0x200;
    let version = image
        .get(at..)
        .and_then(|rest| rest.get(..rest.len().min(256)))
        .and_then(|rest| rest.split(|byte| *byte == 0).next())
        .and_then(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))
        .map(str::to_owned);
    Ok(KernelInfo {
        architecture: Architecture::X86_64,
        version,
        efi_stub: image.starts_with(b"MZ"),
        kexec: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x86() -> Vec<u8> {
        let mut image = vec![0; 0x1000];
        image[..2].copy_from_slice(b"MZ");
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x236] = 1;
        image[0x20e..0x210].copy_from_slice(&0x600u16.to_le_bytes());
        image[0x800..0x815].copy_from_slice(b"6.12.90 (a@b) #1 SMP\0");
        image
    }

    #[test]
    fn a_bzimage_names_its_version() {
        let info = inspect(&x86()).unwrap();
        assert_eq!(
            (info.architecture, info.release()),
            (Architecture::X86_64, Some("6.12.90"))
        );
    }

    #[test]
    fn an_image_that_unpacks_itself_is_for_uefi_alone() {
        let mut image = vec![0; 0x200];
        image[..8].copy_from_slice(b"MZ\0\0zimg");
        image[0x3c] = 0x40;
        image[0x40..0x46].copy_from_slice(b"PE\0\0\x64\xaa");
        let info = inspect(&image).unwrap();
        assert_eq!(info.architecture, Architecture::Aarch64);
        assert!(info.efi_stub && !info.kexec);
        for (at, byte) in [(0x40, 0), (0x44, 1), (0x3f, 0xff), (4, 0)] {
            let mut other = image.clone();
            other[at] = byte;
            assert_eq!(inspect(&other), Err(KernelError::Unknown), "{at:#x}");
        }
        assert_eq!(inspect(&image[..0x45]), Err(KernelError::Unknown));
        // Without the wrapping both can.
        let mut image = vec![0; 64];
        image[..2].copy_from_slice(b"MZ");
        image[56..60].copy_from_slice(b"ARM\x64");
        let info = inspect(&image).unwrap();
        assert!(info.efi_stub && info.kexec);
    }

    #[test]
    fn a_kernel_in_gzip_is_what_is_in_it() {
        let mut image = vec![0; 300_000];
        image[56..60].copy_from_slice(b"ARM\x64");
        let packed = crate::raspberry_pi::compressed(&image);
        let info = inspect(&packed[..packed.len().min(128 << 10)]).unwrap();
        assert_eq!(info.architecture, Architecture::Aarch64);
        assert!(info.kexec && !info.efi_stub);
        let mut twice = Vec::new();
        let mut again = flate2::read::GzEncoder::new(&*packed, flate2::Compression::fast());
        again.read_to_end(&mut twice).unwrap();
        assert_eq!(inspect(&twice), Err(KernelError::Unknown));
        assert_eq!(inspect(&[0x1f, 0x8b, 8]), Err(KernelError::Unknown));
    }

    #[test]
    fn what_a_tray_could_not_start_is_refused() {
        let change = |at: usize, byte| {
            let mut image = x86();
            image[at] = byte;
            inspect(&image)
        };
        assert_eq!(change(0, 0).map(|info| info.efi_stub), Ok(false));
        assert_eq!(change(0x236, 0), Err(KernelError::NotSixtyFourBit));
        assert_eq!(change(0x202, 0), Err(KernelError::Unknown));
        assert_eq!(inspect(b""), Err(KernelError::Unknown));
        assert_eq!(inspect(&x86()[..0x300]).map(|info| info.version), Ok(None));
    }
}
