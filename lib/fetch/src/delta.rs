// SPDX-License-Identifier: Apache-2.0
//! Git's delta format (gitformat-pack.txt): copy pieces of a base, insert new bytes.

/// Why a delta is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// It ends inside an instruction.
    #[error("it ends in the middle")]
    Cut,
    /// Sizes that no object has.
    #[error("a size in it is too large")]
    Size,
    /// It is for a base of another size.
    #[error("it is for another base")]
    Base,
    /// It copies from beyond the base.
    #[error("it copies from outside its base")]
    Copy,
    /// More or fewer bytes than it states.
    #[error("it does not make as many bytes as it states")]
    Result,
    /// Instruction 0.
    #[error("it holds the reserved instruction")]
    Reserved,
}

/// Reads a size: seven bits a byte, least significant first.
fn size(delta: &mut &[u8]) -> Result<u64, DeltaError> {
    let mut value = 0u64;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = delta.split_first().ok_or(DeltaError::Cut)?;
        *delta = rest;
        if shift > 56 {
            return Err(DeltaError::Size);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(value)
}

/// How many bytes the delta says it makes.
pub(crate) fn result_size(mut delta: &[u8]) -> Result<u64, DeltaError> {
    size(&mut delta)?;
    size(&mut delta)
}

/// Applies `delta` to `base`. The caller has checked [`result_size`] against its bounds.
pub(crate) fn apply(base: &[u8], mut delta: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let delta = &mut delta;
    if size(delta)? != base.len() as u64 {
        return Err(DeltaError::Base);
    }
    let wanted = usize::try_from(size(delta)?).map_err(|_| DeltaError::Size)?;
    let mut out = Vec::with_capacity(wanted);
    while let Some((&instruction, rest)) = delta.split_first() {
        *delta = rest;
        let piece = if instruction & 0x80 != 0 {
            // Bits 0 to 3 say which bytes of the offset follow, bits 4 to 6 which of the size.
            let mut numbers = [0u8; 8];
            for (bit, number) in numbers.iter_mut().take(7).enumerate() {
                if instruction & (1 << bit) != 0 {
                    let (&byte, rest) = delta.split_first().ok_or(DeltaError::Cut)?;
                    *delta = rest;
                    *number = byte;
                }
            }
            let [a, b, c, d, e, f, g, _] = numbers;
            let offset = u32::from_le_bytes([a, b, c, d]) as usize;
            let length = match u32::from_le_bytes([e, f, g, 0]) as usize {
                0 => 0x1_0000,
                length => length,
            };
            base.get(offset..)
                .and_then(|tail| tail.get(..length))
                .ok_or(DeltaError::Copy)?
        } else if instruction == 0 {
            return Err(DeltaError::Reserved);
        } else {
            let (piece, rest) = delta
                .split_at_checked(instruction.into())
                .ok_or(DeltaError::Cut)?;
            *delta = rest;
            piece
        };
        if piece.len() > wanted - out.len() {
            return Err(DeltaError::Result);
        }
        out.extend_from_slice(piece);
    }
    if out.len() == wanted {
        Ok(out)
    } else {
        Err(DeltaError::Result)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn copies_and_inserts() {
        let delta = [5, 7, 0x91, 1, 3, 2, b'x', b'y', 0x90, 2];
        assert_eq!(apply(b"hello", &delta).unwrap(), b"ellxyhe");
        assert_eq!(result_size(&delta), Ok(7));
    }

    #[test]
    fn wrong_deltas_are_refused() {
        for (delta, error) in [
            (&[5][..], DeltaError::Cut),
            (&[4, 1, 0x90, 1], DeltaError::Base),
            (&[5, 1, 0], DeltaError::Reserved),
            (&[5, 9, 0x91, 1, 5], DeltaError::Copy),
            (&[5, 1, 0x90, 2], DeltaError::Result),
            (&[5, 3, 0x90, 2], DeltaError::Result),
            (&[5, 3, 3, b'a'], DeltaError::Cut),
            (&[5, 3, 0x91, 1], DeltaError::Cut),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
                DeltaError::Size,
            ),
        ] {
            assert_eq!(apply(b"hello", delta), Err(error), "{delta:?}");
        }
    }

    proptest! {
        #[test]
        fn no_delta_makes_it_panic_or_grow(base in proptest::collection::vec(any::<u8>(), 0..64), mut delta in proptest::collection::vec(any::<u8>(), 0..64)) {
            delta.splice(0..0, [u8::try_from(base.len()).unwrap(), 100]);
            if let Ok(out) = apply(&base, &delta) {
                prop_assert_eq!(out.len(), 100);
            }
        }
    }
}
