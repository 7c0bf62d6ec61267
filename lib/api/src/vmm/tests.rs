// SPDX-License-Identifier: Apache-2.0
use super::*;

const CONFIG: &str = r#"{"v":1,"name":"web","cpus":2,"memory_mib":128,"kernel":"/k","initramfs":["/i","/g"],
    "disks":[{"path":"/d","read_only":true}],"networks":[{"tap":"vm0","mac":"02:52:4b:00:00:01"}],
    "vsock_cid":3,"confinement":{"uid":700,"gid":700}}"#;

fn vm(from: &str, to: &str) -> Result<VmConfig, String> {
    assert!(CONFIG.contains(from), "the case changes nothing");
    serde_json::from_str(&CONFIG.replace(from, to)).map_err(|e| e.to_string())
}

#[test]
fn the_configuration_survives_a_round_trip() {
    let config: VmConfig = serde_json::from_str(CONFIG).unwrap();
    assert_eq!(config.log_bytes, 1 << 20);
    assert_eq!(config.networks[0].mtu, 1500);
    assert_eq!(
        serde_json::from_str::<VmConfig>(&serde_json::to_string(&config).unwrap()).unwrap(),
        config
    );
}

#[test]
fn a_vm_outside_the_bounds_is_refused_naming_the_field() {
    let written = format!(r#""read_only":false,"verity":"{}""#, "ab".repeat(32));
    for (from, to, field) in [
        (r#""v":1"#, r#""v":2"#, "version 2"),
        (r#""name":"web""#, r#""name":"../web""#, "name"),
        (r#""name":"web""#, r#""name":"""#, "name"),
        (r#""cpus":2"#, r#""cpus":0"#, "cpus"),
        (r#""cpus":2"#, r#""cpus":33"#, "cpus"),
        (r#""memory_mib":128"#, r#""memory_mib":31"#, "memory_mib"),
        (
            r#""memory_mib":128"#,
            r#""memory_mib":128,"memory":1"#,
            "unknown field `memory`",
        ),
        (r#""/k""#, r#""k""#, "kernel"),
        (r#""kernel":"/k","#, "", "kernel: missing"),
        (
            r#""kernel":"/k""#,
            r#""kernel":"/k","restore":"/s""#,
            "leave out `kernel`",
        ),
        (
            r#""kernel":"/k""#,
            r#""restore":"/s""#,
            "restore: a guest that goes on has its initramfs",
        ),
        (r#""/g""#, r#""/a/../g""#, "initramfs[1]"),
        (
            r#"["/i","/g"]"#,
            r#"["/1","/2","/3","/4","/5","/6","/7","/8","/9"]"#,
            "initramfs",
        ),
        (r#""/d""#, r#""d""#, "disks[0].path"),
        (
            r#""/d""#,
            r#""/d","verity":"00""#,
            "expected 64 lower-case hexadecimal digits",
        ),
        (r#""read_only":true"#, &written, "disks[0].verity"),
        (r#""/d""#, r#""/d","grows_to":511"#, "disks[0].grows_to"),
        (r#""v":1"#, r#""v":1,"spare_disks":8"#, "spare_disks"),
        (
            r#""v":1"#,
            r#""v":1,"spare_disk_bytes":512"#,
            "spare_disk_bytes",
        ),
        (
            r#""v":1"#,
            r#""v":1,"spare_disks":7,"spare_disk_bytes":511"#,
            "spare_disk_bytes",
        ),
        (
            r#""/d""#,
            r#""/d","rate":{"bytes":{"per_second":0}}"#,
            "per_second: 0",
        ),
        ("vm0", "vm/0", "networks[0].tap"),
        ("vm0", "a-name-of-16-char", "networks[0].tap"),
        ("02:52", "03:52", "unicast"),
        ("02:52", "02:5", "hardware address"),
        (r#""vsock_cid":3"#, r#""vsock_cid":2"#, "vsock_cid"),
        (r#""uid":700"#, r#""uid":0"#, "confinement.uid"),
        (r#""gid":700"#, r#""gid":0"#, "confinement.gid"),
    ] {
        let error = vm(from, to).unwrap_err();
        assert!(error.contains(field), "{to}: {error}");
    }
}

#[test]
fn a_disk_for_a_running_guest_is_judged_as_one_of_the_configuration() {
    let attach = |says: &str| {
        let request = format!(r#"{{"v":1,"do":{{"attach":{says}}}}}"#);
        serde_json::from_str::<ControlRequest>(&request)
            .map(|request| request.action)
            .map_err(|e| e.to_string())
    };
    let says = disk::DiskAttach {
        serial: "a".to_owned(),
        grows_to: Some(512),
        ..disk::DiskAttach::default()
    };
    let text = r#"{"serial":"a","grows_to":512}"#;
    assert_eq!(attach(text), Ok(ControlAction::Attach(says)));
    for (says, why) in [
        (r#"{"serial":"a b"}"#, "serial"),
        (r#"{"serial":"123456789012345678901"}"#, "serial"),
        (r#"{"grows_to":511}"#, "grows_to"),
        (r#"{"rate":{"bytes":{"per_second":0}}}"#, "per_second"),
        (r#"{"path":"/d"}"#, "path"),
    ] {
        let refused = attach(says).unwrap_err();
        assert!(refused.contains(why), "{says}: {refused}");
    }
}

#[test]
fn a_guest_that_goes_on_from_a_snapshot_has_no_kernel_of_its_own() {
    let begins = r#""kernel":"/k","initramfs":["/i","/g"]"#;
    let config = vm(begins, r#""restore":"/s""#).unwrap();
    assert_eq!(config.restore.as_deref(), Some(std::path::Path::new("/s")));
    assert_eq!((config.kernel, config.initramfs.len()), (None, 0));
    let error = vm(begins, r#""restore":"s""#).unwrap_err();
    assert!(
        error.contains("restore: s is not an absolute path"),
        "{error}"
    );
}

#[test]
fn states_and_messages_are_written_as_documented() {
    let status = VmStatus {
        v: V1,
        pid: 7,
        since_ms: 5,
        lacks: Vec::new(),
        paused: false,
        state: VmState::Exited {
            end: CommandEnd::Code { code: 3 },
            stopped: false,
        },
    };
    let text =
        r#"{"v":1,"pid":7,"since_ms":5,"state":"exited","end":"code","code":3,"stopped":false}"#;
    assert_eq!(serde_json::to_string(&status).unwrap(), text);
    assert_eq!(serde_json::from_str::<VmStatus>(text).unwrap(), status);
    assert!(status.state.is_final() && !VmState::Up.is_final());
    let request: ControlRequest =
        serde_json::from_str(r#"{"v":1,"do":{"stop":{"grace_s":2}}}"#).unwrap();
    assert_eq!(request.action, ControlAction::Stop { grace_s: Some(2) });
    let request: ControlRequest = serde_json::from_str(r#"{"v":1,"do":"state"}"#).unwrap();
    assert_eq!(request.action, ControlAction::State);
    let request = r#"{"v":1,"do":{"console":{"from":7}}}"#;
    let request: ControlRequest = serde_json::from_str(request).unwrap();
    assert_eq!(request.action, ControlAction::Console { from: Some(7) });
    let data = console::Bytes(b"\x1b\xff".to_vec());
    let request = r#"{"v":1,"do":{"input":{"data":"G/8="}}}"#;
    let request: ControlRequest = serde_json::from_str(request).unwrap();
    assert_eq!(request.action, ControlAction::Input { data: data.clone() });
    let piece = ControlReply::Console(console::ConsolePiece {
        from: 3,
        data,
        next: 5,
        lost: 0,
    });
    let text = r#"{"console":{"from":3,"data":"G/8=","next":5}}"#;
    assert_eq!(serde_json::to_string(&piece).unwrap(), text);
    assert_eq!(serde_json::from_str::<ControlReply>(text).unwrap(), piece);
    for wrong in ["G/8", "G_8=", "\u{fc}"] {
        let input = format!(r#"{{"v":1,"do":{{"input":{{"data":"{wrong}"}}}}}}"#);
        let error = serde_json::from_str::<ControlRequest>(&input).unwrap_err();
        assert!(error.to_string().contains("base64"), "{error}");
    }
}
