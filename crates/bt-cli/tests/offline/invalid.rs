//! What is no torrent: FAULTS 7, 12, 19, 24, 31.

use crate::Place;

#[test]
fn bad_torrents_are_named_and_explained() {
    let good = Place::with_torrent().read("data.torrent");
    let replace = |from: &str, to: &str| {
        let at = good
            .windows(from.len())
            .position(|w| w == from.as_bytes())
            .unwrap();
        [&good[..at], to.as_bytes(), &good[at + from.len()..]].concat()
    };
    let rows: [(&str, Vec<u8>); 11] = [
        ("empty", Vec::new()),
        ("text", b"hello".to_vec()),
        ("list", b"le".to_vec()),
        ("no info", b"d8:announce8:http://ae".to_vec()),
        ("info no dict", b"d4:infoi1ee".to_vec()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("half", good[..good.len() / 2].to_vec()),
        ("tail", [good.as_slice(), b"more"].concat()),
        (
            "piece length 0",
            replace("12:piece lengthi16384e", "12:piece lengthi0e"),
        ),
        (
            "too few pieces",
            replace("12:piece lengthi16384e", "12:piece lengthi8192e"),
        ),
        ("deep", vec![b'l'; 100_000]),
    ];
    let place = Place::new();
    for (name, bytes) in rows {
        place.write(name, bytes);
        for command in ["show", "magnet", "verify"] {
            let outcome = place.bt(&[command, name]);
            assert_eq!(outcome.code, 3, "{command} {name}: {}", outcome.stderr);
            let starts = outcome.stderr.starts_with(&format!("error: {name}: "));
            assert!(
                starts && outcome.stderr.len() < 500,
                "{command} {name}: {}",
                outcome.stderr
            );
            assert_eq!(outcome.stdout, "");
        }
    }
}

#[test]
fn what_stands_in_the_place_of_a_torrent_is_named() {
    let place = Place::new();
    place.write("nothing", Vec::new());
    place.write("page", b"\n<!DOCTYPE html><title>Log in");
    for (source, words) in [
        ("nothing", "it is empty"),
        ("page", "looks like a web page"),
        ("ftp://x/y.torrent", "ftp is neither http, https nor"),
    ] {
        let outcome = place.bt(&["show", source]);
        assert_eq!(outcome.code, 3, "{}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}

#[test]
fn what_is_no_file_is_not_read() {
    let place = Place::new();
    let big = std::fs::File::create(place.path("big")).unwrap();
    big.set_len(1 << 30).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        place.path("fifo"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    for argument in ["/dev/zero", "fifo", ".", "missing", "big", ""] {
        let outcome = place.bt(&["show", argument]);
        assert_eq!(outcome.code, 3, "{argument}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(argument),
            "{argument}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn bad_links() {
    let place = Place::new();
    let rows = [
        "magnet:",
        "magnet:?dn=name",
        "MAGNET:?xt=urn:btih:abc",
        "magnet:?xt=urn:btih:zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "http://",
        "https://[::1",
    ];
    for link in rows {
        let outcome = place.bt(&["show", link, "--json"]);
        assert_eq!(outcome.code, 3, "{link}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{link}");
    }
}
