// SPDX-License-Identifier: Apache-2.0
//! What a file is by its first bytes: gzip and zstd are read, everything else that is no tar archive is at least named.

use super::tar;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    None,
    Gzip,
    Zstd,
}

/// What else people hold for a tar archive: first bytes, name, whether it is a compression with an archive in it.
const OTHERS: [(&[u8], &str, bool); 11] = [
    (b"\xfd7zXZ\0", "xz", true),
    (b"BZh", "bzip2", true),
    (b"LZIP", "lzip", true),
    (b"\x04\x22\x4d\x18", "lz4", true),
    (b"\x5d\0\0", "lzma", true),
    (b"\x1f\x9d", "compress", true),
    (b"PK\x03\x04", "a zip archive", false),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", false),
    (b"070701", "a cpio archive", false),
    (b"hsqs", "a squashfs image", false),
    (b"QFI\xfb", "a qcow2 disk", false),
];

/// Why a file is not read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unread {
    /// A compression that we do not read.
    #[error("compressed with {0}, which is not read here: use gzip or zstd")]
    Compression(&'static str),
    /// Something else altogether.
    #[error("this is {0}: make a tar archive of the root file system, or name its folder")]
    Format(&'static str),
}

/// Bytes that [`of`] wants to see.
pub(super) const HEAD: u64 = 512;

/// Judges by the first [`HEAD`] bytes.
pub(super) fn of(head: &[u8]) -> Result<Compression, Unread> {
    // A tar archive begins with a file's name, which may look like anything; its checksum says that it is one.
    if tar::is_header(head) {
        return Ok(Compression::None);
    }
    match head {
        [0x1f, 0x8b, ..] => return Ok(Compression::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Compression::Zstd),
        _ => {}
    }
    match OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        Some((_, name, true)) => Err(Unread::Compression(name)),
        Some((_, name, false)) => Err(Unread::Format(name)),
        None => Ok(Compression::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compression_that_is_not_read_is_named_and_gzip_and_zstd_offered() {
        for (head, name) in [
            (&b"\xfd7zXZ\0\0\x04"[..], "xz"),
            (b"BZh91AY&SY", "bzip2"),
            (b"\x5d\0\0\x80\0", "lzma"),
        ] {
            let error = of(head).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(error.contains("use gzip or zstd"), "{error}");
        }
        let error = of(b"PK\x03\x04").unwrap_err().to_string();
        assert!(error.contains("zip archive"), "{error}");
    }

    #[test]
    fn what_is_read_is_known_and_so_is_what_is_nothing() {
        assert_eq!(of(b"\x1f\x8b\x08"), Ok(Compression::Gzip));
        assert_eq!(of(b"\x28\xb5\x2f\xfd\x04"), Ok(Compression::Zstd));
        // The reader of archives says what is wrong with these.
        assert_eq!(of(b""), Ok(Compression::None));
        assert_eq!(of(b"hello"), Ok(Compression::None));
    }

    #[test]
    fn an_archive_whose_first_file_is_called_like_a_compression_is_an_archive() {
        let mut header = vec![0; 512];
        header[..7].copy_from_slice(b"BZh9.md");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert_eq!(of(&header), Ok(Compression::None));
        header[0] = b'b';
        header[1] = b'Z';
        assert_eq!(of(&header), Ok(Compression::None));
    }
}
