//! Hashing, verifying and taking blocks: bytes per second on files in the page cache.
#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "a bench"
)]

use bt_core::Layout;
use bt_core::disk::{Done, Job, Verdict};
use bt_storage::{Control, FileMap, FileSpec, OpenOptions, TorrentStore, hash_files};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::num::NonZeroUsize;
use std::path::Path;

const TOTAL_BYTES: u64 = 256 * 1024 * 1024;

fn payload() -> Bytes {
    let mut bytes = vec![0; usize::try_from(TOTAL_BYTES).unwrap()];
    bt_core::Rng::new(1).fill(&mut bytes);
    bytes.into()
}

fn spec(path: &Path) -> FileSpec {
    FileSpec {
        path: path.into(),
        length: TOTAL_BYTES,
        pad: false,
    }
}

fn threads(count: usize) -> Control<'static> {
    Control {
        threads: NonZeroUsize::new(count),
        ..Control::default()
    }
}

fn from_disk(criterion: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("payload");
    std::fs::write(&path, payload()).unwrap();
    let mut group = criterion.benchmark_group("from disk");
    group
        .throughput(Throughput::Bytes(TOTAL_BYTES))
        .sample_size(10);
    for piece_length in [16 * 1024, 1024 * 1024, 16 * 1024 * 1024] {
        let files = [spec(&path)];
        let hashes = hash_files(&files, piece_length, Control::default()).unwrap();
        let map = FileMap::new(
            Layout::new(TOTAL_BYTES, piece_length).unwrap(),
            vec![spec(Path::new("payload"))],
        );
        let options = OpenOptions::default();
        let store = TorrentStore::open_files(map, hashes, temp.path(), &options).unwrap();
        for count in [1, 2] {
            let id = BenchmarkId::new(format!("hash, {count} threads"), piece_length);
            group.bench_function(id, |bencher| {
                bencher.iter(|| hash_files(&files, piece_length, threads(count)).unwrap());
            });
            let id = BenchmarkId::new(format!("verify, {count} threads"), piece_length);
            group.bench_function(id, |bencher| {
                bencher.iter(|| store.verify_all(threads(count)).unwrap());
            });
        }
    }
    group.finish();
}

fn from_peers(criterion: &mut Criterion) {
    let payload = payload();
    let temp = tempfile::tempdir().unwrap();
    let source = temp.path().join("payload");
    std::fs::write(&source, &payload).unwrap();
    let mut group = criterion.benchmark_group("from peers");
    group
        .throughput(Throughput::Bytes(TOTAL_BYTES))
        .sample_size(10);
    for piece_length in [256 * 1024, 1024 * 1024, 16 * 1024 * 1024] {
        let layout = Layout::new(TOTAL_BYTES, piece_length).unwrap();
        let hashes = hash_files(&[spec(&source)], piece_length, Control::default()).unwrap();
        let map = FileMap::new(layout, vec![spec(Path::new("copy"))]);
        let options = OpenOptions::default();
        let store = TorrentStore::open_files(map, hashes, temp.path(), &options).unwrap();
        let blocks: Vec<_> = layout
            .pieces()
            .flat_map(|piece| layout.blocks(piece))
            .collect();
        group.bench_function(BenchmarkId::new("write", piece_length), |bencher| {
            bencher.iter(|| {
                let mut done: Vec<Done> = Vec::new();
                for block in &blocks {
                    let start = layout.piece_offset(block.piece) + u64::from(block.begin);
                    let start = usize::try_from(start).unwrap();
                    let data = payload.slice(start..start + block.length as usize);
                    store.run(
                        Job::Write {
                            block: *block,
                            data,
                        },
                        &mut done,
                    );
                }
                let good = done.iter().filter(|done| {
                    matches!(
                        done,
                        Done::Checked {
                            verdict: Verdict::Good,
                            ..
                        }
                    )
                });
                assert_eq!(good.count(), layout.pieces_count() as usize);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, from_disk, from_peers);
criterion_main!(benches);
