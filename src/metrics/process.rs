//! The `process_` metrics, as every Prometheus client library names them, read at scrape.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Reads `/proc/self`. What cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut put = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
            let cpu = ConstCounter::new(stat.cpu);
            put("process_cpu_seconds", "User and system time spent in seconds.", &cpu)?;
            let virt = ConstGauge::new(stat.virtual_memory);
            put("process_virtual_memory_bytes", "Size of the address space in bytes.", &virt)?;
            let resident = ConstGauge::new(stat.resident_memory);
            put("process_resident_memory_bytes", "Memory held in RAM in bytes.", &resident)?;
            if let Some(boot) = read("/proc/stat").as_deref().and_then(boot_time) {
                let start = ConstGauge::new(boot + stat.start);
                put("process_start_time_seconds", "When the process started, since 1970.", &start)?;
            }
        }
        if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            let open = ConstGauge::new(descriptors.count().saturating_sub(1) as u64);
            put("process_open_fds", "Open file descriptors.", &open)?;
        }
        let most = ConstGauge::new(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX));
        put("process_max_fds", "The most file descriptors that may be open.", &most)
    }
}

/// What is needed of `/proc/self/stat` (proc_pid_stat(5)), in seconds and bytes.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu: f64,
    /// Since the machine started.
    start: f64,
    virtual_memory: u64,
    resident_memory: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold spaces and
        // parentheses; what follows the last one begins with field 3.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        Some(Self {
            cpu: seconds(field(14)? + field(15)?),
            start: seconds(field(22)?),
            virtual_memory: field(23)?,
            resident_memory: field(24)? * page_size() as u64,
        })
    }
}

/// When the machine started, in seconds since 1970, from `/proc/stat`.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn read(path: &str) -> Option<String> {
    // The name of the program need not be UTF-8.
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let ticks = clock_ticks_per_second();
        let text = format!(
            "7 (a) R (b c) S 1 7 7 0 -1 0 0 0 0 0 {} {} 0 0 20 0 3 0 {} 4096 2 0",
            ticks,
            ticks * 2,
            ticks * 50
        );
        let page = page_size() as u64;
        let expected = Stat { cpu: 3.0, start: 50.0, virtual_memory: 4096, resident_memory: 2 * page };
        assert_eq!(Stat::parse(&text), Some(expected));
        assert_eq!(Stat::parse("7 (cut) S 1 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn boot_time_is_found_among_other_lines() {
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000.0));
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }
}
