//! The name of the program behind a peer id (BEP 20, the community specification's list, and what else is in use).
//!
//! **Invariant:** no byte of a peer's choice gets out that is not a letter, a digit, `~` or `.`.

use bt_core::PeerId;

/// The program's name and version as far as the id tells, to be shown to a person.
///
/// A peer chooses its id freely, so this is no reason to treat a peer one way or another.
#[must_use]
pub fn client_name(id: &PeerId) -> Option<String> {
    let id = id.as_bytes();
    special(id)
        .or_else(|| dashed(id))
        .or_else(|| mainline(id))
        .or_else(|| shadow(id))
}

/// `-XX1234-`, begun by Azureus and used by nearly everybody: two characters for the program, four for the version.
fn dashed(id: &[u8; 20]) -> Option<String> {
    let [b'-', a, b, version @ .., b'-'] = id.first_chunk::<8>()? else {
        return None;
    };
    let mut values = [0; 4];
    for (value, digit) in values.iter_mut().zip(version) {
        *value = digit_value(*digit)?;
    }
    let code = [*a, *b];
    let printable = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'~';
    if !code.iter().all(printable) {
        return None;
    }
    let [major, minor, tiny, build] = values;
    let version = match &code {
        // Before 4.0 the second and third digit are one number: 2.94.
        b"TR" if major < 4 => format!("{major}.{minor}{tiny}"),
        _ if build != 0 => format!("{major}.{minor}.{tiny}.{build}"),
        _ if tiny != 0 => format!("{major}.{minor}.{tiny}"),
        _ => format!("{major}.{minor}"),
    };
    let name = DASHED.iter().find(|(known, _)| **known == code);
    let name = name.map_or_else(
        || code.map(char::from).iter().collect(),
        |(_, n)| (*n).to_owned(),
    );
    Some(format!("{name} {version}"))
}

/// `M4-20-8-`: the mainline program, and Queen Bee after it.
fn mainline(id: &[u8; 20]) -> Option<String> {
    let (letter, rest) = id.split_first()?;
    let name = match letter {
        b'M' => "BitTorrent",
        b'Q' => "Queen Bee",
        _ => return None,
    };
    let mut parts = rest.first_chunk::<7>()?.split(|byte| *byte == b'-');
    let mut number = || -> Option<&str> {
        let digits = parts.next()?;
        let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        valid.then_some(core::str::from_utf8(digits).ok()?)
    };
    Some(format!("{name} {}.{}.{}", number()?, number()?, number()?))
}

/// `S58B-----`: a letter for the program, up to five digits of base 64 padded with `-`, and `---`.
fn shadow(id: &[u8; 20]) -> Option<String> {
    let [letter, version @ .., b'-', b'-', b'-'] = id.first_chunk::<9>()? else {
        return None;
    };
    let (_, name) = SHADOW.iter().find(|(known, _)| known == letter)?;
    let digits = version.iter().rposition(|digit| *digit != b'-')? + 1;
    let numbers: Option<Vec<_>> = version
        .iter()
        .take(digits)
        .map(|digit| match digit {
            b'.' => Some("62".to_owned()),
            _ => digit_value(*digit).map(|value| value.to_string()),
        })
        .collect();
    Some(format!("{name} {}", numbers?.join(".")))
}

/// The ids that follow no scheme.
fn special(id: &[u8; 20]) -> Option<String> {
    if let Some((_, name)) = PREFIXES.iter().find(|(prefix, _)| id.starts_with(prefix)) {
        return Some((*name).to_owned());
    }
    let digits = |from: usize, to: usize| -> Option<&str> {
        let text = id.get(from..to)?;
        let valid = text.iter().all(u8::is_ascii_alphanumeric);
        valid.then_some(core::str::from_utf8(text).ok()?)
    };
    match id {
        [b'e', b'x', b'b', b'c', major, minor, rest @ ..]
        | [b'F', b'U', b'T', b'B', major, minor, rest @ ..] => {
            let name = if rest.starts_with(b"LORD") {
                "BitLord"
            } else {
                "BitComet"
            };
            Some(format!("{name} {major}.{minor:02}"))
        }
        [b'X', b'B', b'T', a, b, c, kind @ (b'd' | b'-'), ..]
            if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) =>
        {
            let debug = if *kind == b'd' { " (debug)" } else { "" };
            let [a, b, c] = [a, b, c].map(|digit| char::from(*digit));
            Some(format!("XBT Client {a}.{b}.{c}{debug}"))
        }
        [b'O', b'P', ..] => {
            let build = digits(2, 6).filter(|build| build.bytes().all(|b| b.is_ascii_digit()))?;
            Some(format!("Opera build {build}"))
        }
        [b'-', b'M', b'L', rest @ ..] => {
            let end = rest.iter().position(|byte| *byte == b'-')?;
            let version = rest.get(..end)?;
            let valid = version.iter().all(|b| b.is_ascii_digit() || *b == b'.');
            valid.then(|| format!("MLdonkey {}", version.escape_ascii()))
        }
        [b'-', b'B', b'O', b'W', ..] => Some(format!("Bits on Wheels {}", digits(4, 7)?)),
        [b'-', b'F', b'G', ..] => Some(format!("FlashGet {}", digits(3, 7)?)),
        [b'Q', b'V', b'O', b'D', ..] => Some(format!("QVOD {}", digits(4, 8)?)),
        [major, minor, b'R', b'S', ..] if *major < 10 && *minor < 10 => {
            Some(format!("Rufus {major}.{minor}"))
        }
        _ => None,
    }
}

/// A version digit: 0–9, then A–Z for 10–35, then a–z for 36–61.
fn digit_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'Z' => Some(digit - b'A' + 10),
        b'a'..=b'z' => Some(digit - b'a' + 36),
        _ => None,
    }
}

const PREFIXES: &[(&[u8], &str)] = &[
    (b"AZ2500BT", "BitTyrant 1.1"),
    (b"346------", "TorrenTopia 1.90"),
    (b"\0\x03BS", "BitSpirit 3"),
    (b"\0\x02BS", "BitSpirit 2"),
    (b"-G3", "G3 Torrent"),
    (b"-NE", "BT Next Evolution"),
    (b"-SP", "BitSpirit"),
    (b"a00---0", "Swarmy"),
    (b"a02---0", "Swarmy"),
    (b"T00---0", "Teeweety"),
];

const SHADOW: &[(u8, &str)] = &[
    (b'A', "ABC"),
    (b'O', "Osprey Permaseed"),
    (b'Q', "BTQueue"),
    (b'R', "Tribler"),
    (b'S', "Shadow"),
    (b'T', "BitTornado"),
    (b'U', "UPnP NAT"),
];

const DASHED: &[(&[u8; 2], &str)] = &[
    (b"7T", "aTorrent"),
    (b"A2", "aria2"),
    (b"AG", "Ares"),
    (b"AR", "Arctic"),
    (b"AV", "Avicora"),
    (b"AX", "BitPump"),
    (b"AZ", "Azureus"),
    (b"A~", "Ares"),
    (b"BB", "BitBuddy"),
    (b"BC", "BitComet"),
    (b"BF", "Bitflu"),
    (b"BG", "BTG"),
    (b"BI", "BiglyBT"),
    (b"BR", "BitRocket"),
    (b"BS", "BTSlave"),
    (b"BT", "BitTorrent"),
    (b"BX", "Bittorrent X"),
    (b"CD", "Enhanced CTorrent"),
    (b"CT", "CTorrent"),
    (b"DE", "Deluge"),
    (b"DP", "Propagate Data Client"),
    (b"EB", "EBit"),
    (b"ES", "electric sheep"),
    (b"FD", "Free Download Manager"),
    (b"FT", "FoxTorrent"),
    (b"FX", "Freebox"),
    (b"GS", "GSTorrent"),
    (b"GT", "anacrolix/torrent"),
    (b"HL", "Halite"),
    (b"HN", "Hydranode"),
    (b"KG", "KGet"),
    (b"KT", "KTorrent"),
    (b"LH", "LH-ABC"),
    (b"LP", "Lphant"),
    (b"LT", "libtorrent"),
    (b"LW", "LimeWire"),
    (b"MO", "MonoTorrent"),
    (b"MP", "MooPolice"),
    (b"MR", "Miro"),
    (b"MT", "MoonlightTorrent"),
    (b"NX", "Net Transport"),
    (b"PD", "Pando"),
    (b"PI", "PicoTorrent"),
    (b"QD", "QQDownload"),
    (b"QT", "Qt 4 Torrent example"),
    (b"RT", "Retriever"),
    (b"SB", "Swiftbit"),
    (b"SD", "Xunlei"),
    (b"SS", "SwarmScope"),
    (b"ST", "SymTorrent"),
    (b"SZ", "Shareaza"),
    (b"S~", "Shareaza beta"),
    (b"TL", "Tribler"),
    (b"TN", "TorrentDotNET"),
    (b"TR", "Transmission"),
    (b"TS", "Torrentstorm"),
    (b"TT", "TuoTu"),
    (b"TX", "Tixati"),
    (b"UL", "uLeecher!"),
    (b"UM", "µTorrent Mac"),
    (b"UT", "µTorrent"),
    (b"UW", "µTorrent Web"),
    (b"VG", "Vagaa"),
    (b"WD", "WebTorrent Desktop"),
    (b"WT", "BitLet"),
    (b"WW", "WebTorrent"),
    (b"WY", "FireTorrent"),
    (b"XL", "Xunlei"),
    (b"XT", "XanTorrent"),
    (b"XX", "Xtorrent"),
    (b"ZT", "ZipTorrent"),
    (b"bT", "bt"),
    (b"lt", "libTorrent"),
    (b"qB", "qBittorrent"),
    (b"rQ", "rqbit"),
    (b"st", "sharktorrent"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(start: &[u8]) -> PeerId {
        let mut bytes = *b"....................";
        bytes[..start.len()].copy_from_slice(start);
        PeerId(bytes)
    }

    #[test]
    fn known_programs() {
        // BEP 20 and the community specification, "peer_id"; the last ones follow no scheme at all.
        let rows: [(&[u8], Option<&str>); 41] = [
            (b"-AZ2060-", Some("Azureus 2.0.6")),
            (b"-TR2940-", Some("Transmission 2.94")),
            (b"-TR4060-", Some("Transmission 4.0.6")),
            (b"-bT0100-", Some("bt 0.1")),
            (b"-qB4520-", Some("qBittorrent 4.5.2")),
            (b"-DE13F0-", Some("Deluge 1.3.15")),
            (b"-lt0D80-", Some("libTorrent 0.13.8")),
            (b"-LT20B0-", Some("libtorrent 2.0.11")),
            (b"-UT355S-", Some("µTorrent 3.5.5.28")),
            (b"-S~1234-", Some("Shareaza beta 1.2.3.4")),
            (b"-zz1200-", Some("zz 1.2")),
            (b"-\x1b[1234-", None),
            (b"-AZ20\x1b0-", None),
            (b"-AZ2060.", None),
            (b"M4-3-6--", Some("BitTorrent 4.3.6")),
            (b"M4-20-8-", Some("BitTorrent 4.20.8")),
            (b"M4--3-6-", None),
            (b"M4-3....", None),
            (b"Q1-0-0--", Some("Queen Bee 1.0.0")),
            (b"Q1-10-0-", Some("Queen Bee 1.10.0")),
            (b"S58B-----", Some("Shadow 5.8.11")),
            (b"T03I-----", Some("BitTornado 0.3.18")),
            (b"A310--001", None),
            (b"R3.------", Some("Tribler 3.62")),
            (b"T5-8B----", None),
            (b"S--------", None),
            (b"exbc\x00\x38", Some("BitComet 0.56")),
            (b"FUTB\x00\x07", Some("BitComet 0.07")),
            (b"exbc\x01\x02LORD", Some("BitLord 1.02")),
            (b"XBT054d-", Some("XBT Client 0.5.4 (debug)")),
            (b"XBT054--", Some("XBT Client 0.5.4")),
            (b"OP8482", Some("Opera build 8482")),
            (b"-ML2.7.2-kgjjfkd", Some("MLdonkey 2.7.2")),
            (b"-BOWA0C-", Some("Bits on Wheels A0C")),
            (b"AZ2500BT", Some("BitTyrant 1.1")),
            (b"346------", Some("TorrenTopia 1.90")),
            (b"\0\x03BS", Some("BitSpirit 3")),
            (b"\0\x09RS", Some("Rufus 0.9")),
            (b"-G3nick\x1b[", Some("G3 Torrent")),
            (b"-FG0180", Some("FlashGet 0180")),
            (&[0; 20], None),
        ];
        for (start, expected) in rows {
            let name = client_name(&id(start));
            assert_eq!(name.as_deref(), expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn the_table_is_sorted_and_names_each_code_once() {
        assert!(DASHED.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    proptest! {
        #[test]
        fn nothing_a_peer_sends_can_control_a_terminal(
            start in prop::sample::select(vec![
                "", "-", "-ML", "-BOW", "-FG", "-G3", "M", "Q", "S", "OP", "XBT", "exbc", "QVOD",
            ]),
            random in any::<[u8; 20]>(),
        ) {
            let mut bytes = random;
            bytes[..start.len()].copy_from_slice(start.as_bytes());
            if let Some(name) = client_name(&PeerId(bytes)) {
                prop_assert!(!name.contains(char::is_control), "{name:?}");
            }
        }
    }
}
