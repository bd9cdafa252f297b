//! Rows for each field and each fault, and a round trip.

use super::*;
use bt_bencode::ErrorKind;
use proptest::prelude::*;

fn m(names: &[(&str, u8)]) -> ExtensionHandshake {
    ExtensionHandshake {
        extensions: names
            .iter()
            .map(|(name, id)| ((*name).to_owned(), *id))
            .collect(),
        ..Default::default()
    }
}

type Row<'a> = (&'a [u8], ExtensionHandshake);

fn none() -> ExtensionHandshake {
    ExtensionHandshake::default()
}

fn check(rows: &[Row<'_>]) {
    for (payload, expected) in rows {
        let decoded = ExtensionHandshake::decode(payload);
        assert_eq!(decoded.as_ref(), Ok(expected), "{}", payload.escape_ascii());
    }
}

#[test]
fn faults_57_names_and_ids() {
    check(&[
        (b"de", none()),
        // BEP 10, the example, with a second name of the same length.
        (
            b"d1:md11:LT_metadatai1e6:ut_pexi2ee1:pi6881e1:v13:\xc2\xb5Torrent 1.2e",
            ExtensionHandshake {
                listen_port: Some(6881),
                client: Some("µTorrent 1.2".to_owned()),
                ..m(&[("LT_metadata", 1), ("ut_pex", 2)])
            },
        ),
        // FAULTS 57: 0 turns off; what is no id is ignored; of repeated names the first counts; ids may repeat.
        (b"d1:md6:ut_pexi0eee", m(&[("ut_pex", 0)])),
        (b"d1:md6:ut_pexi-1eee", none()),
        (b"d1:md6:ut_pexi256eee", none()),
        (b"d1:md6:ut_pexi255eee", m(&[("ut_pex", 255)])),
        (b"d1:md6:ut_pex1:1ee", none()),
        (b"d1:md6:ut_pexi1e6:ut_pexi2eee", m(&[("ut_pex", 1)])),
        (b"d1:md1:ai1e1:bi1eee", m(&[("a", 1), ("b", 1)])),
        (b"d1:md1:\xffi1eee", none()),
        (b"d1:md33:abcdefghijklmnopqrstuvwxyz0123456i1eee", none()),
        (b"d1:mlee", none()),
        (b"d1:mi7ee", none()),
    ]);
}

#[test]
fn sizes_and_addresses() {
    check(&[
        // FAULTS 53: absurd sizes do not count.
        (b"d13:metadata_sizei0ee", none()),
        (b"d13:metadata_sizei-1ee", none()),
        (b"d13:metadata_sizei2147483648ee", none()),
        (b"d13:metadata_sizei9223372036854775808ee", none()),
        (b"d13:metadata_sizei31457281ee", none()),
        (
            b"d13:metadata_sizei31457280ee",
            ExtensionHandshake {
                metadata_bytes: Some(31_457_280),
                ..none()
            },
        ),
        // FAULTS 58.
        (b"d6:yourip3:abce", none()),
        (b"d6:yourip17:0123456789abcdef0e", none()),
        (
            b"d6:yourip4:\x01\x02\x03\x04e",
            ExtensionHandshake {
                your_ip: Some([1, 2, 3, 4].into()),
                ..none()
            },
        ),
        (
            b"d6:yourip16:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01e",
            ExtensionHandshake {
                your_ip: Some(Ipv6Addr::LOCALHOST.into()),
                ..none()
            },
        ),
        (b"d4:ipv416:0123456789abcdefe", none()),
        (b"d4:ipv64:0123e", none()),
        (
            b"d4:ipv44:\x7f\0\0\x01e",
            ExtensionHandshake {
                ipv4: Some(Ipv4Addr::LOCALHOST),
                ..none()
            },
        ),
    ]);
}

#[test]
fn faults_58_numbers_and_texts() {
    // FAULTS 58.
    check(&[
        (b"d4:reqqi-1ee", none()),
        (b"d4:reqqi0ee", none()),
        (
            b"d4:reqqi4611686018427387904ee",
            ExtensionHandshake {
                requests_max: Some(REQUESTS_MAX),
                ..none()
            },
        ),
        (
            b"d4:reqqi250ee",
            ExtensionHandshake {
                requests_max: Some(250),
                ..none()
            },
        ),
        (b"d1:pi0ee", none()),
        (b"d1:pi99999ee", none()),
        (b"d1:vi5ee", none()),
        (
            b"d1:v9:\x1b[31mredee",
            ExtensionHandshake {
                client: Some("[31mrede".to_owned()),
                ..none()
            },
        ),
        (b"d1:v2:\x1b\x07e", none()),
        (
            b"d11:upload_onlyi1ee",
            ExtensionHandshake {
                upload_only: Some(true),
                ..none()
            },
        ),
        (
            b"d11:upload_onlyi0ee",
            ExtensionHandshake {
                upload_only: Some(false),
                ..none()
            },
        ),
        (b"d11:upload_only1:1e", none()),
        // Unsorted, with unknown keys.
        (
            b"d1:pi1e1:md1:ai3ee4:whatl1:xee",
            ExtensionHandshake {
                listen_port: Some(1),
                ..m(&[("a", 3)])
            },
        ),
    ]);
}

#[test]
fn what_is_no_handshake_at_all() {
    // FAULTS 56: not a dictionary, deep, 100 000 names, 1 MiB strings, cut.
    let names: String = (0..100_000).map(|n| format!("6:{n:06}i1e")).collect();
    let some: String = (0..1_000).map(|n| format!("3:{n:03}i1e")).collect();
    let long = format!("d1:v{}:{}e", 1 << 20, "x".repeat(1 << 20));
    type Expected = fn(&ErrorKind) -> bool;
    let rows: [(&[u8], Expected); 8] = [
        (b"", |kind| matches!(kind, ErrorKind::UnexpectedEof)),
        (b"le", |kind| matches!(kind, ErrorKind::WrongKind { .. })),
        (b"i1e", |kind| matches!(kind, ErrorKind::WrongKind { .. })),
        (b"d1:md6:ut_pexi1e", |kind| {
            matches!(kind, ErrorKind::UnexpectedEof)
        }),
        (&[b'l'; 10_000], |kind| {
            matches!(kind, ErrorKind::TooDeep { .. })
        }),
        (&format!("d1:md{names}ee").into_bytes(), |kind| {
            matches!(kind, ErrorKind::TooLong { .. })
        }),
        (&format!("d1:md{some}ee").into_bytes(), |kind| {
            matches!(kind, ErrorKind::TooManyItems { .. })
        }),
        (long.as_bytes(), |kind| {
            matches!(kind, ErrorKind::TooLong { .. })
        }),
    ];
    for (payload, expected) in rows {
        let error = ExtensionHandshake::decode(payload).unwrap_err();
        assert!(expected(&error.0.kind), "{error}");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let names: String = (0..400).map(|n| format!("3:{n:03}i1e")).collect();
    let payload = format!("d1:md{names}e1:v9000:{}e", "é".repeat(4_500));
    let decoded = ExtensionHandshake::decode(payload.as_bytes()).unwrap();
    assert_eq!(decoded.extensions.len(), EXTENSIONS_MAX);
    assert_eq!(decoded.client.unwrap().chars().count(), CLIENT_CHARS_MAX);
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        names in prop::collection::btree_map("[a-z_]{1,32}", any::<u8>(), 0..20),
        client in prop::option::of("[ -~]{1,64}"),
        (listen_port, requests_max, metadata_bytes) in (
            prop::option::of(1_u16..),
            prop::option::of(1..=REQUESTS_MAX),
            prop::option::of(1..=METADATA_BYTES_MAX),
        ),
        your_ip in any::<Option<IpAddr>>(),
        (ipv4, ipv6) in (any::<Option<Ipv4Addr>>(), any::<Option<Ipv6Addr>>()),
        upload_only in any::<Option<bool>>(),
    ) {
        let handshake = ExtensionHandshake {
            extensions: names,
            client,
            listen_port,
            requests_max,
            metadata_bytes,
            your_ip,
            ipv4,
            ipv6,
            upload_only,
        };
        let payload = handshake.encode();
        prop_assert!(decode(&payload, &Options::strict()).is_ok());
        prop_assert_eq!(ExtensionHandshake::decode(&payload), Ok(handshake));
    }
}
