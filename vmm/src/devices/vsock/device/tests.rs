// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::guest::{hear, offer};
use super::*;
use crate::devices::vsock::packet::{NO_RECEIVE, NO_SEND, RESPONSE};
use crate::testing::{Driver, TestHost, test_memory};

struct Rig {
    memory: Memory,
    rx: Driver,
    tx: Driver,
    queues: [Queue; 3],
    host: TestHost,
    device: Vsock<TestHost>,
}

fn rig() -> Rig {
    let memory = test_memory();
    let (mut rx, tx) = (
        Driver::at(&memory, 128, 0x1000),
        Driver::at(&memory, 128, 0x5000),
    );
    let queues = [rx.queue(&memory), tx.queue(&memory), Queue::off()];
    for i in 0..64 {
        offer(&memory, &mut rx, i);
    }
    let host = TestHost::default();
    host.0.lock().unwrap().room = usize::MAX;
    Rig {
        memory,
        rx,
        tx,
        queues,
        device: Vsock::new(host.clone(), 3),
        host,
    }
}

const GUEST: Header = Header {
    source_cid: 3,
    target_cid: 2,
    source_port: 500,
    target_port: 1024,
    len: 0,
    kind: STREAM,
    operation: 0,
    flags: 0,
    buffer: 8192,
    forwarded: 0,
};

impl Rig {
    fn send(&mut self, header: Header, data: &[u8]) -> Result<(), Fault> {
        let header = Header {
            len: header.len.max(u32::try_from(data.len()).unwrap()),
            ..header
        };
        self.memory
            .write_slice(&header.bytes(), GuestAddress(0x9000))
            .unwrap();
        self.memory
            .write_slice(data, GuestAddress(0x9000 + 44))
            .unwrap();
        self.tx.offer(
            &self.memory,
            &[(0x9000, 44 + u32::try_from(data.len()).unwrap(), false)],
        );
        let _ = self.device.notify(TX, &mut self.queues, &self.memory)?;
        while self.tx.collect(&self.memory).is_some() {}
        Ok(())
    }

    /// Something happened at the host's ends.
    fn pump(&mut self) {
        let turn = self.device.host_event(PUMP, &mut self.queues, &self.memory);
        assert_eq!(turn, Ok(Turn::Done));
    }

    fn op(&mut self, operation: u16, data: &[u8]) {
        self.send(Header { operation, ..GUEST }, data).unwrap();
    }

    fn received(&mut self) -> Vec<(Header, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some((header, data)) = hear(&self.memory, &mut self.rx) {
            assert_eq!(
                (header.source_cid, header.target_cid, header.kind),
                (2, 3, STREAM)
            );
            all.push((header, data));
        }
        all
    }

    fn operations(&mut self) -> Vec<u16> {
        self.received().iter().map(|(h, _)| h.operation).collect()
    }
}

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_with_a_reset() {
    let mut rig = rig();
    rig.op(REQUEST, &[]);
    assert_eq!(rig.operations(), [RESPONSE]);
    rig.op(DATA, b"hello");
    assert_eq!(rig.host.0.lock().unwrap().received, b"hello");
    rig.host.0.lock().unwrap().to_guest = b"world".to_vec();
    rig.pump();
    let packets = rig.received();
    assert_eq!(packets.len(), 1);
    assert_eq!(
        (
            packets[0].0.operation,
            packets[0].0.forwarded,
            &packets[0].1[..]
        ),
        (DATA, 5, &b"world"[..])
    );
    rig.send(
        Header {
            operation: SHUTDOWN,
            flags: NO_SEND | NO_RECEIVE,
            ..GUEST
        },
        &[],
    )
    .unwrap();
    assert_eq!(rig.operations(), [RESET]);
    assert!(rig.host.0.lock().unwrap().ended);
    assert!(rig.device.connections.is_empty() && rig.device.by_ports.is_empty());
}

#[test]
fn no_more_is_sent_than_the_guest_has_room_for() {
    let mut rig = rig();
    rig.op(REQUEST, &[]);
    rig.host.0.lock().unwrap().to_guest = vec![1; 10_000];
    rig.pump();
    let bytes =
        |packets: Vec<(Header, Vec<u8>)>| packets.iter().map(|(_, d)| d.len()).sum::<usize>();
    assert_eq!(bytes(rig.received()), 8192);
    rig.send(
        Header {
            operation: CREDIT_UPDATE,
            forwarded: 100,
            ..GUEST
        },
        &[],
    )
    .unwrap();
    assert_eq!(bytes(rig.received()), 100);
    // A count from the future is the guest's own harm: nothing is sent, nothing breaks.
    rig.send(
        Header {
            operation: CREDIT_UPDATE,
            forwarded: 1 << 31,
            ..GUEST
        },
        &[],
    )
    .unwrap();
    assert_eq!(bytes(rig.received()), 0);
}

#[test]
fn a_guest_that_ignores_its_credit_is_reset() {
    let mut rig = rig();
    rig.op(REQUEST, &[]);
    rig.host.0.lock().unwrap().room = 0;
    for _ in 0..4 {
        rig.op(DATA, &[0; 16 * 1024]);
    }
    assert_eq!(rig.operations(), [RESPONSE]);
    rig.op(DATA, &[0]);
    assert_eq!(rig.operations(), [RESET]);
}

#[test]
fn credit_comes_back_when_the_host_reads() {
    let mut rig = rig();
    rig.op(REQUEST, &[]);
    rig.host.0.lock().unwrap().room = 0;
    for _ in 0..4 {
        rig.op(DATA, &[0; 16 * 1024]);
    }
    rig.host.0.lock().unwrap().room = usize::MAX;
    rig.pump();
    let packets = rig.received();
    assert_eq!(
        (packets[1].0.operation, packets[1].0.forwarded),
        (CREDIT_UPDATE, 65536)
    );
}

#[test]
fn an_ended_stream_is_told_once_and_the_guest_may_go_on() {
    let mut rig = rig();
    rig.op(REQUEST, &[]);
    rig.host.0.lock().unwrap().closed = true;
    for _ in 0..2 {
        rig.pump();
    }
    assert_eq!(rig.operations(), [RESPONSE, SHUTDOWN]);
    rig.op(DATA, b"more");
    assert_eq!(rig.host.0.lock().unwrap().received, b"more");
}

#[test]
fn what_cannot_be_is_answered_with_a_reset_and_never_dialled() {
    let cases = [
        Header {
            operation: DATA,
            ..GUEST
        },
        Header {
            operation: REQUEST,
            target_port: 99,
            ..GUEST
        },
        Header {
            operation: REQUEST,
            target_cid: 1,
            ..GUEST
        },
        Header {
            operation: REQUEST,
            kind: 2,
            ..GUEST
        },
        Header {
            operation: 42,
            ..GUEST
        },
    ];
    for case in cases {
        let mut rig = rig();
        rig.send(case, &[]).unwrap();
        assert_eq!(rig.operations(), [RESET], "{case:?}");
        assert!(rig.host.0.lock().unwrap().dialled.iter().all(|p| *p == 99));
    }
    let mut rig = rig();
    rig.op(RESET, &[]);
    rig.send(
        Header {
            operation: REQUEST,
            source_cid: 4,
            ..GUEST
        },
        &[],
    )
    .unwrap();
    assert_eq!(
        rig.operations(),
        [0u16; 0],
        "a reset is not answered, a forged sender neither"
    );
}

#[test]
fn connections_are_bounded() {
    let mut rig = rig();
    for port in 0..u32::try_from(MOST_CONNECTIONS).unwrap() + 5 {
        rig.send(
            Header {
                operation: REQUEST,
                source_port: port,
                ..GUEST
            },
            &[],
        )
        .unwrap();
    }
    assert_eq!(rig.device.connections.len(), MOST_CONNECTIONS);
}

#[test]
fn a_length_beyond_the_chain_and_half_a_header_go_back_and_the_connection_goes_on() {
    let mut rig = rig();
    rig.op(REQUEST, &[]);
    let lie = Header {
        operation: DATA,
        len: 100,
        ..GUEST
    };
    rig.send(lie, b"short").unwrap();
    rig.tx.offer(&rig.memory, &[(0x9000, 43, false)]);
    let _ = rig.device.notify(TX, &mut rig.queues, &rig.memory).unwrap();
    assert_eq!(rig.tx.collect(&rig.memory), Some((2, 0)));
    rig.op(DATA, b"whole");
    assert_eq!(rig.host.0.lock().unwrap().received, b"whole");
}

#[test]
fn a_buffer_without_room_for_a_header_goes_back_and_the_next_is_filled() {
    let mut rig = rig();
    let mut driver = Driver::at(&rig.memory, 8, 0x1000);
    driver.offer(&rig.memory, &[(0x20000, 43, true)]);
    driver.offer(&rig.memory, &[(0x20000, 44, true)]);
    rig.queues[RX] = driver.queue(&rig.memory);
    rig.op(REQUEST, &[]);
    assert_eq!(driver.collect(&rig.memory), Some((0, 0)));
    assert_eq!(driver.collect(&rig.memory), Some((1, 44)));
}

proptest! {
    #[test]
    fn no_packets_panic_and_both_maps_agree(
        packets in prop::collection::vec((2u64..5, 0u16..9, 0u32..4, 0u32..3, any::<u32>(), any::<u32>(), 0usize..300), 0..60)
    ) {
        let mut rig = rig();
        for (cid, operation, flags, port, buffer, forwarded, len) in packets {
            let header = Header { source_cid: cid, operation, flags, source_port: port, buffer, forwarded, ..GUEST };
            rig.send(header, &vec![0; len]).unwrap();
            rig.host.0.lock().unwrap().to_guest.extend([1; 10]);
            rig.pump();
            prop_assert_eq!(rig.device.connections.len(), rig.device.by_ports.len());
        }
    }
}
