//! Tables for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::plain;
use crate::admin::PartnerView;

/// How the partners' tokens stand.
pub(super) fn of(partners: &[PartnerView]) -> String {
    const HEAD: [&str; 6] = ["PARTNER", "STATE", "GENERATION", "EXPIRES IN", "SAVED", "LAST CALL"];
    let rows = partners.iter().map(|partner| {
        let expires_in = partner.expires_in.map(|left| match left {
            0 => "expired".to_owned(),
            left => humantime::format_duration(Duration::from_secs(left)).to_string(),
        });
        let last = partner.last_refresh.as_ref().map(|last| {
            let mut text = last.outcome.to_string();
            if let Some(reason) = &last.reason {
                let _ = write!(text, ", {reason}");
            }
            if let Some(status) = last.status {
                let _ = write!(text, " ({status})");
            }
            if let Some(at) = &last.at {
                let _ = write!(text, ", {at}");
            }
            text
        });
        [
            partner.name.clone(),
            partner.state.to_string(),
            partner.generation.to_string(),
            expires_in.unwrap_or_else(|| "-".to_owned()),
            if partner.persisted { "yes" } else { "NO" }.to_owned(),
            last.unwrap_or_else(|| "none yet".to_owned()),
        ]
    });
    table(HEAD, rows)
}

/// Columns as wide as they need to be.
pub(super) fn table<const N: usize>(head: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.into_iter().map(|row| row.map(|cell| plain(&cell))));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let cells: Vec<_> = cells.collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_reaches_the_terminal_but_text() {
        let rows = [["a".to_owned(), "\u{1b}[2Jb".to_owned()], ["longer".to_owned(), "c".to_owned()]];
        assert_eq!(table(["X", "YY"], rows), "X       YY\na       [2Jb\nlonger  c\n");
    }
}
