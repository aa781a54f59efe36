//! What is sent.

/// A request that is sent again and again.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    /// Its name on the command line and in the table.
    pub(crate) name: &'static str,
    /// How long its body is; without one it is a GET.
    body: usize,
    /// How many are sent a second where the rate is fixed, unless another number is asked for.
    pub(crate) rate: u32,
}

/// All of them.
pub(crate) const WORKLOADS: [Workload; 3] = [
    Workload { name: "get", body: 0, rate: 8_000 },
    Workload { name: "post-1k", body: 1024, rate: 8_000 },
    Workload { name: "post-64k", body: 64 * 1024, rate: 3_000 },
];

impl Workload {
    /// The bytes of a request.
    pub(crate) fn request(&self) -> Vec<u8> {
        request("/openapi/v1/va/0b5f6a7c", self.body)
    }
}

/// The bytes of a request for `path`, with as many header fields as a plain client sends.
pub(crate) fn request(path: &str, body: usize) -> Vec<u8> {
    let method = if body == 0 { "GET" } else { "POST" };
    let fields = "Host: bench.example\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n";
    let mut request = format!("{method} {path} HTTP/1.1\r\n{fields}");
    if body > 0 {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {body}\r\n"));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.resize(request.len() + body, b'a');
    request
}
