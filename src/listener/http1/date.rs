//! The `Date` of answers.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

use httpdate::HttpDate;
use tokio::time::Instant;

use crate::clock::{Clock as _, SystemClock};
use crate::http1::Outbox;

/// The field's line, made anew when another second has begun.
#[derive(Debug, Default)]
pub(super) struct Date(RefCell<Line>);

#[derive(Debug, Default)]
struct Line {
    text: String,
    /// When it is another.
    until: Option<Instant>,
}

impl Date {
    /// Writes the line.
    pub(super) fn write(&self, now: Instant, to: &mut Outbox) {
        let line = &mut *self.0.borrow_mut();
        if line.until.is_none_or(|until| now >= until) {
            let wall = SystemClock.wall().0;
            line.text = format!("date: {}\r\n", HttpDate::from(UNIX_EPOCH + Duration::from_millis(wall)));
            line.until = Some(now + Duration::from_millis(1000 - wall % 1000));
        }
        to.put(line.text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(date: &Date, now: Instant) -> String {
        let mut outbox = Outbox::default();
        date.write(now, &mut outbox);
        String::from_utf8(outbox.into_bytes()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_made_once_a_second() {
        let date = Date::default();
        let first = written(&date, Instant::now());
        let text = first.strip_prefix("date: ").unwrap().strip_suffix("\r\n").unwrap();
        assert!(text.len() == 29 && text.ends_with(" GMT"), "{text}");
        date.0.borrow_mut().text = "kept".to_owned();
        assert_eq!(written(&date, Instant::now()), "kept");
        assert_ne!(written(&date, Instant::now() + Duration::from_secs(1)), "kept");
    }
}
