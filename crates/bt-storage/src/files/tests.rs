use super::*;
use crate::memory::Faults;
use crate::testing::{Counting, Torrent};
use bt_core::disk::DiskErrorKind;
use std::sync::Arc;

fn files(torrent: &Torrent, disk: &Arc<Counting>) -> TorrentFiles {
    let storage = Box::new(Arc::clone(disk));
    TorrentFiles::new(torrent.map.clone(), storage, "folder".into())
}

#[test]
fn transfers_go_on_after_interrupts_and_short_ones() {
    let torrent = Torrent::new(&[1_000, 0, 5_000, 1], 1_024);
    let disk = Counting::new();
    disk.disk.set_faults(Faults {
        transfer_bytes_max: Some(77),
        interrupts: 3,
        ..Faults::default()
    });
    let files = files(&torrent, &disk);
    let cut = [0..10, 10..10, 10..999, 999..6_001].map(|range| torrent.payload.slice(range));
    files.write(0, cut.to_vec()).unwrap();
    assert!(torrent.is_whole(&disk.disk));
    let mut back = vec![0; 6_001];
    files.read(0, &mut back).unwrap();
    assert_eq!(back, torrent.payload);
}

#[test]
fn a_run_is_one_write_for_each_file() {
    let torrent = Torrent::new(&[100_000, 100_000], 200_000);
    let disk = Counting::new();
    let run = torrent.payload.chunks(16_384);
    let run = run.map(Bytes::copy_from_slice).collect();
    files(&torrent, &disk).write(0, run).unwrap();
    assert_eq!(disk.counts(), (0, 2, 200_000));
}

#[test]
fn errors_name_the_file_and_the_cause() {
    let torrent = Torrent::new(&[10, 10], 20);
    let full = Faults {
        space_bytes: Some(15),
        ..Faults::default()
    };
    let broken = Faults {
        write: Some(DiskErrorKind::Io),
        ..Faults::default()
    };
    let rows = [
        (full, DiskErrorKind::Full, "cannot write folder/dir1/f1: "),
        (broken, DiskErrorKind::Io, "cannot write folder/dir0/f0: "),
    ];
    for (faults, kind, message) in rows {
        let disk = Counting::new();
        disk.disk.set_faults(faults);
        let error = files(&torrent, &disk)
            .write(0, vec![torrent.payload.clone()])
            .unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.message.starts_with(message), "{error}");
    }
    let error = files(&torrent, &Counting::new()).read(5, &mut [0; 2]);
    let error = error.unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Missing);
    assert!(
        error.message.starts_with("cannot read folder/dir0/f0: "),
        "{error}"
    );
}

#[test]
fn padding_reads_as_zeros_and_is_never_on_the_disk() {
    let spec = |path: &str, length, pad| crate::map::FileSpec {
        path: path.into(),
        length,
        pad,
    };
    let specs = vec![
        spec("a", 10, false),
        spec(".pad/6", 6, true),
        spec("b", 10, false),
    ];
    let torrent = Torrent::of(specs, 16);
    let disk = Counting::new();
    let files = files(&torrent, &disk);
    // Whatever a peer sends for it is thrown away.
    let mut sent = torrent.payload.to_vec();
    sent[10..16].fill(7);
    files.write(0, vec![sent.into()]).unwrap();
    assert!(torrent.is_whole(&disk.disk));
    assert_eq!(disk.disk.contents(FileIndex(1)), None);
    let mut back = vec![1; 26];
    files.read(0, &mut back).unwrap();
    assert_eq!(back, torrent.payload);
}

#[test]
fn only_what_was_written_is_synced_and_a_failed_sync_is_remembered() {
    let torrent = Torrent::new(&[10, 10, 10], 30);
    let disk = Counting::new();
    let files = files(&torrent, &disk);
    files
        .write(10, vec![torrent.payload.slice(10..20)])
        .unwrap();
    disk.disk.set_faults(Faults {
        sync: Some(DiskErrorKind::Io),
        ..Faults::default()
    });
    assert_eq!(files.sync().unwrap_err().kind, DiskErrorKind::Io);
    assert_eq!(files.sync(), Ok(()), "nothing is due");
    assert_eq!(files.doubtful(), [FileIndex(1)]);
}
