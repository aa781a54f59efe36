//! A plot: processor time per answer, a bar for each subject.

use super::{Cost, Line, number};
use crate::subject::Subject;

const WIDTH: f64 = 860.0;
/// Where bars begin and how long the longest may be.
const BARS: (f64, f64) = (210.0, 500.0);
const ROW: f64 = 17.0;
const GAP: f64 = 14.0;
const TOP: f64 = 74.0;

/// Bars of what was measured at the fixed rate, which is steadier than saturation. Without lines it
/// is an empty plot.
pub(crate) fn svg(lines: &[Line], about: &str) -> String {
    let lines: Vec<&Line> = lines.iter().filter(|line| !line.paced.user.is_nan()).collect();
    let most = lines.iter().map(|line| sum(&line.paced)).fold(1.0, f64::max);
    let mut y = TOP;
    let mut body = String::new();
    let mut before = None;
    for line in &lines {
        if before != Some(line.cell) {
            if before.is_some() {
                y += GAP;
            }
            let (name, connections) = (line.cell.workload.name, line.cell.connections);
            body.push_str(&words("h", 12.0, y + 12.5, &format!("{name}, {connections}")));
            before = Some(line.cell);
        }
        body.push_str(&bar(line, y, BARS.1 / most));
        y += ROW;
    }
    let height = y + 34.0;
    let foot = words("n", 12.0, height - 12.0, about);
    format!("{}{STYLE}{}{body}{foot}</svg>\n", open(height), legend())
}

fn open(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Processor time per request\">\n"
    )
}

/// Greys and blues of middle brightness: they can be told from white and from black.
const STYLE: &str = "<style>
text { font: 12px system-ui, sans-serif; fill: #7d8590 }
.t { font-size: 15px; font-weight: 600 } .h { font-weight: 600 } .n { font-size: 11px }
.s { text-anchor: end } .own { fill: #2f81f7; font-weight: 600 }
.user { fill: #8b949e } .system { fill: #8b949e; fill-opacity: .5 }
.own-user { fill: #2f81f7 } .own-system { fill: #2f81f7; fill-opacity: .5 }
</style>
";

fn legend() -> String {
    let mut legend = words("t", 12.0, 22.0, "Processor time per request, microseconds, at a fixed rate");
    legend.push_str(&words("n", 12.0, 40.0, "Workload and connections; shorter is better."));
    for (x, class, name) in [(12.0, "user", "user"), (72.0, "system", "system")] {
        legend.push_str(&rectangle(class, x, 49.0, 11.0));
        legend.push_str(&words("n", x + 16.0, 58.5, name));
    }
    legend
}

fn bar(line: &Line, y: f64, scale: f64) -> String {
    let own = line.subject == Subject::Bearerd;
    let (user, system) = if own { ("own-user", "own-system") } else { ("user", "system") };
    let (first, second) = (line.paced.user * scale, line.paced.system * scale);
    let name = if own { "s own" } else { "s" };
    let mut bar = words(name, BARS.0 - 8.0, y + 12.5, line.subject.name());
    bar.push_str(&rectangle(user, BARS.0, y + 1.5, first));
    bar.push_str(&rectangle(system, BARS.0 + first, y + 1.5, second));
    let mut value = number(sum(&line.paced), 1);
    if !line.paced.to_nginx.is_nan() && line.subject != Subject::Nginx {
        value.push_str(&format!(" ({} of nginx)", number(line.paced.to_nginx, 2)));
    }
    bar.push_str(&words(if own { "own" } else { "v" }, BARS.0 + first + second + 6.0, y + 12.5, &value));
    bar
}

fn sum(cost: &Cost) -> f64 {
    cost.user + cost.system
}

fn rectangle(class: &str, x: f64, y: f64, width: f64) -> String {
    let height = ROW - 4.0;
    format!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\"/>\n")
}

fn words(class: &str, x: f64, y: f64, words: &str) -> String {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>\n")
}
