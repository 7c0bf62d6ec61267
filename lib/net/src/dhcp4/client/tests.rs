// SPDX-License-Identifier: Apache-2.0
//! The client against a server played by the test, on the test's clock.

use super::super::lease::tests::ack;
use super::*;
use proptest::prelude::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 20);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn config() -> Config {
    Config {
        mac: MAC,
        host_name: Some("tray-1".into()),
        seed: 42,
    }
}

fn client() -> Client {
    Client::new(config(), Duration::ZERO)
}

/// What the client says at `now`; panics when it says nothing or something else.
fn said(client: &mut Client, now: Duration) -> (Message, Output) {
    let output = client.poll(now).expect("the client speaks");
    let (Output::Broadcast { payload, .. } | Output::Unicast { payload, .. }) = &output else {
        panic!("not a message: {output:?}");
    };
    let message = Message::parse(payload).expect("the client's own message parses");
    assert!(!message.reply);
    assert_eq!(message.chaddr, MAC);
    (message, output)
}

fn answer(to: &Message, kind: Kind) -> Message {
    let mut message = ack();
    message.xid = to.xid;
    message
        .options
        .insert(option::MESSAGE_TYPE, vec![kind as u8]);
    message
}

/// Through the four messages to a lease that began at zero.
fn bound() -> Client {
    let mut client = client();
    let (discover, _) = said(&mut client, Duration::ZERO);
    client
        .receive(Duration::ZERO, &answer(&discover, Kind::Offer).encode())
        .unwrap();
    let (request, _) = said(&mut client, Duration::ZERO);
    client
        .receive(Duration::ZERO, &answer(&request, Kind::Ack).encode())
        .unwrap();
    let Some(Output::Configured(lease)) = client.poll(Duration::ZERO) else {
        panic!("no lease");
    };
    assert_eq!(lease.address, ADDRESS);
    assert_eq!(client.poll(Duration::ZERO), None);
    client
}

#[test]
fn an_address_of_a_guest_is_not_taken_and_another_servers_offer_is() {
    let mut client = client();
    let (discover, _) = said(&mut client, Duration::ZERO);
    client.set_taken(vec![ADDRESS]);
    let mut offer = answer(&discover, Kind::Offer);
    assert_eq!(
        client.receive(Duration::ZERO, &offer.encode()),
        Err(Refused::Taken(ADDRESS))
    );
    offer.yiaddr = [192, 168, 7, 21].into();
    assert_eq!(client.receive(Duration::ZERO, &offer.encode()), Ok(()));
    let (request, _) = said(&mut client, Duration::ZERO);
    assert_eq!(request.options[&option::REQUESTED], [192, 168, 7, 21]);
}

#[test]
fn four_messages_give_a_lease() {
    let mut client = client();
    let (discover, output) = said(&mut client, Duration::ZERO);
    assert_eq!(discover.kind(), Some(Kind::Discover));
    assert!(discover.broadcast);
    assert!(matches!(output, Output::Broadcast { source, .. } if source.is_unspecified()));
    assert_eq!(discover.options[&option::HOST_NAME], b"tray-1");
    client
        .receive(Duration::ZERO, &answer(&discover, Kind::Offer).encode())
        .unwrap();
    let (request, _) = said(&mut client, Duration::ZERO);
    assert_eq!(request.kind(), Some(Kind::Request));
    assert_eq!(request.address(option::SERVER_ID), Some(SERVER));
    assert_eq!(request.address(option::REQUESTED), Some(ADDRESS));
    assert_eq!(request.xid, discover.xid);
    client
        .receive(Duration::ZERO, &answer(&request, Kind::Ack).encode())
        .unwrap();
    assert!(matches!(
        client.poll(Duration::ZERO),
        Some(Output::Configured(_))
    ));
    assert_eq!(client.next_wake(), Some(seconds(1800)));
}

#[test]
fn silence_is_asked_again_with_growing_waits() {
    let mut client = client();
    let mut last = Duration::ZERO;
    for expected in [1, 2, 4, 8, 16, 32, 64, 64] {
        said(&mut client, last);
        let wake = client.next_wake().unwrap();
        let wait = (wake - last).as_millis();
        assert!((expected * 750..=expected * 1250).contains(&wait), "{wait}");
        last = wake;
    }
}

#[test]
fn strangers_answers_are_refused_and_change_nothing() {
    let mut client = client();
    let (discover, _) = said(&mut client, Duration::ZERO);
    let good = answer(&discover, Kind::Offer);
    let with = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        message.encode()
    };
    let cases: Vec<(Vec<u8>, Refused)> = vec![
        (with(&|m| m.xid ^= 1), Refused::Transaction),
        (with(&|m| m.chaddr[5] = 9), Refused::Hardware),
        (with(&|m| m.reply = false), Refused::NotForClients),
        (
            with(&|m| {
                m.options.remove(&option::SERVER_ID);
            }),
            Refused::Unusable(Unusable::Server),
        ),
        (
            with(&|m| {
                m.options.insert(option::MTU, vec![0, 68]);
            }),
            Refused::Unusable(Unusable::Mtu(68)),
        ),
        (
            with(&|m| {
                m.options.insert(option::MESSAGE_TYPE, vec![9]);
            }),
            Refused::NotForClients,
        ),
        (
            with(&|m| {
                m.options
                    .insert(option::MESSAGE_TYPE, vec![Kind::Ack as u8]);
            }),
            Refused::Unasked,
        ),
        (vec![2; 20], Refused::Malformed(Malformed::Short(20))),
    ];
    for (bytes, expected) in cases {
        assert_eq!(client.receive(Duration::ZERO, &bytes), Err(expected));
        assert_eq!(client.poll(Duration::ZERO), None);
    }
    client.receive(Duration::ZERO, &good.encode()).unwrap();
}

#[test]
fn acknowledgement_by_another_server_or_of_another_address_is_refused() {
    let mut client = client();
    let (discover, _) = said(&mut client, Duration::ZERO);
    client
        .receive(Duration::ZERO, &answer(&discover, Kind::Offer).encode())
        .unwrap();
    let (request, _) = said(&mut client, Duration::ZERO);
    let mut rogue = answer(&request, Kind::Ack);
    rogue
        .options
        .insert(option::SERVER_ID, vec![192, 168, 7, 66]);
    assert_eq!(
        client.receive(Duration::ZERO, &rogue.encode()),
        Err(Refused::Server)
    );
    let mut rogue = answer(&request, Kind::Ack);
    rogue.yiaddr = [192, 168, 7, 66].into();
    assert_eq!(
        client.receive(Duration::ZERO, &rogue.encode()),
        Err(Refused::OtherAddress(rogue.yiaddr))
    );
    let mut rogue = answer(&request, Kind::Nak);
    rogue
        .options
        .insert(option::SERVER_ID, vec![192, 168, 7, 66]);
    assert_eq!(
        client.receive(Duration::ZERO, &rogue.encode()),
        Err(Refused::Server)
    );
    assert_eq!(client.lease(), None);
}

#[test]
fn renewal_goes_to_the_server_and_extends_the_lease() {
    let mut client = bound();
    assert_eq!(client.poll(seconds(1799)), None);
    let (request, output) = said(&mut client, seconds(1800));
    assert!(matches!(output, Output::Unicast { server, .. } if server == SERVER));
    assert_eq!(request.ciaddr, ADDRESS);
    assert_eq!(request.address(option::REQUESTED), None);
    assert_eq!(request.address(option::SERVER_ID), None);
    client
        .receive(seconds(1801), &answer(&request, Kind::Ack).encode())
        .unwrap();
    assert!(matches!(
        client.poll(seconds(1801)),
        Some(Output::Configured(_))
    ));
    // Counted from when it was asked, not from when it was answered.
    assert_eq!(client.next_wake(), Some(seconds(3600)));
}

#[test]
fn a_dead_server_is_replaced_by_any_and_the_lease_ends_on_time() {
    let mut client = bound();
    let mut now = Duration::ZERO;
    let mut unicast = 0;
    let mut broadcast = 0;
    loop {
        now = client.next_wake().unwrap().max(now);
        match client.poll(now) {
            Some(Output::Unicast { .. }) => unicast += 1,
            Some(Output::Broadcast { source, .. }) => {
                assert_eq!(source, ADDRESS);
                assert!(now >= seconds(3150));
                broadcast += 1;
            }
            Some(Output::Lost(why)) => {
                assert_eq!(why, Lost::Expired);
                break;
            }
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    assert_eq!(now, seconds(3600));
    assert!((3..30).contains(&unicast), "{unicast} renewals");
    assert!((2..20).contains(&broadcast), "{broadcast} rebindings");
    let (discover, _) = said(&mut client, now);
    assert_eq!(discover.kind(), Some(Kind::Discover));
}

#[test]
fn rebinding_takes_another_servers_answer() {
    let mut client = bound();
    while !matches!(client.phase, Phase::Rebinding) {
        let now = client.next_wake().unwrap();
        client.poll(now);
    }
    let xid = client.xid;
    let mut other = ack();
    other.xid = xid;
    other
        .options
        .insert(option::SERVER_ID, vec![192, 168, 7, 2]);
    client.receive(seconds(3200), &other.encode()).unwrap();
    let (lease, _) = client.lease().unwrap();
    assert_eq!(lease.server, Ipv4Addr::new(192, 168, 7, 2));
}

#[test]
fn refusal_ends_the_lease_and_begins_again_after_a_wait() {
    let mut client = bound();
    let (request, _) = said(&mut client, seconds(1800));
    let mut nak = answer(&request, Kind::Nak);
    nak.options
        .insert(option::TEXT, b"lease \x1b[31mnot found".to_vec());
    client.receive(seconds(1800), &nak.encode()).unwrap();
    assert_eq!(
        client.poll(seconds(1800)),
        Some(Output::Lost(Lost::Withdrawn {
            server: SERVER,
            text: "lease ?[31mnot found".into()
        }))
    );
    assert_eq!(client.poll(seconds(1800)), None);
    let wake = client.next_wake().unwrap();
    assert!(wake >= seconds(1800) + Duration::from_millis(750));
    let (discover, _) = said(&mut client, wake);
    assert_eq!(discover.kind(), Some(Kind::Discover));
    assert_ne!(discover.xid, request.xid);
}

#[test]
fn taken_over_lease_is_used_at_once_and_confirmed() {
    let (lease, _) = bound().lease().map(|(l, at)| (l.clone(), at)).unwrap();
    let mut client = Client::resume(config(), lease, seconds(100), seconds(3));
    let Some(Output::Configured(taken)) = client.poll(seconds(3)) else {
        panic!("not used at once");
    };
    assert_eq!(taken.lifetime, Some(seconds(3500)));
    let (request, _) = said(&mut client, seconds(3));
    assert_eq!(request.kind(), Some(Kind::Request));
    assert_eq!(request.address(option::REQUESTED), Some(ADDRESS));
    assert_eq!(request.address(option::SERVER_ID), None);
    client
        .receive(seconds(4), &answer(&request, Kind::Ack).encode())
        .unwrap();
    assert!(matches!(
        client.poll(seconds(4)),
        Some(Output::Configured(_))
    ));
    assert_eq!(client.next_wake(), Some(seconds(1803)));
}

#[test]
fn taken_over_lease_survives_a_silent_network_until_its_end() {
    let (lease, _) = bound().lease().map(|(l, at)| (l.clone(), at)).unwrap();
    let mut client = Client::resume(config(), lease, seconds(3000), Duration::ZERO);
    let mut now = Duration::ZERO;
    let mut discovers = 0;
    let ended = loop {
        now = client.next_wake().unwrap().max(now);
        match client.poll(now) {
            Some(Output::Lost(Lost::Expired)) => break now,
            Some(Output::Broadcast { payload, .. }) => {
                let message = Message::parse(&payload).unwrap();
                discovers += u32::from(message.kind() == Some(Kind::Discover));
            }
            _ => {}
        }
    };
    assert_eq!(ended, seconds(600));
    assert!(discovers > 3, "looked for another network meanwhile");
}

#[test]
fn lease_that_is_over_is_not_taken_over() {
    let (lease, _) = bound().lease().map(|(l, at)| (l.clone(), at)).unwrap();
    let mut client = Client::resume(config(), lease, seconds(3600), Duration::ZERO);
    let (message, _) = said(&mut client, Duration::ZERO);
    assert_eq!(message.kind(), Some(Kind::Discover));
}

#[test]
fn without_carrier_nothing_is_sent_and_with_it_the_lease_is_confirmed() {
    let mut client = bound();
    client.carrier(seconds(10), false);
    assert_eq!(client.poll(seconds(2000)), None);
    client.carrier(seconds(2000), true);
    let (request, output) = said(&mut client, seconds(2000));
    assert!(matches!(output, Output::Broadcast { .. }));
    assert_eq!(request.address(option::REQUESTED), Some(ADDRESS));
}

proptest! {
    /// Whatever comes in and however time goes, the client neither panics nor spins nor falls silent.
    #[test]
    fn hostile_network_never_stops_the_client(
        steps in proptest::collection::vec(
            (0_u64..4000, prop::sample::select(vec![Kind::Offer, Kind::Ack, Kind::Nak]), any::<bool>(),
             prop::sample::select(vec![1_u8, 3, 26, 51, 54, 58]), proptest::collection::vec(any::<u8>(), 0..6)),
            0..60),
    ) {
        let mut client = client();
        let mut now = Duration::ZERO;
        for (advance, kind, intact, code, value) in steps {
            now += seconds(advance);
            let mut spoken = 0;
            while client.poll(now).is_some() {
                spoken += 1;
                prop_assert!(spoken < 8, "spins");
            }
            let mut message = ack();
            message.xid = client.xid;
            message.options.insert(option::MESSAGE_TYPE, vec![kind as u8]);
            if !intact { message.options.insert(code, value); }
            let _ = client.receive(now, &message.encode());
            prop_assert!(client.next_wake().is_some());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut client = client();
        client.poll(Duration::ZERO);
        let _ = client.receive(Duration::ZERO, &bytes);
    }
}
