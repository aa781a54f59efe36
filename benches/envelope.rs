//! What sealing and opening cost, at the size of a refresh, of a large request and of the replay
//! limit.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bearerd::partner::envelope::{EnvelopeKey, Iv, open, seal};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn envelope(c: &mut Criterion) {
    let key = EnvelopeKey::from_hex(&"5a".repeat(32)).unwrap();
    for size in [1024, 16 * 1024, 64 * 1024] {
        let plaintext = vec![b'a'; size];
        let sealed = seal(&key, Iv::Prefix, &plaintext).unwrap();
        let mut group = c.benchmark_group("envelope");
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("seal", size), |b| {
            b.iter(|| seal(&key, Iv::Prefix, black_box(&plaintext)))
        });
        group.bench_function(BenchmarkId::new("open", size), |b| {
            b.iter(|| open(&key, Iv::Prefix, black_box(&sealed)))
        });
        group.finish();
    }
}

criterion_group!(benches, envelope);
criterion_main!(benches);
