//! What is asked for.

use std::path::PathBuf;
use std::time::Duration;

use crate::subject::Subject;
use crate::workload::{Special, WORKLOADS, Workload};

pub(crate) const USAGE: &str = "\
cargo bench --bench load -- [OPTION...]
    --seconds N       how long each run takes, 1 to 60; 2 if not given
    --rounds N        how many rounds, 1 to 100; 5 if not given
    --workload NAME   in the table get, post-1k, post-64k, get-tls or get-h2c; beside it idle,
                      upload, rotation, storm or partners; all if not given. May be given more
                      than once
    --connections N   1 to 2000; 64 if not given, and for get 8, 64 and 512
    --rate N          requests a second in the runs at a fixed rate, 1 to 100000; half of what
                      the slowest of nginx and the HAProxies gets through if not given, and over
                      several numbers of connections the lowest of those
    --subject NAME    direct, bearerd, nginx, haproxy, haproxy-2.8 or envoy; all if not given.
                      May be given more than once
    --svg FILE        writes a plot of the table
    --markdown FILE   writes what is printed, as a page";

pub(crate) struct Options {
    pub(crate) time: Duration,
    pub(crate) rounds: usize,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) specials: Vec<Special>,
    pub(crate) connections: Option<usize>,
    pub(crate) rate: Option<u32>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Option<Self> {
        let mut options = Self {
            time: Duration::from_secs(2),
            rounds: 5,
            workloads: Vec::new(),
            specials: Vec::new(),
            connections: None,
            rate: None,
            subjects: Vec::new(),
            svg: None,
            markdown: None,
        };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            let number = |range: std::ops::RangeInclusive<u32>| {
                value.parse::<u32>().ok().filter(|number| range.contains(number))
            };
            match name.as_str() {
                "--seconds" => options.time = Duration::from_secs(number(1..=60)?.into()),
                "--rounds" => options.rounds = number(1..=100)? as usize,
                "--connections" => options.connections = Some(number(1..=2000)? as usize),
                "--rate" => options.rate = Some(number(1..=100_000)?),
                "--workload" => match WORKLOADS.iter().find(|workload| workload.name == value) {
                    Some(workload) => options.workloads.push(*workload),
                    None => options.specials.push(Special::ALL.into_iter().find(|s| s.name() == value)?),
                },
                "--subject" => options.subjects.push(Subject::ALL.into_iter().find(|s| s.name() == value)?),
                "--svg" => options.svg = Some(value.into()),
                "--markdown" => options.markdown = Some(value.into()),
                _ => return None,
            }
        }
        if options.workloads.is_empty() && options.specials.is_empty() {
            options.workloads = WORKLOADS.to_vec();
            options.specials = Special::ALL.to_vec();
        }
        if options.subjects.is_empty() {
            options.subjects = Subject::ALL.to_vec();
        }
        Some(options)
    }
}
