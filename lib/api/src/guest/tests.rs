// SPDX-License-Identifier: Apache-2.0
use super::*;

const GUEST: &str = r#"{"v":1,"hostname":"web","command":["/bin/web"],"overlay":{"kind":"memory","size_mib":16},
    "networks":[{"addresses":["192.168.7.2/24","fd00::2/64"],"gateways":["192.168.7.1"]}],"dns":["192.168.7.1"]}"#;

fn guest(from: &str, to: &str) -> Result<GuestConfig, String> {
    assert!(GUEST.contains(from), "the case changes nothing");
    serde_json::from_str(&GUEST.replace(from, to)).map_err(|e| e.to_string())
}

#[test]
fn the_configuration_survives_a_round_trip() {
    let config: GuestConfig = serde_json::from_str(GUEST).unwrap();
    assert_eq!(config.grace_s, 10);
    assert_eq!(
        serde_json::from_str::<GuestConfig>(&serde_json::to_string(&config).unwrap()).unwrap(),
        config
    );
}

#[test]
fn a_guest_outside_the_bounds_is_refused_naming_the_field() {
    for (from, to, field) in [
        (r#"["/bin/web"]"#, "[]", "command"),
        (r#""/bin/web""#, r#""a\u0000b""#, "command[0]"),
        (r#""size_mib":16"#, r#""size_mib":0"#, "overlay.size_mib"),
        ("192.168.7.2/24", "192.168.7.2/33", "prefix length"),
        ("192.168.7.2/24", "0.0.0.0/24", "prefix length"),
        (r#""dns""#, r#""nameservers":[],"dns""#, "unknown field"),
        (
            r#""gateways":["192.168.7.1"]"#,
            r#""gateways":["192.168.7.1","192.168.7.3"]"#,
            "networks[0].gateways",
        ),
        (
            r#""dns""#,
            r#""volumes":[{"disk":0,"path":"/data"}],"dns""#,
            "volumes[0].disk",
        ),
        (
            r#""dns""#,
            r#""environment":{"A=B":"c"},"dns""#,
            "environment",
        ),
    ] {
        let error = guest(from, to).unwrap_err();
        assert!(error.contains(field), "{to}: {error}");
    }
}

#[test]
fn messages_are_written_as_documented() {
    let ended = AgentReport::Ended {
        end: CommandEnd::Signal { signal: 9 },
    };
    let text = serde_json::to_string(&ended).unwrap();
    assert_eq!(text, r#"{"report":"ended","end":"signal","signal":9}"#);
    assert_eq!(serde_json::from_str::<AgentReport>(&text).unwrap(), ended);
    let line = WorkloadLine {
        time_ms: 1,
        stream: OutputStream::Stdout,
        line: "hi".into(),
        partial: false,
    };
    let text = serde_json::to_string(&AgentReport::Output(line.clone())).unwrap();
    assert_eq!(
        text,
        r#"{"report":"output","time_ms":1,"stream":"stdout","line":"hi"}"#
    );
    assert_eq!(
        serde_json::from_str::<AgentReport>(&text).unwrap(),
        AgentReport::Output(line)
    );
}
