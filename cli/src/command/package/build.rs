// SPDX-License-Identifier: Apache-2.0
//! Building packages: payloads and bootstraps from a kernel and an initramfs, workload images from a root file system.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use racklet_boards::Boot;
use racklet_image::erofs::{self, ArchiveOptions, DirectoryOptions};
use racklet_image::kernel;
use racklet_image::package::{self, Contents, Input, Package};
use racklet_trust::manifest::Kind;
use racklet_trust::{Architecture, Manifest};

use super::judge::summary;
use crate::answer::{ArtifactBuilt, Omitted};
use crate::data;
use crate::interrupt::{self, Interruptible};
use crate::output::{Output, size};

#[derive(Args)]
struct Common {
    /// Its name, which is also the last part of its branch
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Its version; trays never go back to a lower one
    #[arg(long, value_name = "N", default_value_t = 1)]
    version: u64,
    /// The folder to make
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// When it was made: a date or Unix seconds; SOURCE_DATE_EPOCH or the newest input's time when left out
    #[arg(long, value_name = "TIME", env = "SOURCE_DATE_EPOCH", value_parser = crate::time::seconds)]
    created: Option<u64>,
    /// Not accepted any more after this many days from `created`
    #[arg(long, value_name = "DAYS")]
    expires_in: Option<u64>,
    /// What it was made from, such as `linux=6.12.90-1`; repeat for more
    #[arg(long, value_name = "NAME=TEXT", value_parser = source)]
    source: Vec<(String, String)>,
}

#[derive(Args)]
pub(crate) struct KernelBuild {
    /// The kernel: x86 bzImage or arm64 Image; for a bootstrap that UEFI starts, with EFI stub, or arm64 vmlinuz.efi
    ///
    /// The one that `cargo xtask install` put in place when left out.
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The initramfs, as the kernel takes it
    ///
    /// The one that `cargo xtask install` put in place when left out.
    #[arg(long, value_name = "FILE")]
    initramfs: Option<PathBuf>,
    /// A board it is for; repeat for more
    #[arg(long, value_name = "BOARD", required = true)]
    board: Vec<String>,
    /// The device tree and the firmware's own files, for a bootstrap of a board whose firmware starts it
    ///
    /// Those that `cargo xtask install` put in place when left out.
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
    /// Kernel arguments behind the board's own
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    arguments: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(crate) struct ArtifactBuild {
    /// The root file system: a directory, a tar archive, or `-`
    #[arg(long, value_name = "DIR|TAR")]
    from: PathBuf,
    /// The architecture its programs are for
    #[arg(long, value_name = "ARCH", default_value = Architecture::HERE.name(),
          value_parser = PossibleValuesParser::new(Architecture::ALL.map(Architecture::name))
              .map(|name| Architecture::named(&name).expect("one of those that are possible")))]
    architecture: Architecture,
    /// Keep numeric owners of a directory instead of making everything root's
    #[arg(long)]
    keep_owners: bool,
    /// Take device nodes too; a workload gets its devices from the guest's own /dev
    #[arg(long)]
    allow_devices: bool,
    #[command(flatten)]
    common: Common,
}

fn source(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("write NAME=TEXT, such as linux=6.12.90-1")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl Common {
    fn manifest(&self, kind: Kind, architecture: Architecture, newest_input: u64) -> Manifest {
        let mut manifest = Manifest::new(kind, &self.name, self.version, architecture);
        manifest.created = self.created.unwrap_or(newest_input);
        manifest.expires = self
            .expires_in
            .map(|days| manifest.created.saturating_add(days.saturating_mul(86_400)));
        manifest.source = self.source.iter().cloned().collect();
        manifest
    }
}

/// An output inside of what is packed would be packed the next time, and an output in its place would take it away.
fn apart(from: &Path, output: &Path) -> anyhow::Result<()> {
    let absolute = std::path::absolute(output).context("find the current folder")?;
    // It need not exist yet: what of it does exist says where it will be.
    let existing = absolute
        .ancestors()
        .find_map(|part| part.canonicalize().ok());
    let from_absolute = from
        .canonicalize()
        .with_context(|| format!("find {}", from.display()))?;
    if existing.is_some_and(|place| place.starts_with(&from_absolute)) {
        bail!(
            "the output {} lies inside of {}, which is to be packed; name another folder with -o",
            output.display(),
            from.display()
        );
    }
    Ok(())
}

fn modified(file: &File) -> io::Result<u64> {
    Ok(u64::try_from(file.metadata()?.mtime()).unwrap_or(0))
}

impl KernelBuild {
    pub(super) fn run(self, kind: Kind, output: Output) -> anyhow::Result<()> {
        let _guard = interrupt::guard();
        let open =
            |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
        let (kernel_path, initramfs_path) = self.parts(kind, output)?;
        let (mut kernel_file, initramfs) = (open(&kernel_path)?, open(&initramfs_path)?);
        // The header is enough to see what it is; the version string lies within the first 64 KiB.
        let mut head = Vec::new();
        Read::by_ref(&mut kernel_file)
            .take(128 << 10)
            .read_to_end(&mut head)
            .with_context(|| format!("read {}", kernel_path.display()))?;
        kernel_file.seek(SeekFrom::Start(0))?;
        let info = kernel::inspect(&head).with_context(|| kernel_path.display().to_string())?;
        if kind == Kind::Payload && !info.kexec {
            bail!(
                "{} unpacks itself as an EFI application (CONFIG_EFI_ZBOOT), and kexec cannot start that; take arch/arm64/boot/Image of the same build",
                kernel_path.display()
            );
        }
        let mut boards = Vec::new();
        for name in &self.board {
            let board = racklet_boards::find(name)?;
            if board.architecture != info.architecture {
                bail!(
                    "{} is for {}; board {name} is {}",
                    kernel_path.display(),
                    info.architecture,
                    board.architecture
                );
            }
            if kind == Kind::Bootstrap && board.boot == Boot::Uefi && !info.efi_stub {
                bail!(
                    "{} was built without CONFIG_EFI_STUB, so no UEFI firmware can start it",
                    kernel_path.display()
                );
            }
            if kind == Kind::Bootstrap && board.boot == Boot::RaspberryPi && !info.kexec {
                bail!(
                    "{} unpacks itself as an EFI application (CONFIG_EFI_ZBOOT), which a Raspberry Pi's firmware cannot start; take arch/arm64/boot/Image of the same build",
                    kernel_path.display()
                );
            }
            boards.push(board);
        }
        boards.sort_by(|a, b| a.name.cmp(&b.name));
        boards.dedup();
        let newest = modified(&kernel_file)?.max(modified(&initramfs)?);
        let mut manifest = self.common.manifest(kind, info.architecture, newest);
        manifest.boards = boards.iter().map(|board| board.name.clone()).collect();
        manifest.arguments.clone_from(&self.arguments);
        if let Some(release) = info.release() {
            manifest
                .source
                .entry("linux".to_owned())
                .or_insert_with(|| release.to_owned());
        }
        let firmware = match kind {
            Kind::Bootstrap => super::firmware::of(&boards)?,
            _ => None,
        };
        if let Some(firmware) = firmware {
            let parts = [&*kernel_path, &*initramfs_path];
            let files = super::firmware::files(firmware, parts, self.firmware.as_deref(), output)?;
            let mut readers: Vec<_> = files.iter().map(|(_, bytes)| &bytes[..]).collect();
            let inputs = files
                .iter()
                .zip(&mut readers)
                .map(|((name, _), reader)| Input {
                    name,
                    contents: Contents::Read(reader),
                });
            let inputs = inputs.collect();
            let built = package::build(manifest, inputs, &self.common.output, &mut |_| {})?;
            output.answer(&report(&built, ""), &summary(&built));
            return Ok(());
        }
        if self.firmware.is_some() {
            bail!("--firmware is for a bootstrap of a board whose own firmware starts it");
        }
        let total = kernel_file.metadata()?.len() + initramfs.metadata()?.len();
        let bar = output.bytes(&format!("building {kind}"), total);
        let (mut kernel_file, mut initramfs) =
            (Interruptible(kernel_file), Interruptible(initramfs));
        let inputs = vec![
            Input {
                name: "kernel",
                contents: Contents::Read(&mut kernel_file),
            },
            Input {
                name: "initramfs",
                contents: Contents::Read(&mut initramfs),
            },
        ];
        let built = package::build(manifest, inputs, &self.common.output, &mut |count| {
            bar.inc(count)
        })?;
        bar.finish_and_clear();
        output.answer(&report(&built, ""), &summary(&built));
        Ok(())
    }

    /// Kernel and initramfs: the user's, or those that are installed for the first of the boards.
    fn parts(&self, kind: Kind, output: Output) -> anyhow::Result<(PathBuf, PathBuf)> {
        let first = self.board.first().context("--board is required")?;
        let board = racklet_boards::find(first)?;
        // What firmware unpacks is the kernel that kexec starts, too, and not the one that unpacks itself for UEFI.
        let kernel = match (kind, &board.firmware) {
            (Kind::Bootstrap, Some(_)) => Kind::Payload,
            _ => kind,
        };
        let part = |named: &Option<PathBuf>, kind: Kind, name: &str| {
            let option = format!("--{name} FILE");
            data::find(
                named.as_deref(),
                &board,
                &format!("{kind}.{name}"),
                &option,
                output,
            )
        };
        Ok((
            part(&self.kernel, kernel, "kernel")?,
            part(&self.initramfs, kind, "initramfs")?,
        ))
    }
}

impl ArtifactBuild {
    pub(super) fn run(self, output: Output) -> anyhow::Result<()> {
        let _guard = interrupt::guard();
        let shown = self.from.display();
        let (tree, newest) = if self.from.is_dir() {
            apart(&self.from, &self.common.output)?;
            let options = DirectoryOptions {
                keep_owners: self.keep_owners,
                devices: self.allow_devices,
            };
            erofs::from_directory(&self.from, options).with_context(|| format!("pack {shown}"))?
        } else {
            let file = if self.from == Path::new("-") {
                File::from(rustix::io::dup(io::stdin()).context("read standard input")?)
            } else {
                File::open(&self.from).with_context(|| format!("open {shown}"))?
            };
            erofs::from_archive(
                file,
                ArchiveOptions {
                    devices: self.allow_devices,
                },
            )
            .with_context(|| format!("pack {shown}"))?
        };
        if tree.is_empty() {
            bail!("{shown} is empty");
        }
        let manifest = self
            .common
            .manifest(Kind::Artifact, self.architecture, newest);
        let total = tree.image_size()?;
        let bar = output.bytes("packing files", total);
        let created = manifest.created;
        // Straight into chunks: an image of many gigabytes, most of them holes, needs no room but for what is in it.
        let mut write = |out: &mut dyn Write| {
            let written = tree.write(created, &mut Interruptible(out), &mut |_| {});
            written.map(|_| ()).map_err(io::Error::other)
        };
        let inputs = vec![Input {
            name: "rootfs",
            contents: Contents::Write(&mut write),
        }];
        let built = package::build(manifest, inputs, &self.common.output, &mut |count| {
            bar.inc(count)
        })?;
        bar.finish_and_clear();
        let mut lines = String::new();
        let mut omitted = Vec::new();
        for (what, count, first) in tree.left_out() {
            let what = what.text();
            let files = racklet_tell::text::count(u64::try_from(count)?, "file");
            let _ = write!(lines, "\n  left out  {what} of {files}, first {first:?}");
            omitted.push(Omitted {
                what,
                count,
                first: first.to_owned(),
            });
        }
        let package = summary(&built);
        let answer = ArtifactBuilt { package, omitted };
        output.answer(&report(&built, &lines), &answer);
        Ok(())
    }
}

/// What was built, `remarks` on it (each a line with its end in front), and what to do next.
fn report(built: &Package, remarks: &str) -> String {
    let manifest = built.manifest();
    let place = built.directory().display();
    let raw: u64 = manifest.files.iter().map(|file| file.size).sum();
    format!(
        "built {} {} version {} in {place}\n  manifest  sha256:{}\n  size      {}, {} to fetch{remarks}\n\nnext: racklet {} sign {place}",
        manifest.kind,
        manifest.name,
        manifest.version,
        built.digest(),
        size(raw),
        size(built.transfer_size()),
        manifest.kind,
    )
}
