//! What a careless server might take for a login or a refresh, or read as a way out of a path.

/// A server that decodes more often than this is out of its mind.
const MOST_DECODINGS: usize = 3;

/// Whether some server could take `path`, as it stands on the request line, for a login or refresh.
pub fn might_log_in(path: &[u8]) -> bool {
    readings(path).iter().any(|reading| {
        let segments: Vec<Vec<u8>> = segments(reading)
            .map(|segment| segment.trim_ascii().to_ascii_lowercase())
            .filter(|segment| !segment.is_empty())
            .collect();
        let joined = segments.join(&b"/"[..]);
        joined == b"openapi/v1/auth/login" || joined == b"openapi/v1/auth/refresh"
    })
}

/// Whether some server could read dot segments, a backslash or NUL in `path`.
pub fn might_climb(path: &[u8]) -> bool {
    readings(path).iter().any(|reading| {
        reading.iter().any(|byte| matches!(byte, b'\\' | 0))
            || segments(reading).any(|segment| segment == b"." || segment == b"..")
    })
}

/// What `path` is to servers that decode it not at all, once, and so on, and that look for
/// parameters and a query at any moment of that, or not at all.
fn readings(path: &[u8]) -> Vec<Vec<u8>> {
    let mut readings = vec![path.to_vec()];
    let mut last = readings.clone();
    for _ in 0..MOST_DECODINGS {
        let bare: Vec<_> =
            last.iter().map(|reading| segments(reading).collect::<Vec<_>>().join(&b'/')).collect();
        last.extend(bare);
        last = last.iter().map(|reading| decode(reading)).collect();
        last.sort();
        last.dedup();
        readings.extend_from_slice(&last);
    }
    let cut =
        |reading: &Vec<u8>| reading.split(|byte| matches!(byte, b'?' | b'#')).next().map(<[u8]>::to_vec);
    let cut: Vec<_> = readings.iter().filter_map(cut).collect();
    readings.extend(cut);
    readings
}

/// Segments without their parameters.
fn segments(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default())
}

/// As many servers do it: what is no escape stands for itself.
pub fn decode(path: &[u8]) -> Vec<u8> {
    let digit = |at: usize| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < path.len() {
        match (path[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}
