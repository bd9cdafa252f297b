//! What strangers try: floods, tokens of others, addresses at home, answers to nothing.

use super::*;

#[test]
fn fault_131_one_answer_to_a_question_and_a_bound_on_all() {
    let mut net = Net::new(30);
    // Strangers whose addresses nobody has proven: one small answer each, and one ping at most.
    let query = Query {
        id: NodeId([0xee; 20]),
        method: Method::GetPeers { info_hash: HASH },
        want: None,
        read_only: false,
    };
    let packet = Message {
        transaction: b"tx".to_vec(),
        body: Body::Query(query),
    }
    .encode();
    let stranger = "10.9.9.9:1".parse().unwrap();
    let back = net.raw(stranger, 2, &packet);
    assert!(back.len() <= 2, "{back:?}");
    assert!(matches!(back[0].body, Body::Response(_)));
    net.run(Duration::from_secs(60));
    assert_eq!(
        net.wire
            .values()
            .filter(|(_, to, _)| *to == stranger)
            .count(),
        0
    );
    // A flood from everywhere: what goes out stays below the rate.
    let mut slow = config(60);
    slow.answer_bytes_per_s = 8_000;
    net.join(60, slow);
    net.run(Duration::from_secs(60));
    let mut bytes = 0;
    for number in 0..20_000_u32 {
        net.now += Duration::from_millis(1);
        let ip = Ipv4Addr::from_bits(0x0b00_0000 + number * 256);
        let back = net.raw((ip, 1).into(), 60, &packet);
        bytes += back
            .iter()
            .filter(|message| matches!(message.body, Body::Response(_)))
            .map(|message| message.encode().len())
            .sum::<usize>();
    }
    assert!((100_000..=8_000 * 21).contains(&bytes), "{bytes}");
    assert!(net.nodes[&addr(60)].counters().queries_dropped > 15_000);
}

#[test]
fn fault_132_only_with_a_token_of_ones_own() {
    let mut net = Net::new(3);
    let (one, two): (SocketAddr, SocketAddr) = (
        "9.1.1.1:1000".parse().unwrap(),
        "9.1.2.1:1000".parse().unwrap(),
    );
    let announce = |token: &[u8], port, implied_port| Method::AnnouncePeer {
        info_hash: HASH,
        port,
        implied_port,
        token: token.to_vec(),
    };
    let get = Method::GetPeers { info_hash: HASH };
    let token = net.answer(one, 2, get.clone()).unwrap().token.unwrap();
    let code = |answer: Result<Response, KrpcError>| answer.err().map(|error| error.code);
    assert_eq!(
        code(net.answer(two, 2, announce(&token, 5, false))),
        Some(203),
        "stolen"
    );
    assert_eq!(
        code(net.answer(one, 2, announce(b"guess", 5, false))),
        Some(203)
    );
    assert_eq!(
        code(net.answer(one, 3, announce(&token, 5, false))),
        Some(203),
        "of another node"
    );
    assert_eq!(net.nodes[&addr(2)].peer_store().peers(), 0);
    assert_eq!(code(net.answer(one, 2, announce(&token, 5, false))), None);
    assert_eq!(code(net.answer(one, 2, announce(&token, 0, true))), None);
    let mut values = net.answer(two, 2, get).unwrap().values;
    values.sort_unstable();
    assert_eq!(
        values,
        [
            "9.1.1.1:5".parse().unwrap(),
            "9.1.1.1:1000".parse().unwrap()
        ]
    );
    net.run(Duration::from_secs(601));
    assert_eq!(
        code(net.answer(one, 2, announce(&token, 5, false))),
        Some(203),
        "too old"
    );
}

#[test]
fn fault_133_nodes_at_home_are_nobodys_business_on_the_internet() {
    let mut net = Net::new(9);
    let find = Method::FindNode {
        target: NodeId([0; 20]),
    };
    assert_eq!(
        net.answer("9.1.1.1:1".parse().unwrap(), 2, find.clone())
            .unwrap()
            .nodes,
        Some(vec![])
    );
    assert_eq!(
        net.answer(addr(200), 2, find).unwrap().nodes.unwrap().len(),
        8
    );
    // And what the internet says of homes is not believed.
    let mut node = Node::new(
        Config {
            bootstrap: vec!["9.1.1.1:1".parse().unwrap()],
            ..Config::new([1; 32])
        },
        1,
    );
    node.handle(Time::ZERO, Input::Timeout, None);
    let Some(Output::Send { to, packet }) = node.poll() else {
        panic!("it asks");
    };
    let mut response = Response::new(NodeId([3; 20]));
    let poison = |ip: &str| Contact {
        id: NodeId([4; 20]),
        addr: format!("{ip}:1").parse().unwrap(),
    };
    response.nodes = Some(
        ["127.0.0.1", "192.168.1.1", "10.0.0.1"]
            .map(poison)
            .to_vec(),
    );
    answer(&mut node, to, &packet, response);
    while let Some(output) = node.poll() {
        assert!(
            matches!(output, Output::Emit(Event::Ready { nodes: 1 })),
            "{output:?}"
        );
    }
}

#[test]
fn fault_136_an_answer_from_elsewhere_or_to_nothing_is_none() {
    let mut node = Node::new(
        Config {
            bootstrap: vec![addr(9)],
            ..Config::new([1; 32])
        },
        1,
    );
    node.handle(Time::ZERO, Input::Timeout, None);
    let Some(Output::Send { to, packet }) = node.poll() else {
        panic!("it asks");
    };
    let transaction = decode(&packet).unwrap().transaction;
    let mut wrong = transaction.clone();
    wrong[0] ^= 1;
    let other_port = SocketAddr::new(to.ip(), 1);
    let rows = [
        (addr(8), transaction.clone(), 0),
        (other_port, transaction.clone(), 0),
        (to, wrong, 0),
        (to, transaction[..3].to_vec(), 0),
        (to, transaction.clone(), 1),
        (to, transaction, 1),
    ];
    for (from, transaction, known) in rows {
        let body = Body::Response(Box::new(Response::new(NodeId([5; 20]))));
        let packet = Message { transaction, body }.encode();
        node.handle(Time::from_millis(1), Input::Received { from, packet }, None);
        assert_eq!(node.table().len(), known);
    }
    assert_eq!(node.counters().garbage, 5);
}

#[test]
fn transactions_are_not_foreseen_from_those_before() {
    let mut a = Node::new(Config::new([1; 32]), 7);
    let mut b = Node::new(Config::new([2; 32]), 7);
    let first = |node: &mut Node| {
        node.handle(Time::ZERO, Input::Command(Command::Meet(addr(9))), None);
        match node.poll() {
            Some(Output::Send { packet, .. }) => decode(&packet).unwrap().transaction,
            other => panic!("{other:?}"),
        }
    };
    assert_ne!(
        first(&mut a),
        first(&mut b),
        "they hang on the key, not the seed"
    );
    assert_ne!(first(&mut a), first(&mut a));
}
