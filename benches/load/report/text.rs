//! For the terminal.

use super::{Cost, Finding, Line, number};

/// The table, and what was found beside it.
pub(crate) fn text(about: &[String], lines: &[Line], findings: &[Finding]) -> String {
    let mut text = about.join("\n");
    text.push('\n');
    if !lines.is_empty() {
        text.push_str(
            "\nCPU in us per answer and its ratios, at saturation (full) and at a fixed rate (rate).\n",
        );
        for head in HEAD {
            text.push_str(&row(&head.map(str::to_owned)));
        }
    }
    let mut before = None;
    for line in lines {
        if before != Some(line.cell) {
            text.push('\n');
        }
        before = Some(line.cell);
        text.push_str(&row(&columns(line)));
    }
    for finding in findings {
        text.push_str(&format!("\n{}\n", finding.title));
        for line in &finding.lines {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

const COLUMNS: usize = 21;

#[rustfmt::skip]
const HEAD: [[&str; COLUMNS]; 2] = [
    ["", "", "", "",
     "full", "full", "full", "full", "full", "fixed", "rate", "rate", "rate", "rate", "rate",
     "p50", "p99", "p99.9", "p99", "RSS", ""],
    ["workload", "subject", "conn.", "req/s",
     "user", "system", "/nginx", "/best", "/envoy", "rate/s", "user", "system", "/nginx", "/best", "/envoy",
     "us", "us", "us", "/nginx", "MiB", "failed"],
];

fn columns(line: &Line) -> [String; COLUMNS] {
    let [a, b, c, d, e] = cost(&line.saturated);
    let [f, g, h, i, j] = cost(&line.paced);
    let [p50, p99, p999] = line.latency.map(|latency| number(latency, 0));
    let name = line.cell.workload.name.to_owned();
    let connections = line.cell.connections.to_string();
    let rate = line.cell.workload.rate.to_string();
    let throughput = number(line.throughput, 0);
    let to_nginx = number(line.latency_to_nginx, 2);
    let resident = number(line.resident, 1);
    let (subject, failed) = (line.subject.name().to_owned(), line.failed.to_string());
    #[rustfmt::skip]
    let columns = [
        name, subject, connections, throughput,
        a, b, c, d, e, rate, f, g, h, i, j,
        p50, p99, p999, to_nginx, resident, failed,
    ];
    columns
}

fn cost(cost: &Cost) -> [String; 5] {
    let [user, system] = [cost.user, cost.system].map(|time| number(time, 1));
    let [a, b, c] = [cost.to_nginx, cost.to_cheapest, cost.to_envoy].map(|ratio| number(ratio, 2));
    [user, system, a, b, c]
}

/// Names to the left, numbers to the right.
fn row(columns: &[String; COLUMNS]) -> String {
    let mut row = String::new();
    for (at, column) in columns.iter().enumerate() {
        row.push_str(&if at < 2 { format!("{column:12}") } else { format!("{column:>7}") });
    }
    format!("{}\n", row.trim_end())
}
