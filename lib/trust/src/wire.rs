// SPDX-License-Identifier: Apache-2.0
//! The SSH wire encoding (RFC 4251, section 5): strings with a 32-bit length before them.

/// The data ended early, or a length ran past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncated;

pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Truncated> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Truncated> {
        self.bytes(N)?.try_into().map_err(|_| Truncated)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Truncated> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn string(&mut self) -> Result<&'a [u8], Truncated> {
        let length = usize::try_from(self.u32()?).map_err(|_| Truncated)?;
        self.bytes(length)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends an SSH string. Everything signed here is far below 4 GiB.
pub(crate) fn put_string(out: &mut alloc::vec::Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("callers pass bounded fields");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}
