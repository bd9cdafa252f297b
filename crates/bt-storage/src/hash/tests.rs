use super::*;
use crate::testing::Torrent;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

/// The torrent's files in the folder, as they would be given to be hashed.
fn sources(torrent: &Torrent, folder: &Path) -> Vec<FileSpec> {
    torrent.fill_folder(folder);
    let absolute = |spec: &FileSpec| FileSpec {
        path: folder.join(&spec.path),
        ..spec.clone()
    };
    torrent.map.files().iter().map(absolute).collect()
}

#[test]
fn the_hashes_are_those_of_the_bytes_laid_end_to_end() {
    let shapes: [(&[u64], u32); 5] = [
        (&[1], 16_384),
        (&[0, 0], 16_384),
        (&[100, 0, 16_384, 5, 70_000], 16_384),
        (&[3_000_000, 2_000_000], 2_500_000),
        (&[16_384 * 3], 16_384),
    ];
    for (lengths, piece_length) in shapes {
        let torrent = Torrent::new(lengths, piece_length);
        let temp = tempfile::tempdir().unwrap();
        let sources = sources(&torrent, temp.path());
        for threads in [1, 3] {
            let control = Control {
                threads: NonZeroUsize::new(threads),
                ..Control::default()
            };
            let hashes = hash_files(&sources, piece_length, control);
            assert_eq!(hashes.as_ref(), Ok(&torrent.hashes), "{lengths:?}");
        }
    }
}

#[test]
fn padding_is_hashed_as_zeros_without_a_file() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a");
    std::fs::write(&path, "abc").unwrap();
    let spec = |path: &Path, length, pad| FileSpec {
        path: path.into(),
        length,
        pad,
    };
    let files = [
        spec(&path, 3, false),
        spec(Path::new("no such file"), 5, true),
    ];
    let hashes = hash_files(&files, 16, Control::default()).unwrap();
    let expected = <sha1::Sha1 as sha1::Digest>::digest(b"abc\0\0\0\0\0");
    assert_eq!(hashes, [<[u8; 20]>::from(expected)]);
}

#[test]
fn a_file_that_changes_is_named() {
    type Harm = fn(&Path);
    let append: Harm = |path| {
        let mut file = File::options().append(true).open(path).unwrap();
        file.write_all(b"x").unwrap();
    };
    let cut: Harm = |path| {
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_len(1)
            .unwrap()
    };
    let rewrite: Harm = |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    for harm in [append, cut, rewrite] {
        let torrent = Torrent::new(&[50_000, 50_000], 16_384);
        let temp = tempfile::tempdir().unwrap();
        let sources = sources(&torrent, temp.path());
        let victim = sources[1].path.clone();
        let once = AtomicBool::new(false);
        let meddle = |_| {
            if !once.swap(true, Ordering::Relaxed) {
                harm(&victim);
            }
        };
        let control = Control {
            threads: NonZeroUsize::new(1),
            progress: Some(&meddle),
            ..Control::default()
        };
        let error = hash_files(&sources, 16_384, control).unwrap_err();
        assert_eq!(error, HashError::Changed { path: victim });
    }
}

#[test]
fn what_cannot_be_hashed() {
    let temp = tempfile::tempdir().unwrap();
    let spec = |name: &str, length| FileSpec {
        path: temp.path().join(name),
        length,
        pad: false,
    };
    std::fs::write(temp.path().join("ten"), "0123456789").unwrap();
    std::fs::create_dir(temp.path().join("folder")).unwrap();
    let rows = [
        (spec("ten", 11), 16_384, "ten changed"),
        (spec("ten", 9), 16_384, "ten changed"),
        (spec("missing", 9), 16_384, "missing: No such file"),
        (spec("folder", 9), 16_384, "folder: Is a directory"),
        (spec("ten", 10), 0, "piece length 0"),
        (spec("ten", u64::MAX), 16_384, "pieces"),
    ];
    for (file, piece_length, expected) in rows {
        let error = hash_files(&[file], piece_length, Control::default()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn it_stops_when_told_to() {
    let torrent = Torrent::new(&[100_000], 16_384);
    let temp = tempfile::tempdir().unwrap();
    let sources = sources(&torrent, temp.path());
    let cancel = AtomicBool::new(true);
    let control = Control {
        cancel: Some(&cancel),
        ..Control::default()
    };
    assert_eq!(
        hash_files(&sources, 16_384, control),
        Err(HashError::Cancelled)
    );
}
