// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask install`: the user's tool where a shell finds it, and what trays are built from where the tool finds that
//! (`cli/src/data.rs` has the names).

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    architecture,
    arguments::Given,
    build, firmware, paths,
    process::output,
    progress::{self, say},
};

pub(crate) fn run(given: &Given) -> Result<()> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let data = env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| home.as_ref().map(|home| home.join(".local/share")))
        .context("neither HOME nor XDG_DATA_HOME is set: where may data be?")?;
    let programs = match given.value("--to") {
        Some(folder) => folder.into(),
        None => home
            .context("HOME is not set: say with --to where racklet goes")?
            .join(".local/bin"),
    };
    let architectures = given.architectures(&[architecture::HERE])?;
    build::everything(build::For::Trays, &architectures)?;
    progress::run(
        "racklet, optimised",
        "racklet-release",
        300,
        Command::new("cargo").current_dir(paths::workspace()).args([
            "build",
            "--release",
            "-p",
            "racklet-cli",
            "--bin",
            "racklet",
        ]),
    )?;
    let racklet = programs.join("racklet");
    place(&paths::target().join("release/racklet"), &racklet)?;
    for architecture in &architectures {
        for (from, to) in layout(architecture.name, &architecture.products()?) {
            place(&from, &data.join("racklet").join(to))?;
        }
        for (from, to) in firmware::layout(architecture)? {
            place(&from, &data.join("racklet").join(to))?;
        }
    }
    for (shell, to) in [
        ("bash", "bash-completion/completions/racklet"),
        ("zsh", "zsh/site-functions/_racklet"),
        ("fish", "fish/vendor_completions.d/racklet.fish"),
    ] {
        let script = output(Command::new(&racklet).args(["completion", shell]))?;
        let to = data.join(to);
        folder_of(&to)?;
        fs::write(&to, script).with_context(|| format!("write {}", to.display()))?;
    }
    let manual = paths::made(data.join("man/man1"))?;
    output(Command::new(&racklet).arg("man").arg(&manual))?;

    let names: Vec<_> = architectures.iter().map(|it| it.name).collect();
    say(&format!(
        "installed {}, its manual and completions, and what it builds trays from ({}) in {}",
        paths::short(&racklet),
        names.join(", "),
        paths::short(&data.join("racklet")),
    ));
    let path = env::var_os("PATH").unwrap_or_default();
    if !env::split_paths(&path).any(|folder| folder == programs) {
        say(&format!(
            "{} is not in PATH: add it in your shell's profile, or call the program by its whole name",
            paths::short(&programs)
        ));
    }
    say("next: docs/guide/first-rack.md");
    Ok(())
}

/// What is installed, and where in the data folder.
fn layout(architecture: &str, products: &Path) -> [(PathBuf, PathBuf); 5] {
    [
        ("os/bootloader.efi", "bootloader.efi"),
        ("kernel/tray/uefi", "bootstrap.kernel"),
        ("os/bootstrap.cpio.zst", "bootstrap.initramfs"),
        ("kernel/tray/kexec", "payload.kernel"),
        ("os/hypervisor.cpio.zst", "payload.initramfs"),
    ]
    .map(|(from, to)| (products.join(from), Path::new(architecture).join(to)))
}

/// Copies a file with its time, which becomes the time of packages that are built from it. One that is in use is replaced, not
/// written over.
fn place(from: &Path, to: &Path) -> Result<()> {
    folder_of(to)?;
    let mut name = to.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = to.with_file_name(name);
    let copy = || {
        let metadata = fs::metadata(from)?;
        fs::copy(from, &partial)?;
        let file = fs::OpenOptions::new().write(true).open(&partial)?;
        file.set_modified(metadata.modified()?)?;
        // Whatever the build's umask was: others on this machine may read and run it.
        let mode = if metadata.permissions().mode() & 0o100 == 0 {
            0o644
        } else {
            0o755
        };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&partial, to)
    };
    copy().with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

fn folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    paths::made(folder.to_owned()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn what_racklet_looks_for_is_installed_under_the_names_it_looks_for() {
        let lines: Vec<String> = layout("x86_64", Path::new("built"))
            .into_iter()
            .map(|(from, to)| format!("{} <- {}", to.display(), from.display()))
            .collect();
        assert_eq!(
            lines,
            [
                "x86_64/bootloader.efi <- built/os/bootloader.efi",
                "x86_64/bootstrap.kernel <- built/kernel/tray/uefi",
                "x86_64/bootstrap.initramfs <- built/os/bootstrap.cpio.zst",
                "x86_64/payload.kernel <- built/kernel/tray/kexec",
                "x86_64/payload.initramfs <- built/os/hypervisor.cpio.zst",
            ]
        );
        // The other side of the same names.
        let sought = fs::read_to_string(paths::workspace().join("cli/src/data.rs")).unwrap();
        for names in ["bootloader.efi", "{bootstrap,payload}.{kernel,initramfs}"] {
            assert!(
                sought.contains(&format!("`<architecture>/{names}`")),
                "{names}"
            );
        }
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("in/b"));
        let time = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        fs::write(&from, "1").unwrap();
        place(&from, &to).unwrap();
        let mut before = fs::File::open(&to).unwrap();
        fs::write(&from, "2").unwrap();
        fs::File::open(&from).unwrap().set_modified(time).unwrap();
        place(&from, &to).unwrap();
        let read = |file: &mut fs::File| std::io::read_to_string(file).unwrap();
        assert_eq!(read(&mut before), "1");
        assert_eq!(fs::read_to_string(&to).unwrap(), "2");
        assert_eq!(fs::metadata(&to).unwrap().modified().unwrap(), time);
        assert_eq!(fs::read_dir(folder.path().join("in")).unwrap().count(), 1);
    }
}
