//! Every kind of row against every kind of draft. The SQL is held against the same table, in
//! `tests/it/replicas_sql.rs`.

use super::*;
use crate::token::Digest;

const US: i64 = 1;
const OTHER: i64 = 2;
const LATER: i64 = 60_000;
const OVER: i64 = -60_000;

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn row(pair: &str, intent: &str, lease: &str) -> Option<Row> {
    let pair = match pair {
        "none" => return None,
        "same" => digest(2),
        "ancestor" => digest(1),
        _ => digest(9),
    };
    let who = |word: &str| match word {
        "none" => None,
        "ours" => Some((US, LATER)),
        "open" => Some((OTHER, LATER)),
        _ => Some((OTHER, OVER)),
    };
    Some(Row {
        revision: 7,
        pair,
        record: Vec::new(),
        times: Times::default(),
        intent: who(intent).map(|(owner, deadline)| OpenIntent { owner, written: OVER, deadline }),
        lease: who(lease).map(|(owner, until)| Lease { owner, until }),
    })
}

fn draft(seen: &str) -> Draft {
    Draft {
        owner: US,
        seen: Some(7).filter(|_| seen == "known"),
        generation: crate::token::Generation(3),
        pair: digest(2),
        parent: Some(digest(1)),
        lineage: vec![digest(1), digest(2)],
        record: Zeroizing::new(Vec::new()),
        times: Times::default(),
    }
}

#[test]
fn who_may_claim_and_who_may_write_is_as_the_table_says() {
    let table = include_str!("../../../../tests/vectors/claims.txt");
    let mut lines = 0;
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let (allowed, said) = match words[..] {
            ["claim", pair, intent, lease, seen, standing, asked, said] => {
                let terms = Terms {
                    intent: Some(Duration::from_secs(10)),
                    lease: Duration::from_secs(10),
                    doubtful: standing == "doubtful",
                    ordered: asked == "ordered",
                };
                (may_claim(row(pair, intent, lease).as_ref(), &draft(seen), &terms), said)
            }
            ["write", pair, intent, lease, seen, said] => {
                (may_write(row(pair, intent, lease).as_ref(), &draft(seen)), said)
            }
            _ => panic!("{line:?}"),
        };
        assert_eq!(allowed, said == "yes", "{line}");
        lines += 1;
    }
    assert_eq!(lines, 3 * 4 * 4 * 2 * 5 + 5 * 2);
}
