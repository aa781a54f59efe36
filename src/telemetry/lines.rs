//! Which events become lines, and how a line looks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::{self, Format, Full, Json, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::ACCESS_TARGET;

/// The whole of the log but for where it goes.
pub(super) fn subscriber<W>(settings: Arc<Settings>, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .event_format(Lines::new(Arc::clone(&settings)))
        .with_writer(writer);
    Registry::default().with(Levels(settings)).with(lines)
}

/// What of the log can change while it runs.
#[derive(Debug)]
pub(super) struct Settings {
    /// Index into [`LEVELS`].
    level: AtomicU8,
    json: AtomicBool,
}

/// From the most severe to the least.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

impl Default for Settings {
    fn default() -> Self {
        Self { level: AtomicU8::new(2), json: AtomicBool::new(true) }
    }
}

impl Settings {
    pub(super) fn set_json(&self, json: bool) {
        self.json.store(json, Ordering::Relaxed);
    }

    pub(super) fn set_level(&self, level: Level) {
        let index = LEVELS.iter().take_while(|known| **known < level).count();
        self.level.store(index as u8, Ordering::Relaxed);
        // Every place that logs remembers whether it is wanted, so that one that is not costs
        // nothing.
        tracing::callsite::rebuild_interest_cache();
    }

    fn level(&self) -> Level {
        LEVELS[usize::from(self.level.load(Ordering::Relaxed))]
    }
}

/// Keeps out what is below the level, and everything below `info` that is not our own.
struct Levels(Arc<Settings>);

impl Levels {
    fn allows(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        let least = if target == ACCESS_TARGET {
            // Whether there are such lines is a setting of its own.
            Level::INFO
        } else if target == "bearerd" || target.starts_with("bearerd::") {
            self.0.level()
        } else {
            self.0.level().min(Level::INFO)
        };
        *metadata.level() <= least
    }
}

impl<S: Subscriber> Layer<S> for Levels {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.allows(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.allows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // At least `info`, because the access log does not depend on the level.
        Some(self.0.level().max(Level::INFO).into())
    }
}

/// Both formats, so that a reload can go from one to the other.
struct Lines {
    settings: Arc<Settings>,
    json: Format<Json>,
    text: Format<Full>,
}

impl Lines {
    fn new(settings: Arc<Settings>) -> Self {
        let json = format::format().json().flatten_event(true).with_current_span(false).with_span_list(false);
        Self { settings, json, text: format::format().with_ansi(false) }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        // JSON has no way to write a raw line break inside of a string.
        if self.settings.json.load(Ordering::Relaxed) {
            return self.json.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.text.format_event(context, Writer::new(&mut line), event)?;
        for c in line.trim_end_matches('\n').chars() {
            if could_forge(c) {
                write!(writer, "{}", c.escape_default())?;
            } else {
                writer.write_char(c)?;
            }
        }
        writer.write_char('\n')
    }
}

/// Whether `c` could end a line, steer a terminal or turn the reading direction around. Fields that
/// are strings are escaped by the formatter already; messages and fields written with `%` are not.
fn could_forge(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
