// SPDX-License-Identifier: Apache-2.0
use super::*;

fn read(request: Request) -> Message {
    let bytes = request.finish(0).expect("is small");
    Message::split(&bytes).expect("is netlink").remove(0)
}

#[test]
fn the_family_of_acpi_events_is_found_by_its_name() {
    let family = |name: &str, group: &str| {
        let mut request = Request::new(CONTROLLER, 0, &[1, 2, 0, 0]);
        request.text(FAMILY_NAME, name);
        request.bytes(FAMILY_ID, &27_u16.to_ne_bytes());
        request.nest(GROUPS, |groups| {
            for (number, name) in [(1, "other"), (2, group)] {
                groups.nest(number, |one| {
                    one.u32(GROUP_ID, 40 + u32::from(number));
                    one.text(GROUP_NAME, name);
                });
            }
        });
        events(&read(request))
    };
    assert_eq!(family("acpi_event", "acpi_mc_group"), Some((27, 42)));
    assert_eq!(family("thermal", "acpi_mc_group"), None);
    assert_eq!(family("acpi_event", "another"), None);
}

#[test]
fn only_the_power_button_of_this_family_counts() {
    let event = |kind: u16, class: &[u8]| {
        let mut request = Request::new(kind, 0, &[1, 1, 0, 0]);
        let mut data = class.to_vec();
        data.resize(44, 0);
        request.bytes(EVENT, &data);
        is_press(&read(request), 27)
    };
    assert!(event(27, b"button/power"));
    assert!(!event(27, b"button/sleep"));
    assert!(!event(27, b"button/power2"));
    assert!(!event(28, b"button/power"));
    let mut short = Request::new(27, 0, &[1, 1, 0, 0]);
    short.bytes(EVENT, b"button/power");
    assert!(!is_press(&read(short), 27));
}

#[test]
fn a_kernel_with_or_without_acpi_is_no_error() {
    PowerButton::listen().expect("asks the kernel");
}
