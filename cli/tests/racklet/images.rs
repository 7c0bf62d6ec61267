// SPDX-License-Identifier: Apache-2.0
//! `racklet image build`: the same inputs, the same card; and nothing on it that a tray could not use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::world::{World, run, text};

/// A PE32+ image with one section, as much as the builder looks at.
fn small_pe() -> Vec<u8> {
    let mut pe = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| pe[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0\x64\x86\x01\0");
    put(0x94, &[0xf0, 0, 0x22, 0, 0x0b, 0x02]);
    for (at, value) in [
        (4, 0x200u32),
        (16, 0x1000),
        (20, 0x1000),
        (32, 0x1000),
        (36, 0x200),
        (56, 0x2000),
        (60, 0x400),
        (68, 10),
        (108, 16),
    ] {
        put(0x98 + at, &value.to_le_bytes());
    }
    put(0x188, b".text");
    for (at, value) in [
        (8, 1u32),
        (12, 0x1000),
        (16, 0x200),
        (20, 0x400),
        (36, 0x6000_0020),
    ] {
        put(0x188 + at, &value.to_le_bytes());
    }
    pe
}

/// A rack with everything an image needs.
fn world() -> World {
    let world = World::with_rack();
    with_parts(&world);
    world
}

const BUILD: [&str; 8] = [
    "image",
    "build",
    "--tray",
    "tray-1",
    "--bootstrap",
    "../bootstrap",
    "--bootloader",
    "../boot.efi",
];

fn build<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&BUILD, more].concat()
}

/// Makes the parts of an image and says how to build one from them.
pub(crate) fn with_parts(world: &World) -> Vec<&'static str> {
    world.write("boot.efi", small_pe());
    world.build("bootstrap", "bootstrap", 1);
    world.in_rack(&["bootstrap", "sign", "../bootstrap"]);
    build(&["-o", "../a.img"])
}

#[test]
fn two_builds_give_the_same_sha256_and_only_the_owner_reads_them() {
    let world = world();
    let first = world.json(&build(&["-o", "../a.img"]));
    let second = world.json(&build(&["-o", "../b.img"]));
    assert_eq!(first["sha256"], second["sha256"]);
    assert!(fs::read(world.path("a.img")).unwrap() == fs::read(world.path("b.img")).unwrap());
    assert_eq!(
        fs::metadata(world.path("a.img"))
            .unwrap()
            .permissions()
            .mode()
            & 0o077,
        0
    );
    assert_ne!(
        world.json(&build(&["-o", "../c.img", "--dns", "192.0.2.1"]))["sha256"],
        first["sha256"]
    );
}

#[test]
fn the_image_says_where_the_rack_is_and_who_the_tray_is() {
    let world = world();
    world.write("token", "s3cret\n");
    world.write("mirrors/token", "m1rror\n");
    world.write(
        "mirrors/list.json",
        r#"{"repositories": [
            {"url": "https://mirror.example/rack.git", "mirror": true},
            {"url": "https://images.example/team", "static": "https://images.example/files", "user": "deploy", "tokenFile": "token"}
        ]}"#,
    );
    world.in_rack(&build(&[
        "-o",
        "../a.img",
        "--token-file",
        "../token",
        "--user",
        "alice",
        "--static",
        "https://git.example/static/home",
        "--repositories",
        "../mirrors/list.json",
        "--address",
        "192.0.2.7/24",
        "--gateway",
        "192.0.2.1",
    ]));
    let bytes = fs::read(world.path("a.img")).unwrap();
    let start = br#"{"v":1,"rack":""#;
    let begin = bytes
        .windows(start.len())
        .position(|window| window == start)
        .unwrap();
    let end = begin
        + bytes[begin..]
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap();
    let config = racklet_api::tray::TrayConfig::parse(&bytes[begin..=end]).unwrap();
    assert_eq!(
        (config.tray.as_str(), config.board.as_str()),
        ("tray-1", "qemu-x86_64")
    );
    assert_eq!(config.repository.url, "https://git.example/rack.git");
    assert_eq!(config.repository.token.unwrap().expose(), "s3cret");
    assert_eq!(config.repository.user.as_deref(), Some("alice"));
    let plain = config.repository.plain.as_deref();
    assert_eq!(plain, Some("https://git.example/static/home"));
    let [mirror, images] = &config.repositories[..] else {
        panic!("{:?}", config.repositories)
    };
    assert!(mirror.mirror && mirror.token.is_none());
    assert_eq!(images.user.as_deref(), Some("deploy"));
    let plain = images.plain.as_deref();
    assert_eq!(plain, Some("https://images.example/files"));
    assert_eq!(images.token.as_ref().unwrap().expose(), "m1rror");
    assert_eq!(config.network.addresses[0].to_string(), "192.0.2.7/24");
    assert!(config.identity.unwrap().expose().contains("PRIVATE KEY"));
    let head: u64 = run(&mut world.git("rack", &["log", "-1", "--format=%ct"]))
        .trim()
        .parse()
        .unwrap();
    assert_eq!(config.built, head.max(1_790_000_000));
    assert!(
        config
            .arguments
            .iter()
            .any(|argument| argument.starts_with("console="))
    );
}

#[test]
fn what_a_tray_without_a_card_starts_holds_no_secrets_unless_they_are_asked_for() {
    let world = world();
    world.write("token", "s3cret\n");
    let made = world.json(&build(&["-o", "../a.efi", "--netboot"]));
    let contents =
        |name: &str| String::from_utf8_lossy(&fs::read(world.path(name)).unwrap()).into_owned();
    assert_eq!(
        made["size"],
        fs::metadata(world.path("a.efi")).unwrap().len()
    );
    let tray = r#"{"v":1,"rack":""#;
    let open = contents("a.efi");
    assert!(open.contains(tray) && !open.contains("PRIVATE KEY"));
    let said = world.in_rack(&build(&["-o", "../a.efi", "--netboot"]));
    assert!(
        said.contains("It holds no secrets") && said.contains("docs/guide/netboot.md"),
        "{said}"
    );

    let with_token = ["--netboot", "--token-file", "../token"];
    let said = world.refused(&build(&[&["-o", "../b.efi"], &with_token[..]].concat()));
    assert!(
        said.contains("can be read by whoever reaches the server"),
        "{said}"
    );
    assert!(!world.path("b.efi").exists());
    let all = [&["-o", "../b.efi", "--with-secrets"], &with_token[..]].concat();
    let said = world.in_rack(&build(&all));
    assert!(
        said.contains("whoever reaches the server that it is put on has them"),
        "{said}"
    );
    let closed = contents("b.efi");
    assert!(closed.contains("PRIVATE KEY") && closed.contains("s3cret"));
}

#[test]
fn a_board_without_images_is_refused_with_what_is_missing() {
    let world = world();
    let added = world
        .racklet_in(
            "rack",
            &["rack", "add-tray", "five", "--board", "raspberry-pi-5"],
        )
        .output()
        .unwrap();
    let said = text(&added.stderr);
    assert!(
        added.status.success() && said.contains("no PCIe and no RP1"),
        "{said}"
    );
    world.commit("five");
    let said = world.refused(&["image", "build", "--tray", "five", "-o", "../a.img"]);
    assert!(
        said.contains("no image is built for raspberry-pi-5 yet: Linux 6.12")
            && said.contains("no PCIe and no RP1"),
        "{said}"
    );
    assert!(!world.path("a.img").exists());
}

#[test]
fn what_a_tray_could_not_use_is_refused() {
    let world = world();
    assert!(
        world
            .refused(&["image", "build", "--tray", "tray-9", "-o", "../a.img"])
            .contains("the rack's trays are: tray-1")
    );
    assert!(
        world
            .refused(&build(&["-o", "../a.img", "--board", "other"]))
            .contains("says qemu-x86_64")
    );
    assert!(
        world
            .refused(&["image", "build", "--tray", "tray-1", "-o", "../a.img"])
            .contains("--bootloader FILE")
    );

    fs::remove_dir_all(world.path("bootstrap/signatures")).unwrap();
    let said = world.refused(&build(&["-o", "../a.img"]));
    assert!(
        said.contains("1 signature by firmware keys needed"),
        "{said}"
    );
    world.in_rack(&["bootstrap", "sign", "../bootstrap"]);

    world.keygen("ben");
    world.in_rack(&[
        "trust",
        "rotate",
        "--add",
        "config=../ben.pub",
        "--no-commit",
    ]);
    assert!(
        world
            .refused(&build(&["-o", "../a.img"]))
            .contains("not committed")
    );
    world.commit("trust: version 2");
    world.in_rack(&build(&["-o", "../a.img"]));

    let key = fs::read_dir(world.path("home/.local/share/racklet"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("tray-1.key");
    fs::remove_file(key).unwrap();
    fs::remove_file(world.path("a.img")).unwrap();
    assert!(
        world
            .refused(&build(&["-o", "../a.img"]))
            .contains("the private key of tray-1 is not here")
    );
    assert!(!world.path("a.img").exists());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}

#[test]
fn parts_that_are_installed_need_not_be_named() {
    let world = World::with_rack();
    with_parts(&world);
    fs::remove_dir_all(world.path("bootstrap")).unwrap();
    let data = world.path("data");
    let racklet = |args: &[&str]| {
        let mut command = world.racklet_in("rack", args);
        command.env("XDG_DATA_HOME", &data);
        command
    };
    // The trays' keys are in the data folder as well.
    fs::create_dir_all(&data).unwrap();
    fs::rename(
        world.path("home/.local/share/racklet"),
        data.join("racklet"),
    )
    .unwrap();
    let bootstrap = [
        "bootstrap",
        "build",
        "--name",
        "b",
        "--board",
        "qemu-x86_64",
        "-o",
        "../b",
    ];
    let payload = [
        "payload",
        "build",
        "--name",
        "p",
        "--board",
        "qemu-x86_64",
        "-o",
        "../p",
    ];
    let image = [
        "image",
        "build",
        "--tray",
        "tray-1",
        "--bootstrap",
        "../b",
        "-o",
        "../a.img",
    ];
    let stderr = |command: &mut Command, good: bool| {
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), good, "{said}");
        said
    };
    let said = stderr(&mut racklet(&bootstrap), false);
    assert!(said.contains("cargo xtask install"), "{said}");
    assert!(
        said.contains("data/racklet/x86_64/bootstrap.kernel"),
        "{said}"
    );

    let put = |from: &str, to: &str| {
        fs::create_dir_all(data.join("racklet/x86_64")).unwrap();
        fs::copy(world.path(from), data.join("racklet/x86_64").join(to)).unwrap();
    };
    for kind in ["bootstrap", "payload"] {
        put("bzImage", &format!("{kind}.kernel"));
        put("initramfs", &format!("{kind}.initramfs"));
    }
    let said = stderr(&mut racklet(&bootstrap), true);
    assert!(said.contains("x86_64/bootstrap.kernel"), "{said}");
    stderr(&mut racklet(&payload), true);
    run(&mut racklet(&["bootstrap", "sign", "../b"]));

    let said = stderr(&mut racklet(&image), false);
    assert!(said.contains("cargo xtask install"), "{said}");
    put("boot.efi", "bootloader.efi");
    let said = stderr(&mut racklet(&image), true);
    assert!(said.contains("x86_64/bootloader.efi"), "{said}");
    assert!(world.path("a.img").exists());

    // A folder that the user names goes first, and what is for one board before what is for all of its architecture.
    let board = world.path("mine/boards/qemu-x86_64");
    fs::create_dir_all(&board).unwrap();
    fs::rename(world.path("b"), board.join("bootstrap")).unwrap();
    fs::rename(world.path("boot.efi"), board.join("bootloader.efi")).unwrap();
    put("initramfs", "bootloader.efi");
    let args = ["image", "build", "--tray", "tray-1", "-o", "../b.img"];
    run(racklet(&args).env("RACKLET_DATA", world.path("mine")));
}
