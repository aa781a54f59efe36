//! What is sent.

/// A request that is sent again and again.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    /// Its name on the command line and in the table.
    pub(crate) name: &'static str,
    /// How long its body is; without one it is a GET.
    body: usize,
    /// The backend speaks TLS.
    pub(crate) tls: bool,
    /// The client speaks HTTP/2, in clear.
    pub(crate) http2: bool,
    /// How many connections there are, a table line for each, unless another number is asked for.
    /// In HTTP/2 it is the number of exchanges at the same time.
    pub(crate) connections: &'static [usize],
    /// How many are sent a second where the rate is fixed, unless another number is asked for or
    /// found.
    pub(crate) rate: u32,
}

const GET: Workload =
    Workload { name: "get", body: 0, tls: false, http2: false, connections: &[8, 64, 512], rate: 8_000 };

/// All of them.
pub(crate) const WORKLOADS: [Workload; 5] = [
    GET,
    Workload { name: "post-1k", body: 1024, connections: &[64], ..GET },
    Workload { name: "post-64k", body: 64 * 1024, connections: &[64], rate: 3_000, ..GET },
    Workload { name: "get-tls", tls: true, connections: &[64], ..GET },
    Workload { name: "get-h2c", http2: true, connections: &[64], ..GET },
];

/// What has a line of its own instead of lines in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Idle,
    Upload,
    Rotation,
    Storm,
    Partners,
}

impl Special {
    pub(crate) const ALL: [Self; 5] = [Self::Idle, Self::Upload, Self::Rotation, Self::Storm, Self::Partners];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Upload => "upload",
            Self::Rotation => "rotation",
            Self::Storm => "storm",
            Self::Partners => "partners",
        }
    }
}

/// What is asked for.
pub(crate) const PATH: &str = "/openapi/v1/va/0b5f6a7c";
/// As many header fields as a plain client sends, beside `Host`.
pub(crate) const FIELDS: [&str; 2] = ["User-Agent: bench/1", "Accept: application/json"];

impl Workload {
    /// The bytes of a request, in HTTP/1.1.
    pub(crate) fn request(&self) -> Vec<u8> {
        request(PATH, &[], self.body)
    }

    /// Whether it can be sent to the backend without a gateway in between.
    pub(crate) fn goes_direct(&self) -> bool {
        !self.tls && !self.http2
    }
}

/// The bytes of a request for `path`, with `more` fields.
pub(crate) fn request(path: &str, more: &[&str], body: usize) -> Vec<u8> {
    let method = if body == 0 { "GET" } else { "POST" };
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: bench.example\r\n");
    for field in FIELDS.iter().chain(more) {
        request.push_str(&format!("{field}\r\n"));
    }
    if body > 0 {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {body}\r\n"));
    }
    request.push_str("\r\n");
    let mut request = request.into_bytes();
    request.resize(request.len() + body, b'a');
    request
}
