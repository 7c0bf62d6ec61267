// SPDX-License-Identifier: Apache-2.0
//! Whether a tree is a root file system at all: what looks like something else is refused with what to do, because packed as
//! it is it would be signed and shipped, and fail only in the guest.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use super::tree::{Body, Content, Kind, Tree};

/// Where a guest mounts something of its own (`guest/src/root.rs`).
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];
/// A description of an image is small; what is larger is somebody's data.
const MAX_DESCRIPTION: u64 = 4 << 20;

/// Why a tree is not a root file system.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NotARoot {
    /// A container image in a box.
    #[error(
        "this is {0}, not a root file system: unpack it first (podman create --name x IMAGE, then podman export x; \
         or umoci unpack --image LAYOUT:TAG BUNDLE, then --from BUNDLE/rootfs)"
    )]
    ContainerImage(&'static str),
    /// What `umoci unpack` and `runc spec` make.
    #[error(
        "this is an OCI runtime bundle; the root file system is its folder rootfs: --from …/rootfs"
    )]
    Bundle,
    /// Files/ and Hives/.
    #[error("this is a layer of a Windows container; a workload is a Linux root file system")]
    Windows,
    /// A file or link where a folder must be.
    #[error(
        "/{0} is not a folder, and the guest mounts its own there; make it an empty folder or leave it out"
    )]
    MountPoint(&'static str),
    /// A file where `/etc` must be.
    #[error(
        "/etc is not a folder, and the guest writes resolv.conf into it; make it a folder or leave it out"
    )]
    Etc,
}

impl Tree {
    /// Looks at the names at the top and at the descriptions that container tools put there.
    pub(super) fn judge(&self) -> Result<(), NotARoot> {
        if self.is_file("oci-layout") && self.is_file("index.json") {
            return Err(NotARoot::ContainerImage("an OCI image layout"));
        }
        if self.describes("manifest.json", |value| {
            let has = |image: &serde_json::Value| {
                image["Config"].is_string() && image["Layers"].is_array()
            };
            value
                .as_array()
                .is_some_and(|images| images.iter().any(has))
        }) {
            return Err(NotARoot::ContainerImage("what `docker save` writes"));
        }
        if self.describes("manifest.json", |value| {
            value["schemaVersion"].is_number() && value["layers"].is_array()
        }) {
            return Err(NotARoot::ContainerImage("a folder of skopeo's `dir:`"));
        }
        if self.is_folder("rootfs")
            && self.describes("config.json", |value| value["ociVersion"].is_string())
        {
            return Err(NotARoot::Bundle);
        }
        let windows = self.is_folder("Hives") || self.is_folder("UtilityVM");
        if self.is_folder("Files") && windows {
            return Err(NotARoot::Windows);
        }
        let at_fault = |name: &&str| self.top(name).is_some_and(|body| !is_folder(body));
        if let Some(name) = MOUNT_POINTS.into_iter().find(|name| at_fault(name)) {
            return Err(NotARoot::MountPoint(name));
        }
        match self.top("etc") {
            // A link is followed in the guest, inside its own root.
            None | Some(Body::Directory(_) | Body::Other(Kind::Directory | Kind::Symlink(_))) => {
                Ok(())
            }
            Some(Body::Other(_)) => Err(NotARoot::Etc),
        }
    }

    fn top(&self, name: &str) -> Option<&Body> {
        let Body::Directory(children) = &self.inodes[0].body else {
            return None;
        };
        let index = *children.get(name.as_bytes())?;
        Some(&self.inodes[index].body)
    }

    fn is_folder(&self, name: &str) -> bool {
        self.top(name).is_some_and(is_folder)
    }

    fn is_file(&self, name: &str) -> bool {
        matches!(self.top(name), Some(Body::Other(Kind::File(_))))
    }

    /// Whether the file is JSON of which `is` holds.
    fn describes(&self, name: &str, is: impl FnOnce(&serde_json::Value) -> bool) -> bool {
        let Some(Body::Other(Kind::File(content))) = self.top(name) else {
            return false;
        };
        // What cannot be read now fails when the image is written, with its reason.
        contents(content)
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .is_some_and(|value| is(&value))
    }
}

fn is_folder(body: &Body) -> bool {
    matches!(body, Body::Directory(_))
}

fn contents(content: &Content) -> Option<Vec<u8>> {
    if content.size() > MAX_DESCRIPTION {
        return None;
    }
    match content {
        Content::Bytes(bytes) => Some(bytes.clone()),
        Content::Path { path, .. } => {
            let mut bytes = Vec::new();
            let file = File::open(path).ok()?;
            file.take(MAX_DESCRIPTION).read_to_end(&mut bytes).ok()?;
            Some(bytes)
        }
        Content::Slice { file, offset, size } => {
            let mut bytes = vec![0; usize::try_from(*size).ok()?];
            file.read_exact_at(&mut bytes, *offset).ok()?;
            Some(bytes)
        }
    }
}
