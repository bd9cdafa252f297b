//! Metainfo files on any bytes, for all platforms: never a panic; what is taken keeps its promises about paths, offsets
//! and the info hash; an edit changes nothing of the info dictionary.
#![no_main]

use bt_metainfo::{Change, Edit, Metainfo, Platform};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::path::Component;

fuzz_target!(|bytes: &[u8]| {
    for platform in [Platform::Unix, Platform::MacOs, Platform::Windows] {
        if let Ok(metainfo) = Metainfo::parse_for(bytes, platform) {
            check(&metainfo, platform);
        }
    }
});

fn check(metainfo: &Metainfo, platform: Platform) {
    let info = &metainfo.info;
    let (mut end, mut seen, mut parents) = (0, BTreeSet::new(), BTreeSet::new());
    for file in info.files() {
        assert_eq!(file.offset, end);
        end += file.length;
        let parts: Vec<_> = file.path.components().collect();
        assert!(!parts.is_empty());
        assert!(
            parts
                .iter()
                .all(|part| matches!(part, Component::Normal(_)))
        );
        assert!(parts.iter().all(|part| part.as_os_str().len() <= 255));
        assert!(file.path.starts_with(info.name()));
        if file.is_stored() {
            let path = file.path.to_str().expect("paths are text");
            let key = match platform {
                Platform::Unix => path.to_owned(),
                Platform::MacOs | Platform::Windows => path.to_lowercase(),
            };
            let folders = key
                .match_indices('/')
                .map(|(slash, _)| key[..slash].to_owned());
            parents.extend(folders);
            assert!(seen.insert(key), "two files on one path");
        }
    }
    assert!(
        seen.is_disjoint(&parents),
        "a file where a folder is needed"
    );
    assert_eq!(end, info.layout().total_length());
    assert!(
        info.layout()
            .pieces()
            .all(|piece| info.piece_hash(piece).is_some())
    );
    for note in metainfo.notes() {
        let _ = note.to_string();
    }

    let magnet = metainfo
        .magnet()
        .to_string()
        .parse()
        .expect("our own magnet link");
    let again = Metainfo::from_magnet(&magnet, metainfo.info_bytes());
    assert_eq!(again.map(|again| again.info_hash), Ok(metainfo.info_hash));
    let edit = Edit {
        comment: Change::Set("edited".into()),
        trackers: Change::Remove,
        ..Edit::default()
    };
    let edited = metainfo.edit(&edit).expect("an edit without URLs");
    assert_eq!(edited.info_bytes(), metainfo.info_bytes());
    assert_eq!(edited.comment(), Some("edited"));
    assert_eq!(edited.web_seeds(), metainfo.web_seeds());
}
