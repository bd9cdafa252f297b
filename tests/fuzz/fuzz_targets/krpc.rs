//! KRPC on any bytes: never a panic, what is read is bounded, what is written again is read the same, and a node that
//! is told anything answers with one datagram and one ping at most.
#![no_main]

use bt_core::Time;
use bt_dht::krpc::{Body, NODES_MAX, PACKET_MAX_BYTES, VALUES_MAX, decode};
use bt_dht::{Config, Input, Node, Output, State};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode(bytes) {
        assert!(bytes.len() <= PACKET_MAX_BYTES);
        let known = match &message.body {
            Body::Query(query) => query.method.name() != "unknown",
            Body::Response(response) => {
                assert!(response.contacts().count() <= 2 * NODES_MAX);
                assert!(response.values.len() <= VALUES_MAX);
                // Bytes behind the last whole hash are left out; an answer of addresses of both families grows.
                message.encode().len() <= PACKET_MAX_BYTES
            }
            // Escaping makes texts longer.
            Body::Error(_) => false,
        };
        if known {
            assert_eq!(decode(&message.encode()), Ok(message));
        }
    }
    let from = "9.9.9.9:9".parse().expect("an address");
    let mut node = Node::new(Config::new([1; 32]), 1);
    let packet = bytes.to_vec();
    node.handle(Time::ZERO, Input::Received { from, packet }, None);
    let mut sent = 0;
    while let Some(output) = node.poll() {
        if let Output::Send { to, .. } = output {
            assert_eq!(to, from);
            sent += 1;
        }
    }
    assert!(sent <= 2);
    let _ = State::decode(bytes);
});
