// SPDX-License-Identifier: Apache-2.0
//! Bytes with a bound that the type carries: what a frame, a packet or a queue is kept in where nothing is allocated.

use core::{fmt, ops::Deref};

/// At most `N` bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bytes<const N: usize> {
    // Behind `length` everything is 0, so that two of them are equal exactly when their contents are.
    bytes: [u8; N],
    length: usize,
}

/// What was to be added does not fit; nothing of it was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it does not fit any more")
    }
}

impl core::error::Error for Full {}

impl<const N: usize> Bytes<N> {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            length: 0,
        }
    }

    /// A copy of `bytes`.
    ///
    /// # Errors
    /// [`Full`] when they are more than `N`.
    pub fn copied(bytes: &[u8]) -> Result<Self, Full> {
        let mut copy = Self::new();
        copy.extend(bytes)?;
        Ok(copy)
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// [`Full`], and then it is as before.
    pub fn extend(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.length.checked_add(bytes.len()).ok_or(Full)?;
        let place = self.bytes.get_mut(self.length..end).ok_or(Full)?;
        place.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// Adds one byte at the end.
    ///
    /// # Errors
    /// [`Full`], and then it is as before.
    pub fn push(&mut self, byte: u8) -> Result<(), Full> {
        self.extend(&[byte])
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.bytes[..self.length].fill(0);
        self.length = 0;
    }
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let mut bytes = Bytes::<4>::copied(b"abc").unwrap();
        assert_eq!(bytes.extend(b"de"), Err(Full));
        assert_eq!(bytes, Bytes::copied(b"abc").unwrap());
        assert_eq!(bytes.push(b'd'), Ok(()));
        assert_eq!(&*bytes, b"abcd");
        assert_eq!(Bytes::<2>::copied(b"abc"), Err(Full));
    }

    #[test]
    fn cleared_bytes_equal_new_ones() {
        let mut bytes = Bytes::<4>::copied(b"abc").unwrap();
        bytes.clear();
        assert_eq!(bytes, Bytes::new());
    }
}
