use super::*;
use crate::item::MutableItem;
use proptest::prelude::*;

fn parsed(packet: &[u8]) -> Message {
    decode(packet).unwrap_or_else(|error| panic!("{}: {error}", packet.escape_ascii()))
}

/// What a bad query is answered, or `None` if it is not answered at all.
fn refusal(packet: &[u8]) -> Option<i64> {
    match decode(packet) {
        Err(DecodeError::BadQuery { error, .. }) => Some(error.code),
        Err(DecodeError::Garbage(_)) => None,
        Ok(message) => panic!("{message:?}"),
    }
}

#[test]
fn the_examples_of_bep_5() {
    let id = NodeId(*b"abcdefghij0123456789");
    let target = NodeId(*b"mnopqrstuvwxyz123456");
    let token = b"aoeusnth".to_vec();
    let rows: [(&[u8], Method); 4] = [
        (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", Method::Ping),
        (
            b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
            Method::FindNode { target },
        ),
        (
            b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
            Method::GetPeers { info_hash: target.into() },
        ),
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe",
            Method::AnnouncePeer { info_hash: target.into(), port: 6881, implied_port: true, token: token.clone() },
        ),
    ];
    for (packet, method) in rows {
        let message = parsed(packet);
        assert_eq!(message.transaction, b"aa");
        let query = Query {
            id,
            method,
            want: None,
            read_only: false,
        };
        assert_eq!(message.body, Body::Query(query));
    }
    let reply = parsed(
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
    );
    let Body::Response(reply) = reply.body else {
        panic!("a response");
    };
    let peers: Vec<String> = reply.values.iter().map(ToString::to_string).collect();
    assert_eq!(peers, ["97.120.106.101:11893", "105.100.104.116:28269"]);
    assert_eq!((reply.id, reply.token), (id, Some(token)));
    let error = parsed(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee");
    let expected = KrpcError::new(code::GENERIC, "A Generic Error Ocurred");
    assert_eq!(error.body, Body::Error(expected));
}

#[test]
fn what_is_refused_and_what_is_passed_over() {
    let id = "2:id20:abcdefghij0123456789";
    let put = |rest: &str| format!("d1:ad{id}{rest}e1:q3:put1:t1:a1:y1:qe");
    let rows: [(String, Option<i64>); 15] = [
        (String::new(), None),
        ("i1e".into(), None),
        ("d1:y1:qe".into(), None),
        (format!("d1:ad{id}e1:q4:ping1:t0:1:y1:qe"), None),
        (
            format!("d1:ad{id}e1:q4:ping1:t1000:{}1:y1:qe", "t".repeat(1000)),
            None,
        ),
        (format!("d1:rd{id}e1:t1:a1:y1:xe"), None),
        ("d1:rde1:t1:a1:y1:re".into(), None),
        ("d1:ade1:q4:ping1:t1:a1:y1:qe".into(), Some(203)),
        (format!("d1:ad{id}e1:q9:find_node1:t1:a1:y1:qe"), Some(203)),
        (
            format!(
                "d1:ad{id}9:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe1:q13:announce_peer1:t1:a1:y1:qe"
            ),
            Some(203),
        ),
        (
            format!(
                "d1:ad{id}9:info_hash20:mnopqrstuvwxyz1234564:porti1ee1:q13:announce_peer1:t1:a1:y1:qe"
            ),
            Some(203),
        ),
        (
            put(&format!("5:token1:x1:v1001:{}", "v".repeat(1001))),
            Some(205),
        ),
        (
            put(&format!(
                "1:k32:{}4:salt65:{}3:seqi1e3:sig64:{}5:token1:x1:v1:v",
                "k".repeat(32),
                "s".repeat(65),
                "g".repeat(64)
            )),
            Some(207),
        ),
        (
            put(&format!(
                "1:k32:{}3:seqi1e3:sig63:{}5:token1:x1:v1:v",
                "k".repeat(32),
                "g".repeat(63)
            )),
            Some(203),
        ),
        (put("5:token1:x"), Some(203)),
    ];
    for (packet, expected) in rows {
        assert_eq!(refusal(packet.as_bytes()), expected, "{packet}");
    }
}

#[test]
fn fault_133_contacts_are_whole_bounded_and_can_be_sent_to() {
    let reply = |nodes: &[u8]| {
        let mut packet = b"d1:rd2:id20:abcdefghij01234567895:nodes".to_vec();
        packet.extend_from_slice(format!("{}:", nodes.len()).as_bytes());
        packet.extend_from_slice(nodes);
        packet.extend_from_slice(b"e1:t1:a1:y1:re");
        match parsed(&packet).body {
            Body::Response(response) => response.nodes.unwrap().len(),
            Body::Query(_) | Body::Error(_) => panic!("a response"),
        }
    };
    let record = |ip: [u8; 4], port: u8| {
        let mut record = vec![7; 20];
        record.extend_from_slice(&ip);
        record.extend_from_slice(&[0, port]);
        record
    };
    let good = record([1, 2, 3, 4], 9);
    assert_eq!(reply(&good), 1);
    assert_eq!(
        reply(&[good.as_slice(), &good[..25]].concat()),
        1,
        "half a record"
    );
    assert_eq!(reply(&good.repeat(60)), NODES_MAX);
    for bad in [
        record([0, 0, 0, 0], 9),
        record([1, 2, 3, 4], 0),
        record([224, 0, 0, 1], 9),
    ] {
        assert_eq!(reply(&bad), 0, "{bad:?}");
    }
    let huge = good.repeat(10_000);
    let packet = format!("d1:rd5:nodes{}:", huge.len()).into_bytes();
    assert!(
        decode(&[packet, huge].concat()).is_err(),
        "longer than any datagram we read"
    );
}

#[test]
fn unknown_methods_words_and_error_texts() {
    let unknown = parsed(b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:wantl2:n62:n9ee1:q4:news2:roi1e1:t1:a1:y1:qe");
    let Body::Query(query) = unknown.body else {
        panic!("a query");
    };
    assert_eq!(
        query.want,
        Some(Want {
            v4: false,
            v6: true
        })
    );
    assert!(query.read_only);
    assert!(matches!(query.method, Method::Unknown { target: Some(_) }));
    let Body::Error(error) = parsed(b"d1:eli203e4:a\x1b[me1:t1:a1:y1:ee").body else {
        panic!("an error");
    };
    assert_eq!(error.message, "a\\x1b[m");
}

fn ids() -> impl Strategy<Value = NodeId> {
    any::<[u8; 20]>().prop_map(NodeId)
}

fn addrs(ipv6: bool) -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 16]>(), 1..=u16::MAX).prop_map(move |(ip, port)| {
        let [a, b, c, d, ..] = ip;
        let addr: SocketAddr = if ipv6 {
            // A global address, so that it is nobody's but IPv6's.
            let mut ip = ip;
            ip[0] = 0x20;
            (std::net::Ipv6Addr::from(ip), port).into()
        } else {
            (std::net::Ipv4Addr::new(a % 200 + 1, b, c, d), port).into()
        };
        addr
    })
}

fn contacts(ipv6: bool) -> impl Strategy<Value = Vec<Contact>> {
    let contact = (ids(), addrs(ipv6)).prop_map(|(id, addr)| Contact { id, addr });
    prop::collection::vec(contact, 0..=8)
}

fn items() -> impl Strategy<Value = Item> {
    let value = prop::collection::vec(any::<u8>(), 0..900);
    let value = value.prop_map(|bytes| bt_bencode::Node::from(bytes).encode());
    let signed = (
        any::<[u8; 32]>(),
        prop::collection::vec(any::<u8>(), 0..=64),
        any::<i64>(),
    );
    (value, prop::option::of(signed), any::<[u8; 32]>()).prop_map(|(value, signed, half)| {
        match signed {
            None => Item::Immutable(value),
            Some((key, salt, seq)) => {
                let mut signature = [0; 64];
                signature[..32].copy_from_slice(&half);
                Item::Mutable(MutableItem {
                    key,
                    salt,
                    seq,
                    value,
                    signature,
                })
            }
        }
    })
}

fn methods() -> impl Strategy<Value = Method> {
    let token = || prop::collection::vec(any::<u8>(), 0..=TOKEN_MAX_BYTES);
    prop_oneof![
        Just(Method::Ping),
        ids().prop_map(|target| Method::FindNode { target }),
        ids().prop_map(|id| Method::GetPeers {
            info_hash: id.into()
        }),
        (ids(), 1..=u16::MAX, any::<bool>(), token()).prop_map(
            |(id, port, implied_port, token)| {
                Method::AnnouncePeer {
                    info_hash: id.into(),
                    port,
                    implied_port,
                    token,
                }
            }
        ),
        (ids(), any::<Option<i64>>()).prop_map(|(target, seq)| Method::Get { target, seq }),
        (items(), any::<Option<i64>>(), token()).prop_map(|(item, cas, token)| Method::Put {
            item,
            cas,
            token
        }),
        ids().prop_map(|target| Method::SampleInfohashes { target }),
    ]
}

fn responses() -> impl Strategy<Value = Response> {
    let stored = items().prop_map(|item| {
        let signed = item.as_mutable();
        StoredItem {
            value: Some(item.value().to_vec()),
            key: signed.map(|item| item.key),
            seq: signed.map(|item| item.seq),
            signature: signed.map(|item| item.signature),
        }
    });
    let samples = (
        prop::collection::vec(any::<[u8; 20]>(), 0..=20),
        any::<Option<u32>>(),
    )
        .prop_map(|(hashes, number)| Samples {
            info_hashes: hashes.into_iter().map(InfoHash).collect(),
            total: number.map(u64::from),
            interval_s: number.map(u64::from),
        });
    let lists = (
        prop::option::of(contacts(false)),
        prop::option::of(contacts(true)),
        prop::collection::vec(addrs(false), 0..=50),
    );
    (
        ids(),
        prop::option::of(addrs(true)),
        lists,
        any::<Option<[u8; 8]>>(),
        prop::option::of(stored),
        prop::option::of(samples),
    )
        .prop_map(
            |(id, observed, (nodes, nodes6, values), token, item, samples)| Response {
                id,
                observed,
                nodes,
                nodes6,
                token: token.map(|token| token.to_vec()),
                values,
                item,
                samples,
            },
        )
}

proptest! {
    #[test]
    fn queries_round_trip(id in ids(), method in methods(), want in any::<Option<(bool, bool)>>(), read_only in any::<bool>(), transaction in prop::collection::vec(any::<u8>(), 1..=TRANSACTION_MAX_BYTES)) {
        let want = want.map(|(v4, v6)| Want { v4, v6: v6 || !v4 });
        let message = Message { transaction, body: Body::Query(Query { id, method, want, read_only }) };
        prop_assert_eq!(decode(&message.encode()), Ok(message));
    }

    #[test]
    fn responses_round_trip(response in responses()) {
        let message = Message { transaction: vec![1, 2], body: Body::Response(Box::new(response)) };
        let packet = message.encode();
        prop_assume!(packet.len() <= PACKET_MAX_BYTES);
        prop_assert_eq!(decode(&packet), Ok(message));
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }
}
