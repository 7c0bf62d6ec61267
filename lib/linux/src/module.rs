// SPDX-License-Identifier: Apache-2.0
//! Kernel modules: all of a folder at the start, and none from then on.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::system::finit_module;

/// A module, or the folder that has them, could not be used.
#[derive(Debug, thiserror::Error)]
#[error("load the kernel module {}", path.display())]
pub struct ModuleError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Loads all modules of `folder` in the order of their names, and removes their files: what is in the kernel need not be in
/// memory twice. One for hardware that this machine has not is left out. Without the folder there is nothing to do.
pub fn load_all(folder: &Path) -> Result<(), ModuleError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ModuleError { path, source }
    };
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(failed(folder))?,
    };
    let paths = listed.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(failed(folder))?;
    paths.sort();
    for path in paths {
        load(&path).map_err(failed(&path))?;
        fs::remove_file(&path).map_err(failed(&path))?;
    }
    Ok(())
}

/// What modules are told. The kernel's own command line reaches only what is compiled in: for modules it is modprobe's to read, which
/// nobody runs here.
const OPTIONS: &[(&str, &CStr)] = &[
    // No virtual machines inside of virtual machines: 2026 brought a dozen holes in that code, one of them out of the guest.
    ("kvm-amd", c"nested=0"),
    ("kvm-intel", c"nested=0"),
];

/// The options for the module of this file, `<nn>-<name>.ko`.
fn options(path: &Path) -> &'static CStr {
    let name = path.file_stem().and_then(|stem| stem.to_str());
    let name = name.and_then(|stem| stem.split_once('-'));
    let name = name.map(|(_, name)| name.replace('_', "-"));
    OPTIONS
        .iter()
        .find(|(module, _)| name.as_deref() == Some(module))
        .map_or(c"", |(_, options)| options)
}

fn load(path: &Path) -> io::Result<()> {
    match finit_module(File::open(path)?, options(path), 0) {
        // KVM for the other maker's processors, or for those of a machine that has switched it off.
        Err(Errno::NODEV | Errno::OPNOTSUPP | Errno::IO) => Ok(()),
        other => Ok(other?),
    }
}

/// Switches loading off until the machine is started again: not even root can take this back.
pub fn forbid() -> io::Result<()> {
    const SWITCH: &str = "/proc/sys/kernel/modules_disabled";
    match fs::write(SWITCH, "1") {
        // A kernel that can load none.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        done => done?,
    }
    match fs::read_to_string(SWITCH)?.trim() {
        "1" => Ok(()),
        other => Err(io::Error::other(format!("{SWITCH} stays {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_is_told_to_nest_nothing() {
        for (file, expected) in [
            ("/modules/07-kvm-amd.ko", c"nested=0"),
            ("/modules/08-kvm_intel.ko", c"nested=0"),
            ("/modules/06-kvm.ko", c""),
            ("/modules/kvm-amd", c""),
        ] {
            assert_eq!(options(Path::new(file)), expected, "{file}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_has_no_modules() {
        assert!(load_all(Path::new("/no/such/folder")).is_ok());
    }

    #[test]
    fn what_is_no_module_is_refused_by_name_and_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("00-text.ko");
        fs::write(&path, "text").expect("a file");
        // The kernel says ENOEXEC to root, EPERM to others.
        let error = load_all(folder.path()).expect_err("it is refused");
        assert!(error.to_string().ends_with("00-text.ko"), "{error}");
        assert!(path.exists());
    }
}
