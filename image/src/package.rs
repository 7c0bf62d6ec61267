// SPDX-License-Identifier: Apache-2.0
//! Payloads, artifacts and bootstraps on a builder's disk: a folder with a manifest, its signatures and its contents.
//!
//! ```text
//! DIR/manifest.json            canonical; what is signed and what a rack pins
//! DIR/signatures/<n>.sig       armored SSHSIG, made by others
//! DIR/chunks/<xx>/<sha256>     zstd frames
//! DIR/pieces                   which contents became which chunks, for the next build here; never published
//! ```
//!
//! A folder appears complete or not at all. Nothing here decides whether a signature is good: see
//! [`Package::verify`], which asks `racklet_trust`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use racklet_fetch::publish::{Pieces, Shelf, Splitter};
use racklet_fetch::{chunk, publish, verity};
use racklet_trust::manifest::{Chunk, File, MAX_SIZE, Manifest, ManifestError};
use racklet_trust::sshsig::{SignatureError, SshSig};
use racklet_trust::{Digest, TrustRoot, Verified};

/// A signature file is at most this long, and there are at most this many.
const MAX_SIGNATURE: u64 = racklet_trust::sshsig::MAX_ARMORED as u64;
const MAX_SIGNATURES: usize = racklet_trust::root::MAX_KEYS;

/// Why a package was not made, read or believed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Reading an input.
    #[error("read {what}")]
    Input {
        /// Which file of the manifest.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// Something in the folder.
    #[error("{doing} {}", path.display())]
    Io {
        /// `write`, `read`, …
        doing: &'static str,
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something else at the output's place.
    #[error("{} exists and is not a package; name another place or remove it yourself", .0.display())]
    Occupied(PathBuf),
    /// Not a package.
    #[error("{} has no manifest.json; build a package there first (racklet payload|artifact|bootstrap build)", .0.display())]
    NotAPackage(PathBuf),
    /// The manifest is not one, or not signed as it must be.
    #[error("{}", path.join("manifest.json").display())]
    Manifest {
        /// The package.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// A signature is none.
    #[error("{}", path.display())]
    Signature {
        /// The signature file.
        path: PathBuf,
        /// Why.
        source: SignatureError,
    },
    /// A chunk is not what the manifest says.
    #[error("file {file} of {}", path.display())]
    Chunk {
        /// The package.
        path: PathBuf,
        /// The manifest's file.
        file: String,
        /// Why.
        source: chunk::ChunkError,
    },
    /// A file is not what the manifest says.
    #[error("file {file} of {} does not match the manifest: {what}", path.display())]
    File {
        /// The package.
        path: PathBuf,
        /// The manifest's file.
        file: String,
        /// How.
        what: String,
    },
    /// More signatures than anybody looks at.
    #[error("more than {MAX_SIGNATURES} signatures in {}", .0.display())]
    TooManySignatures(PathBuf),
}

/// A package in its folder.
#[derive(Debug)]
pub struct Package {
    directory: PathBuf,
    manifest: Manifest,
    bytes: Vec<u8>,
}

/// A file to put into a package.
pub struct Input<'a> {
    /// See [`Kind::file_names`].
    pub name: &'a str,
    /// Its contents.
    pub contents: Contents<'a>,
}

/// Where the contents of a file come from.
pub enum Contents<'a> {
    /// They are read.
    Read(&'a mut dyn Read),
    /// They are written, front to back: what is made on the way need not lie anywhere.
    Write(&'a mut Writer<'a>),
}

/// Writes a file's contents.
pub type Writer<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// Makes a package out of `manifest` (whose `files` are filled in here) in `directory`, replacing an older one.
///
/// `progress` hears how many bytes of the inputs are done.
pub fn build(
    mut manifest: Manifest,
    inputs: Vec<Input<'_>>,
    directory: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<Package, PackageError> {
    if directory.exists() && !directory.join("manifest.json").exists() {
        let empty = fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_none());
        if !empty {
            return Err(PackageError::Occupied(directory.to_owned()));
        }
    }
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(io_error("make", &parent))?;
    let work = tempfile::Builder::new()
        .prefix(".racklet-build-")
        .tempdir_in(&parent)
        .map_err(io_error("make a folder in", &parent))?;
    manifest.files.clear();
    let mut shelf = PackageShelf {
        before: directory,
        work: work.path(),
        progress,
        failed: None,
    };
    let before = shelf.pieces();
    let mut pieces = Pieces::default();
    for input in inputs {
        let (file, new) = chunked_file(input, &before, &mut shelf)?;
        pieces.extend(new);
        manifest.files.push(file);
    }
    write(&work.path().join(PIECES), pieces.encode().as_bytes())?;
    let bytes = manifest.to_canonical();
    // What we write must be what a tray reads.
    Manifest::parse_unverified(&bytes).map_err(|source| PackageError::Manifest {
        path: directory.to_owned(),
        source,
    })?;
    write(&work.path().join("manifest.json"), &bytes)?;
    // Chunks belong on a branch of their own; built inside of a rack repository, they must not slip into its main one.
    write(&work.path().join(".gitignore"), b"*\n")?;

    let old = directory.exists().then(|| {
        tempfile::Builder::new()
            .prefix(".racklet-old-")
            .tempdir_in(&parent)
            .map_err(io_error("make a folder in", &parent))
    });
    let old = old.transpose()?;
    if let Some(old) = &old {
        fs::rename(directory, old.path().join("package"))
            .map_err(io_error("replace", directory))?;
    }
    let path = work.keep();
    set_mode(&path)?;
    fs::rename(&path, directory).map_err(io_error("write", directory))?;
    Ok(Package {
        directory: directory.to_owned(),
        manifest,
        bytes,
    })
}

impl Package {
    /// Opens a package; believes nothing yet.
    pub fn open(directory: &Path) -> Result<Self, PackageError> {
        let path = directory.join("manifest.json");
        if !path.exists() {
            return Err(PackageError::NotAPackage(directory.to_owned()));
        }
        let bytes = read_bounded(&path, MAX_SIZE as u64)?;
        let manifest =
            Manifest::parse_unverified(&bytes).map_err(|source| PackageError::Manifest {
                path: directory.to_owned(),
                source,
            })?;
        Ok(Self {
            directory: directory.to_owned(),
            manifest,
            bytes,
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bytes that are signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What a rack repository pins.
    pub fn digest(&self) -> Digest {
        chunk::sha256(&self.bytes)
    }

    /// Bytes that a tray with nothing cached fetches: manifest, and chunks, each once.
    pub fn transfer_size(&self) -> u64 {
        let mut seen = BTreeSet::new();
        let chunks = self.manifest.files.iter().flat_map(|file| &file.chunks);
        let new = chunks.filter(|chunk| seen.insert(chunk.sha256));
        new.map(|chunk| u64::from(chunk.size)).sum::<u64>() + self.bytes.len() as u64
    }

    /// The armored signatures, in the order of their numbers, with their paths.
    pub fn signatures(&self) -> Result<Vec<(PathBuf, Vec<u8>)>, PackageError> {
        let folder = self.directory.join("signatures");
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(io_error("read", &folder)(source)),
        };
        let mut found = BTreeMap::new();
        for entry in entries {
            let path = entry.map_err(io_error("read", &folder))?.path();
            let number = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_suffix(".sig"))
                .and_then(|stem| stem.parse::<usize>().ok());
            if let Some(number) = number {
                found.insert(number, path);
            }
        }
        if found.len() > MAX_SIGNATURES {
            return Err(PackageError::TooManySignatures(folder));
        }
        found
            .into_values()
            .map(|path| read_bounded(&path, MAX_SIGNATURE).map(|bytes| (path, bytes)))
            .collect()
    }

    /// Adds a signature, or replaces the one by the same key. Signatures are kept in the order of their keys, so that the
    /// same signers give the same tree whoever signs first. Says who signed.
    pub fn add_signature(&self, armored: &[u8]) -> Result<racklet_trust::PublicKey, PackageError> {
        let folder = self.directory.join("signatures");
        let mut by_key = BTreeMap::new();
        let parse = |path: &Path, bytes: &[u8]| {
            SshSig::parse(bytes)
                .and_then(|signature| {
                    signature
                        .verify(racklet_trust::namespace::MANIFEST, &self.bytes)
                        .cloned()
                })
                .map_err(|source| PackageError::Signature {
                    path: path.to_owned(),
                    source,
                })
        };
        let signer = parse(Path::new("the new signature"), armored)?;
        for (path, bytes) in self.signatures()? {
            // An older signature that does not fit this manifest is dropped: it could never count.
            if let Ok(key) = parse(&path, &bytes) {
                by_key.insert(key, bytes);
            }
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        by_key.insert(signer.clone(), armored.to_vec());
        fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        for (number, bytes) in by_key.into_values().enumerate() {
            write(
                &self.directory.join(publish::signature_path(number)),
                &bytes,
            )?;
        }
        Ok(signer)
    }

    /// Whether a tray with this trust root would take it: signatures first, then every byte of the contents.
    pub fn verify(&self, root: &Verified<TrustRoot>) -> Result<Verified<Manifest>, PackageError> {
        let signatures: Vec<Vec<u8>> = self
            .signatures()?
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        let verified = Manifest::verify(root, self.manifest.kind, &self.bytes, &signatures)
            .map_err(|source| PackageError::Manifest {
                path: self.directory.clone(),
                source,
            })?;
        self.verify_contents(&mut |_| {})?;
        Ok(verified)
    }

    /// Whether the contents are those of the manifest.
    pub fn verify_contents(&self, progress: &mut dyn FnMut(u64)) -> Result<(), PackageError> {
        let mut visit = |bytes: &[u8]| progress(bytes.len() as u64);
        (self.manifest.files.iter()).try_for_each(|file| self.read(file, &mut visit))
    }

    /// A file of the manifest, in memory and found to be the one that it names; nothing where it names none.
    pub fn file(&self, name: &str) -> Result<Option<Vec<u8>>, PackageError> {
        let Some(file) = self.manifest.file(name) else {
            return Ok(None);
        };
        let mut whole = Vec::new();
        self.read(file, &mut |bytes| whole.extend_from_slice(bytes))?;
        Ok(Some(whole))
    }

    /// Reads a file chunk by chunk. What `visit` was shown is the file only when this succeeds.
    fn read(&self, file: &File, visit: &mut dyn FnMut(&[u8])) -> Result<(), PackageError> {
        let mismatch = |what: String| PackageError::File {
            path: self.directory.clone(),
            file: file.name.clone(),
            what,
        };
        let mut whole = ring::digest::Context::new(&ring::digest::SHA256);
        let mut verity = file.verity.map(|_| verity::Tree::default());
        let mut size = 0;
        for part in &file.chunks {
            let path = self.directory.join(publish::chunk_path(part.sha256));
            let bytes = read_bounded(&path, u64::from(part.size))?;
            let mut out = vec![0; part.length as usize];
            chunk::open(part.sha256, part.size, &bytes, &mut out).map_err(|source| {
                PackageError::Chunk {
                    path: self.directory.clone(),
                    file: file.name.clone(),
                    source,
                }
            })?;
            whole.update(&out);
            if let Some(verity) = &mut verity {
                verity.update(&out);
            }
            size += out.len() as u64;
            visit(&out);
        }
        if size != file.size {
            return Err(mismatch(format!("{size} bytes instead of {}", file.size)));
        }
        if whole.finish().as_ref() != file.sha256.0 {
            return Err(mismatch("another SHA-256".to_owned()));
        }
        if verity.map(verity::Tree::finish) != file.verity {
            return Err(mismatch("another fs-verity digest".to_owned()));
        }
        Ok(())
    }

    /// The tree that travels, as paths inside the package, sorted. Only what the manifest names.
    pub fn tree(&self) -> Result<Vec<String>, PackageError> {
        let mut paths = BTreeSet::from([publish::MANIFEST_PATH.to_owned()]);
        paths.extend((0..self.signatures()?.len()).map(publish::signature_path));
        for file in &self.manifest.files {
            let chunks = file.chunks.iter();
            paths.extend(chunks.map(|part| publish::chunk_path(part.sha256)));
        }
        Ok(paths.into_iter().collect())
    }
}

/// Which contents became which chunks.
const PIECES: &str = "pieces";

/// Puts chunks into a package's folder, and takes those over that the package before has.
struct PackageShelf<'a> {
    before: &'a Path,
    work: &'a Path,
    progress: &'a mut dyn FnMut(u64),
    /// What could not be written.
    failed: Option<PathBuf>,
}

impl PackageShelf<'_> {
    /// What the package before says about its chunks; nothing when there is none.
    fn pieces(&self) -> Pieces {
        let text = read_bounded(&self.before.join(PIECES), publish::MAX_PIECES);
        let text = text.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        text.map_or_else(Pieces::default, |text| Pieces::decode(&text))
    }

    fn write(&mut self, chunk: &Chunk, bytes: &[u8]) -> io::Result<()> {
        let path = self.work.join(publish::chunk_path(chunk.sha256));
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| fs::write(&path, bytes));
        written.inspect_err(|_| self.failed = Some(path))
    }
}

impl Shelf for PackageShelf<'_> {
    fn reuse(&mut self, chunk: &Chunk) -> io::Result<bool> {
        let path = self.before.join(publish::chunk_path(chunk.sha256));
        // Gone or damaged, it is made anew.
        let Ok(bytes) = read_bounded(&path, u64::from(chunk.size)) else {
            return Ok(false);
        };
        if chunk::check(chunk.sha256, chunk.size, &bytes).is_err() {
            return Ok(false);
        }
        self.write(chunk, &bytes).map(|()| true)
    }

    fn put(&mut self, chunk: &Chunk, bytes: &[u8]) -> io::Result<()> {
        self.write(chunk, bytes)
    }

    fn done(&mut self, count: u64) {
        (self.progress)(count);
    }
}

fn chunked_file(
    input: Input<'_>,
    before: &Pieces,
    shelf: &mut PackageShelf<'_>,
) -> Result<(File, Pieces), PackageError> {
    let split = Splitter::new(input.name, before, shelf).and_then(|mut splitter| {
        match input.contents {
            Contents::Read(reader) => splitter.read(reader)?,
            Contents::Write(write) => write(&mut splitter)?,
        }
        splitter.finish()
    });
    split.map_err(|source| match shelf.failed.take() {
        Some(path) => PackageError::Io {
            doing: "write",
            path,
            source,
        },
        None => PackageError::Input {
            what: input.name.to_owned(),
            source,
        },
    })
}

fn io_error<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> PackageError + 'a {
    move |source| PackageError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PackageError> {
    fs::write(path, bytes).map_err(io_error("write", path))
}

/// A temporary folder is the owner's alone; a package is as readable as the umask lets other folders be.
fn set_mode(path: &Path) -> Result<(), PackageError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io_error("change", path))
}

/// Reads a file that must not be longer than `limit`.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, PackageError> {
    let file = fs::File::open(path).map_err(io_error("read", path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        let source = io::Error::new(
            io::ErrorKind::InvalidData,
            format!("longer than {limit} bytes"),
        );
        return Err(io_error("read", path)(source));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
