//! What it costs a request to take the token in use, alone and beside other readers, against the
//! plain way: one `ArcSwap`, whose header value all readers share.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bearerd::clock::{Clock, Moment, SystemClock};
use bearerd::metrics::Metrics;
use bearerd::token::AccessToken;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use support::{TestCredential, publish, token};
use tokio::runtime::Runtime;

/// How often a new token is put in use while readers are measured: far more often than in earnest.
const PUBLISHED_EVERY: Duration = Duration::from_millis(10);

/// How many threads read at once.
const READERS: [usize; 2] = [1, 2];

fn cell(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let metrics = Metrics::new("bench");
    let mut credential = runtime.block_on(TestCredential::new(&metrics));
    runtime.spawn(credential.drive());
    runtime.block_on(publish(&credential.handle, 0));
    let cell = credential.handle.cell();

    let mut group = c.benchmark_group("cell");
    let mut reader = cell.reader();
    group.bench_function("usable", |b| b.iter(|| reader.usable(black_box(Moment::default())).unwrap()));
    let mut reader = cell.reader();
    group.bench_function("usable, clock read", |b| b.iter(|| reader.usable(SystemClock.now()).unwrap()));

    let plain = Arc::new(ArcSwap::from_pointee(header(0)));
    for readers in READERS {
        let written = AtomicBool::new(true);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1.. {
                    if !written.load(Ordering::Relaxed) {
                        return;
                    }
                    runtime.block_on(publish(&credential.handle, number));
                    plain.store(Arc::new(header(number)));
                    std::thread::sleep(PUBLISHED_EVERY);
                }
            });
            group.bench_function(BenchmarkId::new("usable, published", readers), |b| {
                b.iter_custom(|times| {
                    at_once(readers, times, || {
                        let mut reader = cell.reader();
                        move || drop(black_box(reader.usable(Moment::default())))
                    })
                });
            });
            group.bench_function(BenchmarkId::new("ArcSwap, published", readers), |b| {
                b.iter_custom(|times| {
                    at_once(readers, times, || {
                        let plain = Arc::clone(&plain);
                        move || drop(black_box(HeaderValue::clone(&plain.load_full())))
                    })
                });
            });
            written.store(false, Ordering::Relaxed);
        });
    }
    group.finish();
}

fn header(number: u64) -> HeaderValue {
    AccessToken::parse(&token(number)).unwrap().header().clone()
}

/// What `times` reads take, the mean of so many threads that make them at the same time.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the time that passes")]
fn at_once<R: FnMut()>(threads: usize, times: u64, reader: impl Fn() -> R + Sync) -> Duration {
    let barrier = std::sync::Barrier::new(threads);
    let one = || {
        let mut read = reader();
        barrier.wait();
        let begun = Instant::now();
        for _ in 0..times {
            read();
        }
        begun.elapsed()
    };
    let total: Duration = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    total / threads as u32
}

criterion_group!(benches, cell);
criterion_main!(benches);
