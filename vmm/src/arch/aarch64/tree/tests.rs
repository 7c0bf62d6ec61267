// SPDX-License-Identifier: Apache-2.0
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

fn bytes(gic: Gic, devices: u32) -> Vec<u8> {
    let hardware = Hardware {
        gic,
        affinities: vec![0x8000_0000, 0x8000_0001, 0x8000_0100],
    };
    tree(&Told {
        memory: (0x4000_0000, 256 << 20),
        command_line: "quiet a=b",
        initramfs: (0x4f00_0000, 0x4f12_3456),
        seed: &(0..40).collect::<Vec<u8>>(),
        hardware: &hardware,
        devices,
    })
    .unwrap()
}

/// What the device tree compiler reads in it, which knows rules of its own; a warning is an error here.
fn judged(tree: &[u8]) -> String {
    let mut dtc = Command::new("dtc")
        .args(["-I", "dtb", "-O", "dts", "-s"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("dtc, of the package device-tree-compiler");
    dtc.stdin.take().unwrap().write_all(tree).unwrap();
    let out = dtc.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.is_empty(), "{said}");
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn the_device_tree_compiler_reads_what_was_meant() {
    let all = [
        "compatible = \"linux,dummy-virt\";",
        "bootargs = \"quiet a=b\";",
        "stdout-path = \"/uart@9000000\";",
        "linux,initrd-end = <0x00 0x4f123456>;",
        "kaslr-seed = <0x20212223 0x24252627>;",
        "reg = <0x00 0x40000000 0x00 0x10000000>;",
        "cpu@100 {",
        "reg = <0x00 0x100>;",
        "method = \"hvc\";",
        "interrupts = <0x01 0x0d 0x04 0x01 0x0e 0x04 0x01 0x0b 0x04 0x01 0x0a 0x04>;",
        "virtio_mmio@a001000 {",
        "interrupts = <0x00 0x11 0x01>;",
        "reg = <0x00 0xa001000 0x00 0x1000>;",
    ];
    let v2 = [
        "compatible = \"arm,gic-400\";",
        "reg = <0x00 0x8000000 0x00 0x1000 0x00 0x8010000 0x00 0x2000>;",
    ];
    let v3 = [
        "compatible = \"arm,gic-v3\";",
        "reg = <0x00 0x8000000 0x00 0x10000 0x00 0x8020000 0x00 0x60000>;",
    ];
    for (gic, own) in [(Gic::V2, v2), (Gic::V3, v3)] {
        let text = judged(&bytes(gic, 2));
        for line in all.iter().chain(&own) {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("virtio_mmio@").count(), 2, "{text}");
    }
    assert!(!judged(&bytes(Gic::V3, 0)).contains("virtio_mmio@"));
}
