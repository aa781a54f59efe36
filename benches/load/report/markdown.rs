//! For a page.

use super::{Cost, Finding, Line, number};

/// The table, and what was found beside it.
pub(crate) fn markdown(about: &[String], lines: &[Line], findings: &[Finding]) -> String {
    let mut text = "# Under load, beside its peers\n\n".to_owned();
    text.push_str("`make bench-load` writes this page and its plot.\n\n");
    for line in about {
        text.push_str(&format!("- {line}\n"));
    }
    if !lines.is_empty() {
        text.push_str(HEAD);
    }
    for line in lines {
        let mark = if line.subject.name() == "bearerd" { "**" } else { "" };
        text.push_str(&format!(
            "| {} | {} | {mark}{}{mark} | {} | {} | {} | {} | {} / {} / {} | {} | {} | {} |\n",
            line.cell.workload.name,
            line.cell.connections,
            line.subject.name(),
            number(line.throughput, 0),
            cost(&line.saturated),
            line.cell.workload.rate,
            cost(&line.paced),
            number(line.latency[0], 0),
            number(line.latency[1], 0),
            number(line.latency[2], 0),
            number(line.latency_to_nginx, 2),
            number(line.resident, 1),
            line.failed,
        ));
    }
    for finding in findings {
        text.push_str(&format!("\n## {}\n\n", finding.title));
        for line in &finding.lines {
            text.push_str(&format!("- {line}\n"));
        }
    }
    text
}

const HEAD: &str = "
CPU is user + system per answer in microseconds, then its ratio to nginx / to the cheapest of nginx and the
HAProxies, that is, the largest of the ratios to each / to Envoy. The fixed rate, in requests a second, is about
half of what the slowest of those three gets through at saturation, as far as it could be had, and for a workload over
several numbers of connections the lowest of those; Envoy may be at its limit there. Latencies are in microseconds.

| workload | conn. | subject | req/s | CPU at saturation | fixed rate | CPU at fixed rate | p50 / p99 / p99.9 | p99 to nginx | RSS, MiB | failed |
|---|---:|---|---:|---|---:|---|---|---:|---:|---:|
";

fn cost(cost: &Cost) -> String {
    if cost.user.is_nan() {
        return "-".to_owned();
    }
    format!(
        "{} + {} ({} / {} / {})",
        number(cost.user, 1),
        number(cost.system, 1),
        number(cost.to_nginx, 2),
        number(cost.to_cheapest, 2),
        number(cost.to_envoy, 2),
    )
}
