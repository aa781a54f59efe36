//! What a configuration comes to, for the operator to read.

use std::fmt;

/// Every key with its value in force, by section. Secrets have been masked before they come here.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing(pub(super) Vec<Group>);

/// One section.
#[derive(Debug, Clone)]
pub(super) struct Group {
    /// As in the file, such as `[server]`.
    pub(super) title: String,
    /// Key and value. A row without a key is a remark.
    pub(super) rows: Vec<(String, String)>,
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = || self.0.iter().flat_map(|group| &group.rows);
        let width = rows().map(|(key, _)| key.len()).max().unwrap_or(0);
        let mut first = true;
        for group in self.0.iter().filter(|group| !group.rows.is_empty()) {
            if !std::mem::take(&mut first) {
                f.write_str("\n")?;
            }
            writeln!(f, "{}", group.title)?;
            for (key, value) in &group.rows {
                match key.as_str() {
                    "" => writeln!(f, "  # {value}")?,
                    key => writeln!(f, "  {key:width$}  {value}")?,
                }
            }
        }
        Ok(())
    }
}
