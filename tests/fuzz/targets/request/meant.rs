//! What a client can have meant by the bytes that it sent.

use bearerd_fuzz::http1::{self, Fields, Read, Request};

use crate::partner::{CODES, is_managed};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The requests in a stream.
pub(crate) struct Meant {
    /// Those in front that are whole and have one reading only.
    pub(crate) requests: Vec<Request>,
    /// The head of one more is there, and a part of its body or one that is broken.
    pub(crate) begun: bool,
    /// How many more there may be in the rest, which has more than one reading or none.
    pub(crate) doubtful: usize,
    /// Whether answers to HEAD may be among those to the rest.
    pub(crate) may_be_head: bool,
}

impl Meant {
    pub(crate) fn by(bytes: &[u8]) -> Self {
        let mut meant = Self { requests: Vec::new(), begun: false, doubtful: 0, may_be_head: false };
        if let Some(frames) = bytes.strip_prefix(PREFACE) {
            meant.doubtful = header_frames(frames);
            meant.may_be_head = true;
            return meant;
        }
        let mut rest = bytes;
        loop {
            match http1::request(rest) {
                Read::Whole(request, length) => {
                    meant.requests.push(request);
                    rest = &rest[length..];
                }
                Read::More => {
                    meant.begun = matches!(http1::head(rest), Read::Whole(..));
                    return meant;
                }
                // What comes behind it cannot be found, and is lost with the connection.
                Read::Wrong(http1::BROKEN) => {
                    meant.begun = true;
                    return meant;
                }
                Read::Wrong(_) => {
                    // No reading has a request without an empty line.
                    let lines = rest.split(|&byte| byte == b'\n').skip(1);
                    meant.doubtful = lines.filter(|line| matches!(line, [] | [b'\r'])).count();
                    meant.may_be_head = rest.windows(4).any(|four| four == b"HEAD");
                    return meant;
                }
            }
        }
    }

    /// At most as many heads as this may reach the partner.
    pub(crate) fn most(&self) -> usize {
        self.requests.len() + usize::from(self.begun) + self.doubtful
    }
}

/// The frames that may be a request's in HTTP/2 (RFC 9113 section 4.1).
fn header_frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [a, b, c, kind, ..] = *bytes {
        count += usize::from(kind == 1);
        let length = 9 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
        bytes = bytes.get(length..).unwrap_or_default();
    }
    count
}

/// Whether `seen` is what the partner should see of `meant`.
pub(crate) fn goes_on_as(meant: &Request, seen: &Request) -> bool {
    let two = is_for_two(meant);
    let Some(target) = target(&meant.head.target) else { return false };
    let target = if two && target != b"*" { [b"/base", target.as_slice()].concat() } else { target };
    meant.head.method == seen.head.method
        && target == seen.head.target
        && meant.body == seen.body
        && seen.head.fields.one("partner-code") == Some(CODES[usize::from(two)].as_bytes())
        && same_fields(&meant.head.fields, &seen.head.fields)
        && seen.trailers.0.iter().all(|trailer| meant.trailers.0.contains(trailer))
}

/// In origin form.
fn target(target: &[u8]) -> Option<Vec<u8>> {
    if target == b"*" || target.starts_with(b"/") {
        return Some(target.to_vec());
    }
    let rest = after_scheme(target)?;
    let authority = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    match &rest[authority..] {
        [] => Some(b"/".to_vec()),
        query @ [b'?', ..] => Some([b"/", query].concat()),
        path => Some(path.to_vec()),
    }
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    ["http://", "https://"].iter().find_map(|scheme| {
        let (front, rest) = target.split_at_checked(scheme.len())?;
        front.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })
}

/// Whether the host that the request names is the second partner's.
fn is_for_two(request: &Request) -> bool {
    let authority = match after_scheme(&request.head.target) {
        Some(rest) => rest.split(|byte| matches!(byte, b'/' | b'?')).next(),
        None => request.head.fields.one("host"),
    };
    let host = authority.and_then(|authority| authority.split(|&byte| byte == b':').next());
    let host = host.unwrap_or_default().to_ascii_lowercase();
    matches!(host.as_slice(), b"two.example" | b"two.example.")
}

/// All that the client sent for the partner has come, and nothing else.
fn same_fields(meant: &Fields, seen: &Fields) -> bool {
    let hop: Vec<String> = meant
        .all("connection")
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .collect();
    let goes_on = |name: &str| !is_managed(name) && !hop.iter().any(|hop| hop == name);
    let pick = |fields: &Fields, wanted: &dyn Fn(&str) -> bool| {
        let mut fields: Vec<_> = fields.0.iter().filter(|(name, _)| wanted(name)).cloned().collect();
        // The order of fields of different names means nothing.
        fields.sort_by(|(one, _), (other, _)| one.cmp(other));
        fields
    };
    pick(meant, &goes_on) == pick(seen, &|name| !is_managed(name))
}
