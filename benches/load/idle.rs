//! What a connection takes that has carried a request and is kept.

use std::io;

use crate::backend::{Backend, Behaviour};
use crate::generator::Generator;
use crate::machine::Cores;
use crate::report::Finding;
use crate::subject::{Setting, Subject};
use crate::workload::{PATH, request};

const CONNECTIONS: usize = 2000;
/// So few requests at the same time that connections to the backend do not count.
const AT_ONCE: usize = 8;

pub(crate) fn measure(subjects: &[Subject], cores: Cores) -> io::Result<Finding> {
    let backend = Backend::start(Behaviour::default())?;
    let setting = Setting { backend: backend.addr(), authority: None, http2: false, cores };
    let (mut lines, mut failure) = (Vec::new(), None);
    for &subject in subjects.iter().filter(|subject| **subject != Subject::Direct) {
        match one(subject, &setting, &backend) {
            Ok([each, before, after]) => {
                let name = subject.name();
                lines.push(format!("{name}: {each:.1} KiB each; from {before:.1} to {after:.1} MiB"));
            }
            Err(error) if subject == Subject::Bearerd => failure = Some(error),
            Err(error) => eprintln!("load: {} is left out of idle: {error}", subject.name()),
        }
    }
    let title = format!("Memory of {CONNECTIONS} idle connections that have carried a request each");
    failure.map_or(Ok(Finding { title, lines }), Err)
}

/// For each connection in KiB; of the whole, without and with them, in MiB.
fn one(subject: Subject, setting: &Setting<'_>, backend: &Backend) -> io::Result<[f64; 3]> {
    let started = subject.start(setting)?;
    let before = started.resident()? as f64;
    let request = request(PATH, &[], 0);
    let mut generator = Generator::connect(started.addr, CONNECTIONS, &request, backend)?;
    let outcome = generator.each_once(AT_ONCE)?;
    if outcome.answered != CONNECTIONS as u64 {
        return Err(io::Error::other(format!("{} requests failed", outcome.failed)));
    }
    let after = started.resident()? as f64;
    const MIB: f64 = 1024.0 * 1024.0;
    Ok([(after - before) / CONNECTIONS as f64 / 1024.0, before / MIB, after / MIB])
}
