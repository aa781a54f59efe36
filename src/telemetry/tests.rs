//! The log as its reader sees it.

use std::io::Write;
use std::sync::Mutex;

use serde_json::Value;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// What was written, kept for the test.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Runs `log` with a log of its own, and returns what it wrote.
fn written(format: Format, level: Level, log: impl FnOnce(&Settings, &Buffer)) -> String {
    let (settings, buffer) = (Arc::new(Settings::default()), Buffer::default());
    settings.set_json(format == Format::Json);
    settings.set_level(level);
    let subscriber = lines::subscriber(Arc::clone(&settings), buffer.clone());
    tracing::subscriber::with_default(subscriber, || log(&settings, &buffer));
    buffer.text()
}

fn everything_at_every_level() {
    tracing::error!(target: "bearerd::proxy", "own error");
    tracing::info!(target: "bearerd::proxy", "own info");
    tracing::debug!(target: "bearerd::proxy", "own debug");
    tracing::trace!(target: "bearerd", "own trace");
    tracing::error!(target: "h2::codec", "foreign error");
    tracing::info!(target: "h2::codec", "foreign info");
    tracing::debug!(target: "h2::codec", "foreign debug");
    tracing::trace!(target: "bearerdish", "foreign trace");
    tracing::info!(target: ACCESS_TARGET, "access info");
}

/// The messages of lines in JSON.
fn messages(text: &str) -> Vec<String> {
    let message =
        |line: &str| serde_json::from_str::<Value>(line).unwrap()["message"].as_str().unwrap().to_owned();
    text.lines().map(message).collect()
}

const LINE: AccessLine<'_> = AccessLine {
    method: "GET",
    path: "/v1/things",
    status: 200,
    partner: "acme",
    bytes_in: 1,
    bytes_out: 2,
    duration: Duration::from_micros(1_500),
    upstream_duration: None,
    resend_count: 0,
    trace_id: None,
    problem: None,
};

#[test]
fn libraries_are_capped_at_info_whatever_the_level() {
    let cases: [(Level, &[&str]); 4] = [
        (Level::ERROR, &["own error", "foreign error", "access info"]),
        (Level::INFO, &["own error", "own info", "foreign error", "foreign info", "access info"]),
        (
            Level::DEBUG,
            &["own error", "own info", "own debug", "foreign error", "foreign info", "access info"],
        ),
        (
            Level::TRACE,
            &[
                "own error",
                "own info",
                "own debug",
                "own trace",
                "foreign error",
                "foreign info",
                "access info",
            ],
        ),
    ];
    for (level, expected) in cases {
        let text = written(Format::Json, level, |_, _| everything_at_every_level());
        assert_eq!(messages(&text), expected, "{level}");
    }
}

#[test]
fn level_and_format_change_while_the_log_runs() {
    let text = written(Format::Json, Level::ERROR, |settings, buffer| {
        let log = || tracing::debug!(target: "bearerd::proxy", "now or never");
        log();
        assert_eq!(buffer.text(), "");
        settings.set_level(Level::DEBUG);
        log();
        assert_eq!(messages(&buffer.text()), ["now or never"]);
        buffer.clear();
        settings.set_level(Level::INFO);
        log();
        assert_eq!(buffer.text(), "");
        settings.set_level(Level::TRACE);
        settings.set_json(false);
        log();
    });
    assert!(text.ends_with("DEBUG bearerd::proxy: now or never\n"), "{text:?}");
}

#[test]
fn a_line_in_json_is_one_flat_object() {
    let text = written(Format::Json, Level::INFO, |_, _| {
        tracing::info_span!(target: "bearerd", "span", inner = 1).in_scope(|| {
            tracing::warn!(target: "bearerd::credential", partner = "acme", attempt = 3, "late");
        });
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    let object = line.as_object().unwrap();
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["attempt", "level", "message", "partner", "target", "timestamp"]);
    assert_eq!((&line["level"], &line["partner"]), (&"WARN".into(), &"acme".into()));
    let timestamp = line["timestamp"].as_str().unwrap();
    assert_eq!((timestamp.len(), timestamp.as_bytes()[10], timestamp.as_bytes()[26]), (27, b'T', b'Z'));
}

#[test]
fn an_access_line_has_all_its_fields_and_no_query() {
    let line = AccessLine {
        path: "/v1/things?token=secret",
        upstream_duration: Some(Duration::from_millis(1)),
        trace_id: Some("0af7651916cd43dd8448eb211c80319c"),
        problem: Some("no_token"),
        ..LINE
    };
    let text = written(Format::Json, Level::ERROR, |_, _| {
        access_line(&line);
        access_line(&LINE);
    });
    assert!(!text.contains("secret"), "{text}");
    let (full, bare) = text.split_once('\n').unwrap();
    let (full, bare): (Value, Value) =
        (serde_json::from_str(full).unwrap(), serde_json::from_str(bare).unwrap());
    for (key, value) in [
        ("target", Value::from("bearerd::access")),
        ("method", "GET".into()),
        ("path", "/v1/things".into()),
        ("status", 200.into()),
        ("partner", "acme".into()),
        ("bytes_in", 1.into()),
        ("bytes_out", 2.into()),
        ("duration_ms", 1.5.into()),
        ("upstream_duration_ms", 1.0.into()),
        ("resend_count", 0.into()),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c".into()),
        ("problem", "no_token".into()),
    ] {
        assert_eq!(full[key], value, "{key}");
    }
    assert!(
        ["upstream_duration_ms", "trace_id", "problem"].iter().all(|key| bare.get(*key).is_none()),
        "{bare}"
    );
}

#[test]
fn nothing_in_a_field_or_a_message_makes_a_second_line() {
    let evil = "/a\r\n2024-01-01T00:00:00Z ERROR bearerd: forged\u{2028}\u{85}\u{1b}[2J\u{202e}\0";
    for format in [Format::Json, Format::Text] {
        let text = written(format, Level::INFO, |_, _| {
            access_line(&AccessLine { path: evil, method: "G\nET", ..LINE });
            tracing::info!(target: "bearerd", error = %evil, "{evil}");
        });
        assert_eq!(text.matches('\n').count(), 2, "{text:?}");
        assert_eq!(text.lines().count(), 2, "{text:?}");
        if format == Format::Text {
            let breaks = |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{202e}'));
            assert!(!text.contains(breaks), "{text:?}");
        } else {
            assert_eq!(messages(&text), ["exchange", evil]);
        }
    }
}

#[test]
fn a_long_path_and_a_long_method_are_cut_between_characters() {
    let path = format!("/{}", "\u{20ac}".repeat(1000));
    let text = written(Format::Json, Level::INFO, |_, _| {
        access_line(&AccessLine { path: &path, method: &"X".repeat(1000), ..LINE });
    });
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["path"].as_str().unwrap(), format!("/{}", "\u{20ac}".repeat(85)));
    assert_eq!(line["method"].as_str().unwrap().len(), 32);
}

#[test]
fn a_panic_is_reported_by_its_place_and_never_by_its_payload() {
    let text = written(Format::Json, Level::INFO, |_, _| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(panics::report));
        let unwound = std::panic::catch_unwind(|| panic!("marked secret {}", 1 + 1));
        std::panic::set_hook(before);
        assert!(unwound.is_err());
    });
    assert!(!text.contains("marked"), "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["level"], &line["file"]), (&"ERROR".into(), &file!().into()));
    assert!(line["line"].is_u64());
}

#[test]
fn access_chooses_by_status() {
    for (access, expected) in [
        (Access::Off, [false, false, false, false]),
        (Access::Errors, [false, true, true, true]),
        (Access::All, [true, true, true, true]),
    ] {
        assert_eq!([399, 400, 503, 0].map(|status| access.wants(status)), expected, "{access:?}");
    }
}

/// A writer that takes nothing until it is let go.
struct Stalled(mpsc::Receiver<()>);

impl Write for Stalled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stalled_reader_costs_lines_and_holds_up_neither_a_line_nor_the_end() {
    let config = Config { format: Format::Json, level: Level::INFO, access: Access::All };
    let (let_go, stalled) = mpsc::channel();
    let guard = Guard::new(&config, Stalled(stalled));
    assert_eq!(access(), Access::All);
    let handle = guard.handle();
    let subscriber = lines::subscriber(Arc::clone(&handle.settings), guard.writer.clone());
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..2 * Guard::QUEUED_LINES {
            tracing::info!(target: "bearerd", "a line");
        }
    });
    assert!(handle.dropped_lines() > 0);
    drop(guard);
    drop(let_go);
}

#[test]
fn what_was_logged_before_the_end_is_written() {
    let config = Config { format: Format::Text, level: Level::INFO, access: Access::All };
    let buffer = Buffer::default();
    let guard = Guard::new(&config, buffer.clone());
    let subscriber = lines::subscriber(Arc::clone(&guard.handle.settings), guard.writer.clone());
    tracing::subscriber::with_default(subscriber, || {
        for _ in 0..100 {
            tracing::info!(target: "bearerd", "a line");
        }
    });
    drop(guard);
    assert_eq!(buffer.text().lines().count(), 100);
}
