//! Time to read one message's envelope, against `serde_json`'s `RawValue` for the same fields.
//!
//! The same six messages as everywhere in the benches: three small ones, structured rows, one long string.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde::Deserialize;
use serde_json::value::RawValue;
use turnout_core::wire::envelope::{ScanLimits, scan};

const REQUEST: &str = concat!(
    r#"{"jsonrpc":"2.0","id":123456,"method":"tools/call","params":{"name":"search","#,
    r#""arguments":{"query":"a","limit":10},"_meta":{"progressToken":123456},"tenant":"abcde"}}"#,
);
const PROGRESS: &str = concat!(
    r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":123456,"#,
    r#""progress":42,"total":100,"message":"reading file"}}"#,
);
const RESPONSE: &str = concat!(
    r#"{"jsonrpc":"2.0","id":123456,"result":{"content":[{"type":"text","#,
    r#""text":"one short answer of a tool, in plain words only"}],"isError":false}}"#,
);

/// What a router on `serde_json` would ask for.
#[derive(Deserialize)]
#[allow(dead_code)]
struct Message<'a> {
    #[serde(borrow)]
    jsonrpc: &'a RawValue,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct Params<'a> {
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'a RawValue>,
    #[serde(borrow, rename = "requestId")]
    request_id: Option<&'a RawValue>,
}

fn rows(size: usize) -> String {
    let mut text = String::from(r#"{"jsonrpc":"2.0","id":123456,"result":{"structuredContent":{"rows":["#);
    let mut row = 0;
    while text.len() < size - 100 {
        let comma = if row == 0 { "" } else { "," };
        let (id, name) = (row * 7919 % 99_991, row * 31 % 9_973);
        write!(text, r#"{comma}{{"id":{id},"name":"row {name}","score":0.{name},"#).unwrap();
        write!(text, r#""active":{},"tags":["alpha","beta"]}}"#, row % 2 == 0).unwrap();
        row += 1;
    }
    text.push_str("]}}}");
    text
}

fn blob(size: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let data: String = (0..size).map(|at| char::from(LETTERS[at * 2_654_435_761 % 64])).collect();
    format!(
        r#"{{"jsonrpc":"2.0","id":123456,"result":{{"content":[{{"type":"image","data":"{data}","mimeType":"image/png"}}]}}}}"#
    )
}

fn scanner(criterion: &mut Criterion) {
    let messages = [
        ("request", REQUEST.to_owned()),
        ("progress", PROGRESS.to_owned()),
        ("response", RESPONSE.to_owned()),
        ("rows 1 KB", rows(1_024)),
        ("rows 10 KB", rows(10_240)),
        ("base64 100 KB", blob(102_400)),
    ];
    let limits = ScanLimits::default();
    let mut group = criterion.benchmark_group("scanner");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(30);
    for (name, text) in &messages {
        let bytes = text.as_bytes();
        let label = format!("{name} ({} B)", bytes.len());
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("turnout", &label), |bencher| {
            bencher.iter(|| scan(black_box(bytes), &limits).unwrap());
        });
        group.bench_function(BenchmarkId::new("serde_json", &label), |bencher| {
            bencher.iter(|| {
                let message: Message<'_> = serde_json::from_slice(black_box(bytes)).unwrap();
                black_box(message.id.is_some())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, scanner);
criterion_main!(benches);
