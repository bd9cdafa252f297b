//! Golden rows of libtorrent, rows of our own, and the invariant as a property.

use super::*;
use proptest::prelude::*;

fn sanitized(parts: &[&[u8]], platform: Platform) -> String {
    sanitize_path(parts.iter().copied(), platform).join("/")
}

/// `testdata/path_sanitize.json` names its source: libtorrent's own test, Unix branch.
#[test]
fn golden_rows() {
    let rows: serde_json::Value =
        serde_json::from_str(include_str!("../../testdata/path_sanitize.json")).unwrap();
    let bytes = |hex: &serde_json::Value| {
        let hex = hex.as_str().unwrap();
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    };
    let (mut agreed, mut longer) = (0, 0);
    for row in rows["cases"].as_array().unwrap() {
        let parts: Vec<Vec<u8>> = row["elements_hex"]
            .as_array()
            .unwrap()
            .iter()
            .map(bytes)
            .collect();
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let expected = String::from_utf8(bytes(&row["expected_hex"])).unwrap();
        let ours = sanitized(&parts, Platform::Unix);
        if parts.iter().any(|part| part.len() > 240) {
            // libtorrent cuts at 240 bytes; names up to 255 are legal on disk, so we leave them as they are.
            assert_eq!(ours.as_bytes(), parts.join(&b'/'));
            longer += 1;
        } else {
            assert_eq!(ours, expected, "{parts:?}");
            agreed += 1;
        }
    }
    assert_eq!((agreed, longer), (51, 2));
}

#[test]
fn one_part_on_unix() {
    let rows: &[(&[u8], Option<&str>)] = &[
        (b"plain.txt", Some("plain.txt")),
        (b"", Some("_")),
        (b".", None),
        (b"..", None),
        (b"...", Some("...")),
        (b"/", None),
        (b"\\..", None),
        (b".\xe2\x80\x8b.", None),
        (b"../../etc/passwd", Some("....etcpasswd")),
        (b"a/b\\c", Some("abc")),
        (b"nul\0byte", Some("nul_byte")),
        (b"line\nbreak", Some("line_break")),
        (b"\x1b[31mred", Some("_[31mred")),
        (b"\xc0\xae\xc0\xae", Some("_")),
        (b"a\xffb\xff\xfec", Some("a_b_c")),
        ("gpj.\u{202e}exe".as_bytes(), Some("gpj.exe")),
        ("e\u{301}".as_bytes(), Some("e\u{301}")),
        // Joiners: an emoji family, Persian, and out of place.
        ("👨\u{200d}👩.jpg".as_bytes(), Some("👨\u{200d}👩.jpg")),
        ("می\u{200c}خواهم".as_bytes(), Some("می\u{200c}خواهم")),
        ("a\u{200d}👩".as_bytes(), Some("a👩")),
        ("👩\u{200d}".as_bytes(), Some("👩")),
        ("👩\u{200d}\u{200d}👩".as_bytes(), Some("👩\u{200d}👩")),
        (b"CON", Some("CON")),
        (b"end. ", Some("end. ")),
        (b"a:b?", Some("a:b?")),
    ];
    for (part, expected) in rows {
        let ours = sanitize_part(part, Platform::Unix);
        assert_eq!(ours.as_deref(), *expected, "{}", part.escape_ascii());
    }
}

#[test]
fn one_part_on_windows() {
    let rows: &[(&str, Option<&str>)] = &[
        ("c:", Some("c_")),
        ("a<b>c\"d|e?f*g", Some("a_b_c_d_e_f_g")),
        ("end. .", Some("end")),
        (". .", None),
        ("CON", Some("_CON")),
        ("con.txt", Some("_con.txt")),
        ("nul .tar.gz", Some("_nul .tar.gz")),
        ("COM1", Some("_COM1")),
        ("lpt².x", Some("_lpt².x")),
        ("COM0", Some("COM0")),
        ("COM10", Some("COM10")),
        ("CONSOLE", Some("CONSOLE")),
    ];
    for (part, expected) in rows {
        let ours = sanitize_part(part.as_bytes(), Platform::Windows);
        assert_eq!(ours.as_deref(), *expected, "{part}");
    }
}

#[test]
fn long_names_are_cut_before_the_extension() {
    let long = |stem: usize, extension: &str| format!("{}{extension}", "x".repeat(stem));
    let rows = [
        (long(255, ""), long(255, "")),
        (long(256, ""), long(255, "")),
        (long(300, ".txt"), long(251, ".txt")),
        (long(10, &format!(".{}", "y".repeat(300))), {
            format!("{}.{}", "x".repeat(10), "y".repeat(244))
        }),
        // Never inside a character: 85 × 3 bytes fit exactly, 83 beside an extension of four.
        ("—".repeat(86), "—".repeat(85)),
        (
            format!("{}.jpg", "—".repeat(90)),
            format!("{}.jpg", "—".repeat(83)),
        ),
    ];
    for (name, expected) in rows {
        let ours = sanitize_part(name.as_bytes(), Platform::Unix);
        assert_eq!(ours, Some(expected), "{name}");
    }
}

fn separated(paths: &[&str], platform: Platform) -> Vec<String> {
    let mut paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
    separate(&mut paths, platform);
    paths
}

#[test]
fn files_that_meet() {
    // (paths, on Unix, on macOS and Windows)
    let rows: &[(&[&str], &[&str], &[&str])] = &[
        (&["t/a", "t/b"], &["t/a", "t/b"], &["t/a", "t/b"]),
        (
            &["t/a.txt", "t/a.txt", "t/a.txt"],
            &["t/a.txt", "t/a.1.txt", "t/a.2.txt"],
            &["t/a.txt", "t/a.1.txt", "t/a.2.txt"],
        ),
        // A new name avoids what other files are called, before and after.
        (
            &["t/a", "t/a", "t/a.1"],
            &["t/a", "t/a.2", "t/a.1"],
            &["t/a", "t/a.2", "t/a.1"],
        ),
        // A file where another needs a folder, whichever comes first.
        (&["t/a", "t/a/b"], &["t/a.1", "t/a/b"], &["t/a.1", "t/a/b"]),
        (
            &["t/a/b/c", "t/a", "t/a!"],
            &["t/a/b/c", "t/a.1", "t/a!"],
            &["t/a/b/c", "t/a.1", "t/a!"],
        ),
        (
            &["t/a", "t/a/b", "t/a.1/c"],
            &["t/a.2", "t/a/b", "t/a.1/c"],
            &["t/a.2", "t/a/b", "t/a.1/c"],
        ),
        (
            &["t/xt_MARK.h", "t/xt_mark.h"],
            &["t/xt_MARK.h", "t/xt_mark.h"],
            &["t/xt_MARK.h", "t/xt_mark.1.h"],
        ),
        (
            &["t/A", "t/a/b", "T/a"],
            &["t/A", "t/a/b", "T/a"],
            &["t/A.1", "t/a/b", "T/a.2"],
        ),
        (&["t/Ä", "t/ä"], &["t/Ä", "t/ä"], &["t/Ä", "t/ä.1"]),
        (
            &["t/.hidden", "t/.hidden"],
            &["t/.hidden", "t/.hidden.1"],
            &["t/.hidden", "t/.hidden.1"],
        ),
    ];
    for (paths, unix, others) in rows {
        assert_eq!(separated(paths, Platform::Unix), *unix);
        assert_eq!(separated(paths, Platform::MacOs), *others);
        assert_eq!(separated(paths, Platform::Windows), *others);
    }
}

#[test]
fn a_long_name_stays_within_its_limit_when_numbered() {
    let name = format!("{}.txt", "—".repeat(83));
    let paths = separated(&[&name, &name], Platform::Unix);
    assert_eq!(
        paths[1],
        format!("{}.1.txt", "—".repeat(83)[..249].to_owned())
    );
    assert!(paths[1].len() <= NAME_BYTES_MAX);
}

#[test]
fn many_files_of_one_name_are_separated_quickly() {
    let mut paths = vec!["t/same".to_owned(); 50_000];
    assert_eq!(separate(&mut paths, Platform::Unix).len(), 49_999);
    assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), 50_000);
}

/// Parts out of few characters, so that names meet and vanish often.
fn any_part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[aA./\\\\]{0,3}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..6),
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(Just(b'x'), 240..300),
    ]
}

fn any_platform() -> impl Strategy<Value = Platform> {
    prop_oneof![
        Just(Platform::Unix),
        Just(Platform::MacOs),
        Just(Platform::Windows)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_part_is_safe(part in any_part(), platform in any_platform()) {
        if let Some(name) = sanitize_part(&part, platform) {
            prop_assert!(!name.is_empty() && name.len() <= NAME_BYTES_MAX);
            prop_assert!(name != "." && name != "..");
            prop_assert!(!name.contains(['/', '\\', '\0']));
            prop_assert!(!name.chars().any(char::is_control));
            // Once safe it stays as it is.
            prop_assert_eq!(sanitize_part(name.as_bytes(), platform), Some(name));
        }
    }

    #[test]
    fn no_two_files_meet(
        files in prop::collection::vec(prop::collection::vec("[aA.]{1,2}", 1..4), 0..12),
        platform in any_platform(),
    ) {
        let mut paths: Vec<String> = files.iter().map(|parts| parts.join("/")).collect();
        let before = paths.clone();
        let renamed = separate(&mut paths, platform);
        let keys: Vec<String> = paths.iter().map(|path| folded(path, platform)).collect();
        for (index, key) in keys.iter().enumerate() {
            for other in &keys[..index] {
                let (long, short) = if key.len() > other.len() { (key, other) } else { (other, key) };
                let rest = long.strip_prefix(short.as_str());
                prop_assert!(!rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')), "{} {}", key, other);
            }
        }
        let changed: Vec<_> = (0..paths.len()).filter(|index| paths[*index] != before[*index]).collect();
        prop_assert_eq!(changed, renamed.iter().map(|(_, index)| *index).collect::<Vec<_>>());
    }
}
