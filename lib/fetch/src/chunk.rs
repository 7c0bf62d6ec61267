// SPDX-License-Identifier: Apache-2.0
//! One chunk of a payload's or artifact's file: a piece of at most `MAX_CHUNK_LENGTH` bytes, compressed on its own as a zstd frame and
//! named by the SHA-256 digest of the compressed bytes.
//!
//! [`open`] decompresses only bytes whose size and digest are the ones a verified manifest states, into exactly the length it
//! states: a decompression bomb cannot grow past the buffer, and unverified bytes never reach the decompressor.

use racklet_trust::Digest;
use ring::digest::{SHA256, digest};

/// The SHA-256 digest of `bytes`, by ring's assembly.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    racklet_trust::digest::Hex(out)
}

/// Why a chunk was refused.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// Not the size the manifest states.
    #[error("chunk {digest} has {actual} bytes, the manifest says {expected}")]
    Size {
        /// The chunk.
        digest: Digest,
        /// What the manifest says.
        expected: u32,
        /// What is there.
        actual: usize,
    },
    /// Not the bytes the manifest states.
    #[error("chunk {digest} holds other bytes (SHA-256 {actual})")]
    Digest {
        /// The chunk.
        digest: Digest,
        /// The digest of what is there.
        actual: Digest,
    },
    /// Does not decompress to the length the manifest states.
    #[error(
        "chunk {digest} does not decompress to the {expected} bytes the manifest says: {reason}"
    )]
    Length {
        /// The chunk.
        digest: Digest,
        /// What the manifest says.
        expected: usize,
        /// What the decompressor said.
        reason: String,
    },
}

/// Checks that `bytes` are the chunk `digest` of `size` bytes.
///
/// # Errors
/// [`ChunkError`] with what was found.
pub fn check(digest: Digest, size: u32, bytes: &[u8]) -> Result<(), ChunkError> {
    if bytes.len() as u64 != u64::from(size) {
        return Err(ChunkError::Size {
            digest,
            expected: size,
            actual: bytes.len(),
        });
    }
    let actual = sha256(bytes);
    if actual != digest {
        return Err(ChunkError::Digest { digest, actual });
    }
    Ok(())
}

/// Checks `bytes` as [`check`] does, then decompresses them into `out`, which they must fill exactly.
///
/// # Errors
/// [`ChunkError`] with what was found.
pub fn open(digest: Digest, size: u32, bytes: &[u8], out: &mut [u8]) -> Result<(), ChunkError> {
    check(digest, size, bytes)?;
    open_verified(digest, size, bytes, out)
}

/// As [`open`], for bytes whose digest was computed when they came and that have been in our memory since.
pub(crate) fn open_verified(
    digest: Digest,
    size: u32,
    bytes: &[u8],
    out: &mut [u8],
) -> Result<(), ChunkError> {
    if bytes.len() as u64 != u64::from(size) {
        return Err(ChunkError::Size {
            digest,
            expected: size,
            actual: bytes.len(),
        });
    }
    let expected = out.len();
    let length = |reason: String| ChunkError::Length {
        digest,
        expected,
        reason,
    };
    let written =
        zstd::bulk::decompress_to_buffer(bytes, out).map_err(|error| length(error.to_string()))?;
    if written != expected {
        return Err(length(format!("it holds only {written}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    fn opened(bytes: &[u8], out: &mut [u8]) -> Result<(), ChunkError> {
        open(
            sha256(bytes),
            u32::try_from(bytes.len()).unwrap(),
            bytes,
            out,
        )
    }

    #[test]
    fn a_chunk_comes_back_whole() {
        let mut out = [0; 5];
        opened(&packed(b"hello"), &mut out).unwrap();
        assert_eq!(&out, b"hello");
    }

    #[test]
    fn a_bomb_cannot_grow_past_the_stated_length() {
        let bomb = packed(&vec![0; 64 << 20]);
        let error = opened(&bomb, &mut [0; 4096]).unwrap_err();
        assert!(
            matches!(error, ChunkError::Length { expected: 4096, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_short_chunk_is_refused() {
        let error = opened(&packed(b"hello"), &mut [0; 6]).unwrap_err();
        assert!(error.to_string().contains("only 5"), "{error}");
    }

    #[test]
    fn altered_bytes_never_reach_the_decompressor() {
        let good = packed(b"hello");
        let mut bad = good.clone();
        *bad.last_mut().unwrap() ^= 1;
        let size = u32::try_from(good.len()).unwrap();
        assert!(matches!(
            open(sha256(&good), size, &bad, &mut [0; 5]),
            Err(ChunkError::Digest { .. })
        ));
        assert!(matches!(
            open(sha256(&good), size + 1, &good, &mut [0; 5]),
            Err(ChunkError::Size { .. })
        ));
    }
}
