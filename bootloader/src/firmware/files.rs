// SPDX-License-Identifier: Apache-2.0
//! Files from the boot partition, through the firmware's own FAT driver, read-only.

use alloc::{format, vec::Vec};

use racklet_bootloader::verify::ReadError;
use uefi::{
    CString16, Handle, Status,
    proto::media::{
        file::{File, FileAttribute, FileInfo, FileMode},
        fs::SimpleFileSystem,
    },
};

pub(crate) fn read(
    partition: Option<Handle>,
    path: &str,
    most: u64,
) -> Result<Option<Vec<u8>>, ReadError> {
    let said = |error: uefi::Error| ReadError::Firmware(format!("{}", error.status()));
    let partition = partition.ok_or_else(|| said(Status::NO_MEDIA.into()))?;
    let mut volume = super::open::<SimpleFileSystem>(partition).map_err(said)?;
    let mut root = volume.open_volume().map_err(said)?;
    let path = CString16::try_from(&*path.replace('/', "\\"))
        .map_err(|_| said(Status::INVALID_PARAMETER.into()))?;
    let file = match root.open(&path, FileMode::Read, FileAttribute::empty()) {
        Ok(file) => file,
        Err(error) if error.status() == Status::NOT_FOUND => return Ok(None),
        Err(error) => return Err(said(error)),
    };
    let Some(mut file) = file.into_regular_file() else {
        return Err(said(Status::UNSUPPORTED.into()));
    };
    let size = file.get_boxed_info::<FileInfo>().map_err(said)?.file_size();
    let size = size.min(most);
    let length = usize::try_from(size).map_err(|_| ReadError::Memory(size))?;
    let mut contents = Vec::new();
    contents
        .try_reserve_exact(length)
        .map_err(|_| ReadError::Memory(size))?;
    contents.resize(length, 0);
    let mut filled = 0;
    while filled < length {
        match file.read(&mut contents[filled..]).map_err(said)? {
            // Shorter than the directory says: the digest check would fail too, with a less clear reason.
            0 => return Err(said(Status::END_OF_FILE.into())),
            count => filled += count,
        }
    }
    Ok(Some(contents))
}
