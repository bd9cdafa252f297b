//! Which files a block lies in: asked for each block that is written or read.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use bt_core::Layout;
use bt_storage::{FileMap, FileSpec};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const TOTAL_BYTES: u64 = 1 << 30;
const PIECE_BYTES: u32 = 1 << 20;

fn map(files: u64) -> FileMap {
    let specs = (0..files).map(|number| FileSpec {
        path: format!("{number}").into(),
        length: TOTAL_BYTES / files,
        pad: false,
    });
    let specs: Vec<FileSpec> = specs.collect();
    let total = specs.iter().map(|spec| spec.length).sum();
    FileMap::new(Layout::new(total, PIECE_BYTES).unwrap(), specs)
}

fn mapping(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spans of every block");
    // One file, some, one for about each block, and more files than blocks.
    for files in [1, 1_000, 65_537, 300_007] {
        let map = map(files);
        let layout = map.layout();
        let blocks: Vec<(u64, u64)> = layout
            .pieces()
            .flat_map(|piece| layout.blocks(piece))
            .map(|block| {
                let start = layout.piece_offset(block.piece) + u64::from(block.begin);
                (start, u64::from(block.length))
            })
            .collect();
        group.throughput(Throughput::Elements(blocks.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(files), |bencher| {
            bencher.iter(|| {
                let spans = blocks
                    .iter()
                    .flat_map(|(start, length)| map.spans(*start, *length));
                spans.map(|span| span.length).sum::<u64>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, mapping);
criterion_main!(benches);
