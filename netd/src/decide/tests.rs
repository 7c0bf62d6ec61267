// SPDX-License-Identifier: Apache-2.0
use super::*;
use crate::model::tests::{bridge, port};
use proptest::prelude::*;

/// The kernel, as far as the actions go.
fn apply(observed: &mut Vec<Observed>, action: Action) {
    fn find<'a>(observed: &'a mut [Observed], name: &str) -> &'a mut Observed {
        let found = observed.iter_mut().find(|link| link.name == name);
        found.expect("actions name only what is there")
    }
    let new = |name: String, kind: &str| Observed {
        name,
        kind: Some(kind.into()),
        alias: None,
        master: None,
        up: false,
        addresses: vec![],
        hosts: vec![],
    };
    match action {
        Action::Delete(name) => {
            observed.retain(|link| link.name != name);
            for link in observed {
                if link.master.as_ref() == Some(&name) {
                    link.master = None;
                }
            }
        }
        Action::CreateBridge { name, .. } => {
            assert!(!observed.iter().any(|link| link.name == name));
            observed.push(new(name, "bridge"));
        }
        Action::CreateTap { name, .. } => {
            assert!(!observed.iter().any(|link| link.name == name));
            observed.push(new(name, "tun"));
        }
        Action::SetAlias(name, alias) => find(observed, &name).alias = Some(alias),
        Action::AddAddress(name, ip, length) => {
            find(observed, &name).addresses.push((ip, length));
        }
        Action::DeleteAddress(name, ip, length) => {
            find(observed, &name)
                .addresses
                .retain(|found| *found != (ip, length));
        }
        Action::Enslave { tap, bridge } => {
            find(observed, &bridge);
            find(observed, &tap).master = Some(bridge);
        }
        Action::SetUp(name) => find(observed, &name).up = true,
        Action::AddHost(name, host) => {
            let bridge = find(observed, &name);
            assert!(
                bridge.up,
                "the kernel refuses routes of interfaces that are off"
            );
            bridge.hosts.push(host);
        }
        Action::DeleteHost(name, host) => {
            find(observed, &name).hosts.retain(|found| *found != host);
        }
    }
}

fn lan() -> racklet_api::netd::Bridge {
    bridge("lan", &["10.80.0.1/24"])
}

fn steady() -> (Desired, Vec<Observed>) {
    let mut desired = Desired::default();
    for (workload, last) in [("web", 10), ("db", 11)] {
        let address = format!("10.80.0.{last}");
        let port = port(workload, last, &[&address]);
        desired.attach(&lan(), &port, &[]).expect("fits");
    }
    let mut observed = Vec::new();
    for action in actions(&desired, &observed) {
        apply(&mut observed, action);
    }
    (desired, observed)
}

#[test]
fn a_restart_disturbs_nothing() {
    let (desired, observed) = steady();
    assert_eq!(actions(&desired, &observed), []);
}

#[test]
fn a_new_address_changes_the_note_and_the_route_and_keeps_the_tap() {
    let (mut desired, observed) = steady();
    let moved = port("web", 10, &["10.80.0.99"]);
    desired.attach(&lan(), &moved, &[]).expect("fits");
    let actions = actions(&desired, &observed);
    assert!(
        matches!(
            &actions[..],
            [Action::DeleteHost(_, old), Action::AddHost(_, new), Action::SetAlias(name, _)]
                if name == "rkt-web" && old.to_string() == "10.80.0.10" && new.to_string() == "10.80.0.99"
        ),
        "{actions:?}"
    );
}

#[test]
fn another_owner_needs_another_tap() {
    let (mut desired, observed) = steady();
    let mut other = port("web", 10, &["10.80.0.10"]);
    other.uid = 7;
    desired.attach(&lan(), &other, &[]).expect("fits");
    let actions = actions(&desired, &observed);
    assert_eq!(actions[0], Action::Delete("rkt-web".into()));
    assert_eq!(
        actions[1],
        Action::CreateTap {
            name: "rkt-web".into(),
            uid: 7
        }
    );
}

#[test]
fn half_made_interfaces_are_removed() {
    let (desired, mut observed) = steady();
    let half = Observed {
        name: "rkt-gone".into(),
        kind: Some("tun".into()),
        alias: None,
        master: None,
        up: false,
        addresses: vec![],
        hosts: vec![],
    };
    observed.push(half);
    assert_eq!(
        actions(&desired, &observed),
        [Action::Delete("rkt-gone".into())]
    );
}

proptest! {
    /// From any cut-off state (killed after any number of actions), the next run leads to the goal, and never touches
    /// the taps that were complete.
    #[test]
    fn killed_anywhere_the_next_run_completes(
        cut in 0_usize..40, edit in 0_u8..6, last in 2_u8..200, isolated: bool,
    ) {
        let (mut desired, mut observed) = steady();
        match edit {
            0 => desired.detach("web").expect("detach"),
            1 => desired.retain(&[]).expect("retain"),
            2 => {
                let ip = format!("10.81.0.{last}");
                let mut dmz = bridge("dmz", &["10.81.0.1/24", "fd00::1/64"]);
                dmz.nat = !isolated;
                desired.attach(&dmz, &port("web", last, &[&ip]), &[]).expect("fits");
            }
            3 => {
                let ip = format!("10.80.0.{}", last.max(12));
                desired.attach(&lan(), &port("new", 201, &[&ip]), &[]).expect("fits");
            }
            4 => {
                let lan = bridge("lan", &["10.80.0.2/24"]);
                desired.attach(&lan, &port("web", 10, &["10.80.0.10"]), &[]).expect("fits");
            }
            _ => {}
        }
        let db = observed.iter().find(|link| link.name == "rkt-db").cloned();
        for action in actions(&desired, &observed).into_iter().take(cut) {
            apply(&mut observed, action);
        }
        let rest = actions(&desired, &observed);
        for action in rest {
            apply(&mut observed, action);
        }
        prop_assert_eq!(actions(&desired, &observed), vec![]);
        if edit != 1 {
            prop_assert_eq!(observed.iter().find(|link| link.name == "rkt-db").cloned(), db);
        }
    }
}
