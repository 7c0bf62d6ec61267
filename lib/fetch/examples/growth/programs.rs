// SPDX-License-Identifier: Apache-2.0
//! What `racklet` costs as a program, with the Git processes that it starts, beside what others take for the same: in seconds of processor
//! time, which a busy machine makes somewhat longer.
//!
//! ```text
//! growth programs [ROW…]      needs RACKLET, the program, as `cargo xtask bench growth` sets it
//! ```

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::work::{History, files};

/// One thing that was measured.
struct Row {
    work: String,
    about: String,
    seconds: f64,
    /// What else there is to know, such as bytes.
    more: String,
}

/// A part that can be asked for by its name.
type Part = (&'static str, fn(&Home) -> Vec<Row>);

/// Everything of this kind; a table, and the lines of `growth.json`.
pub(crate) fn all(only: &[String]) -> String {
    let racklet = PathBuf::from(env::var_os("RACKLET").expect("RACKLET names the program"));
    let mut json = String::new();
    println!("\n{:22} {:>8}", "", "CPU s");
    let parts: [Part; 6] = [
        ("check", check),
        ("history", history),
        ("build", build),
        ("publish", publish),
        ("sparse", sparse),
        ("small", small),
    ];
    for (name, part) in parts {
        if !only.is_empty() && !only.iter().any(|it| it == name) {
            continue;
        }
        let home = Home::new(&racklet);
        for row in part(&home) {
            let Row {
                work,
                about,
                seconds,
                more,
            } = row;
            println!("{work:22} {seconds:>8.2}  {about}{more}");
            let _ = writeln!(json, r#", {{"work":"{work}","seconds":{seconds:.2}}}"#);
        }
    }
    json
}

/// `racklet check`, by the workloads of the rack.
fn check(home: &Home) -> Vec<Row> {
    let sizes = [10, 1000, 4000];
    let measured = sizes.map(|size| {
        let rack = home.rack(&format!("check-{size}"), 1, 1, size);
        Row {
            work: format!("check {size}"),
            about: "workloads of one image that is here".to_owned(),
            seconds: home.seconds(&rack, &["check"]),
            more: String::new(),
        }
    });
    measured.into()
}

/// `racklet check` of a clone that was never checked, by the trust roots of a history of a thousand commits.
fn history(home: &Home) -> Vec<Row> {
    let sizes = [1, 100, 1000];
    let measured = sizes.map(|roots| {
        let rack = home.rack(&format!("history-{roots}"), roots, 1000, 1);
        let seconds = home.seconds(&rack, &["check"]);
        let again = home.seconds(&rack, &["check"]);
        Row {
            work: format!("history {roots}"),
            about: "trust roots, one after the other, in 1,000 commits".to_owned(),
            seconds,
            more: format!("; {again:.2} s when it is run again"),
        }
    });
    measured.into()
}

/// Another program that stores a folder by its pieces, in a folder with its own name: what makes that, and what stores `root`.
type Peer = (
    &'static str,
    Option<&'static [&'static str]>,
    &'static [&'static str],
);

/// An image of 128 MiB of this machine's programs, and again with one byte changed; the same by others, where they are installed.
fn build(home: &Home) -> Vec<Row> {
    let rack = home.rack("build", 1, 1, 1);
    let root = home.path("root");
    fs::create_dir(&root).unwrap();
    let mut programs: Vec<PathBuf> = fs::read_dir("/usr/bin")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|it| it.is_file()))
        .collect();
    programs.sort();
    let mut size = 0;
    let mut last = PathBuf::new();
    for path in programs {
        last = root.join(path.file_name().unwrap());
        size += fs::copy(path, &last).unwrap_or(0);
        if size >= 128 << 20 {
            break;
        }
    }
    let peers: [Peer; 3] = [
        (
            "borg",
            Some(&["init", "-e", "none", "borg"]),
            &["create", "borg::NEW", "root"],
        ),
        (
            "casync",
            None,
            &["make", "--store=casync", "NEW.caidx", "root"],
        ),
        (
            "restic",
            Some(&["-q", "-r", "restic", "init"]),
            &["-q", "-r", "restic", "backup", "root"],
        ),
    ];
    let mut rows = Vec::new();
    let mib = |folder: &str| format!("; {:.1} MiB", bytes(&home.path(folder)) as f64 / 1048576.0);
    for what in ["first", "one byte changed"] {
        let make = [
            "artifact", "build", "--from", "../root", "--name", "web", "-o",
        ];
        rows.push(Row {
            work: format!("build, {what}"),
            about: format!("{} MiB of programs", size >> 20),
            seconds: home.seconds(&rack, &[&make[..], &["../image"]].concat()),
            more: mib("image"),
        });
        for (name, before, words) in peers {
            let program = Path::new(name);
            if Command::new(program).arg("--version").output().is_err() {
                println!("{name}: not installed");
                continue;
            }
            if let (Some(before), "first") = (before, what) {
                home.time(program, &home.path(""), before);
            }
            let words = words
                .iter()
                .map(|word| word.replace("NEW", &what.replace(' ', "-")));
            let words: Vec<String> = words.collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            rows.push(Row {
                work: format!("{name}, {what}"),
                about: "the same".to_owned(),
                seconds: home.time(program, &home.path(""), &words),
                more: mib(name),
            });
        }
        let mut contents = fs::read(&last).unwrap();
        let middle = contents.len() / 2;
        contents[middle] ^= 1;
        fs::write(&last, contents).unwrap();
    }
    rows
}

/// 100 MiB that do not compress, published to a repository in a folder, with what Git does there.
fn publish(home: &Home) -> Vec<Row> {
    home.keys();
    let made = [
        "rack",
        "init",
        "rack",
        "--tray",
        "tray-1",
        "--board",
        "qemu-x86_64",
        "--repository",
        "https://git.example/rack.git",
    ];
    home.seconds(&home.path(""), &made);
    let rack = home.path("rack");
    let server = home.path("server.git");
    let server = server.to_str().unwrap();
    let format = "--object-format=sha256";
    home.git(&rack, &["init", "-q", "--bare", format, server]);
    home.git(&rack, &["remote", "set-url", "origin", server]);
    home.git(&rack, &["push", "-q", "origin", "main"]);
    fs::create_dir(home.path("root")).unwrap();
    let data = home.path("root/data");
    let mut bytes = noise(100 << 20);
    let mut rows = Vec::new();
    for (version, about) in [("1", "100 MiB"), ("2", "one byte of it changed")] {
        fs::write(&data, &bytes).unwrap();
        bytes[50 << 20] ^= 1;
        let build = [
            "artifact",
            "build",
            "--from",
            "../root",
            "--name",
            "web",
            "--version",
            version,
            "-o",
            "../image",
        ];
        home.seconds(&rack, &build);
        home.seconds(&rack, &["artifact", "sign", "../image"]);
        rows.push(Row {
            work: format!("publish {version}"),
            about: about.to_owned(),
            seconds: home.seconds(&rack, &["artifact", "publish", "../image"]),
            more: String::new(),
        });
    }
    rows
}

/// Images that are a hole but for one MiB.
fn sparse(home: &Home) -> Vec<Row> {
    let rack = home.rack("sparse", 1, 1, 1);
    let sizes = [1u64, 4].map(|gib| {
        let root = home.path(&format!("root-{gib}"));
        fs::create_dir(&root).unwrap();
        let data = fs::File::create(root.join("data")).unwrap();
        data.set_len(gib << 30).unwrap();
        data.write_all_at(&noise(1 << 20), 300 << 20).unwrap();
        let root = root.to_str().unwrap();
        let build = [
            "artifact", "build", "--name", "web", "-o", "../image", "--from", root,
        ];
        Row {
            work: format!("build of {gib} GiB"),
            about: "a hole with one MiB in it".to_owned(),
            seconds: home.seconds(&rack, &build),
            more: String::new(),
        }
    });
    sizes.into()
}

/// Images of many files of some bytes each, from an archive.
fn small(home: &Home) -> Vec<Row> {
    let rack = home.rack("small", 1, 1, 1);
    let sizes = [250_000u32, 1_000_000].map(|files| {
        let archive = home.path("archive");
        let mut tar = BufWriter::new(fs::File::create(&archive).unwrap());
        for n in 0..files {
            if n % 1000 == 0 {
                tar.write_all(&tar_header(&format!("d{}", n / 1000), b'5', 0))
                    .unwrap();
            }
            let text = format!("file {n}\n");
            let name = format!("d{}/f{n}", n / 1000);
            tar.write_all(&tar_header(&name, b'0', text.len())).unwrap();
            let mut block = [0; 512];
            block[..text.len()].copy_from_slice(text.as_bytes());
            tar.write_all(&block).unwrap();
        }
        tar.write_all(&[0; 1024]).unwrap();
        drop(tar);
        let from = archive.to_str().unwrap();
        let build = [
            "artifact", "build", "--name", "web", "-o", "../image", "--from", from,
        ];
        Row {
            work: format!("build of {files} files"),
            about: "some bytes each, from an archive".to_owned(),
            seconds: home.seconds(&rack, &build),
            more: String::new(),
        }
    });
    sizes.into()
}

/// A header of ustar (POSIX.1-2017, pax, "ustar Interchange Format").
fn tar_header(name: &str, kind: u8, size: usize) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, if kind == b'5' { "0000755" } else { "0000644" });
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "15265463600");
    put(148, "        ");
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// Bytes that neither repeat nor compress.
fn noise(length: usize) -> Vec<u8> {
    let mut seed = 1u64;
    std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

/// Bytes of all files below a folder.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    let sizes = entries.map(|entry| {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => bytes(&entry.path()),
            false => entry.metadata().unwrap().len(),
        }
    });
    sizes.sum()
}

/// A scratch folder for a user's things.
struct Home {
    folder: tempfile::TempDir,
    racklet: PathBuf,
}

impl Home {
    fn new(racklet: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("home")).unwrap();
        Self {
            folder,
            racklet: racklet.to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env("HOME", self.path("home"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            // Peers of `build`: no questions, and a store that is not encrypted or is so with this.
            .env("BORG_BASE_DIR", self.path("home"))
            .env("RESTIC_PASSWORD", "bench")
            .env("RESTIC_CACHE_DIR", self.path("home/restic"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// A key to sign with, and a name for Git.
    fn keys(&self) {
        let folder = self.path("home/.ssh");
        fs::create_dir(&folder).unwrap();
        let key = folder.join("id_ed25519");
        let words = ["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()];
        self.time(Path::new("ssh-keygen"), &folder, &words);
        let config = "[user]\n\tname = Owner\n\temail = owner@example.org\n";
        fs::write(self.path("home/.gitconfig"), config).unwrap();
    }

    fn git(&self, folder: &Path, words: &[&str]) {
        let mut git = self.command(Path::new("git"), folder);
        assert!(git.args(words).status().unwrap().success(), "git {words:?}");
    }

    /// Processor time of `racklet` and of all that it waited for.
    fn seconds(&self, folder: &Path, words: &[&str]) -> f64 {
        self.time(&self.racklet, folder, words)
    }

    fn time(&self, program: &Path, folder: &Path, words: &[&str]) -> f64 {
        let mut command = self.command(program, folder);
        let before = children();
        let status = command.args(words).status().unwrap();
        assert!(status.success(), "{} {words:?}", program.display());
        children() - before
    }

    /// A clone of a rack with so many trust roots, commits and workloads, packed as Git packs what it clones.
    fn rack(&self, name: &str, roots: u64, commits: u64, workloads: u64) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir(&folder).unwrap();
        let init = ["init", "-q", "--object-format=sha256", "-b", "main"];
        self.git(&folder, &init);
        let mut history = History::new(roots);
        let (digest, image) = history.image();
        let mut rack = files("load", workloads);
        for (_, text) in &mut rack {
            *text = text.replace(&"bb".repeat(32), &digest.to_string());
        }
        let mut head = None;
        for n in 1..=commits {
            // The newest root is there at the last commit.
            history.show(roots * n / commits);
            head = Some(history.commit(head, &rack));
        }
        history.write(&folder);
        let set = |name: String, id: String| self.git(&folder, &["update-ref", &name, &id]);
        let manifest = racklet_fetch::publish::manifest_ref(digest);
        set(manifest, image.to_string());
        set("refs/heads/main".to_owned(), head.unwrap().to_string());
        self.git(&folder, &["reset", "-q", "--hard"]);
        self.git(&folder, &["repack", "-adq"]);
        self.git(&folder, &["prune-packed", "-q"]);
        self.git(&folder, &["config", "racklet.root", &history.pin()]);
        folder
    }
}

/// Processor time of all processes that this one has waited for, and that they have, in seconds (proc(5), /proc/pid/stat).
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything, `cutime` and `cstime` are words 14 and 15, in hundredths.
    let (_, words) = stat.rsplit_once(')').unwrap();
    let words: Vec<u64> = words
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0))
        .collect();
    (words[13] + words[14]) as f64 / 100.0
}
