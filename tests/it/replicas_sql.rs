//! The statements that claim a call and write a record, each against every kind of row.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls, Statement};

use crate::support::fleet::migrate;
use crate::support::postgres::Postgres;

const CLAIM: &str = include_str!("../../src/store/postgres/statements/claim.sql");
const WRITE: &str = include_str!("../../src/store/postgres/statements/write.sql");
const US: i64 = 1;

/// One who asks, in a session of its own.
struct Asker {
    client: Client,
    claim: Statement,
    write: Statement,
}

impl Asker {
    async fn new(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let (int, bytes, boolean) = (Type::INT8, Type::BYTEA, Type::BOOL);
        let mut types = vec![Type::TEXT, int.clone(), bytes.clone(), bytes.clone(), bytes];
        types.extend(vec![int.clone(); 5]);
        types.extend([Type::BYTEA_ARRAY, int.clone()]);
        let write = client.prepare_typed(WRITE, &types).await.unwrap();
        types.extend([int, boolean.clone(), boolean]);
        let claim = client.prepare_typed(CLAIM, &types).await.unwrap();
        Self { client, claim, write }
    }

    /// Puts a row there, or none.
    async fn lay_out(&self, pair: &str, intent: &str, lease: &str) {
        self.client.batch_execute("DELETE FROM bearerd_credential").await.unwrap();
        let pair: u8 = match pair {
            "none" => return,
            "same" => 2,
            "ancestor" => 1,
            _ => 9,
        };
        let who = |word: &str| match word {
            "none" => ("NULL", "NULL"),
            "ours" => ("1", "now() + interval '1 minute'"),
            "open" => ("2", "now() + interval '1 minute'"),
            _ => ("2", "now() - interval '1 minute'"),
        };
        let ((owner, deadline), (holder, until)) = (who(intent), who(lease));
        let at = if owner == "NULL" { "NULL" } else { "now()" };
        let pair = format!("decode(repeat('{pair:02x}', 32), 'hex')");
        self.client
            .batch_execute(&format!(
                "INSERT INTO bearerd_credential VALUES ('acme', 7, 3, {pair}, NULL, 'x', NULL, NULL, NULL, \
                 {owner}, {at}, {deadline}, {holder}, {until}, now())"
            ))
            .await
            .unwrap();
    }

    async fn ask(&self, what: &str, seen: &str, doubtful: bool, ordered: bool) -> bool {
        let (pair, parent) = ([2_u8; 32], [1_u8; 32]);
        let (pair, parent): (&[u8], &[u8]) = (&pair, &parent);
        let lineage = vec![parent, pair];
        let (seen, none, time) = (Some(7_i64).filter(|_| seen == "known"), None::<i64>, 10_000_i64);
        let mut parameters: Vec<&(dyn ToSql + Sync)> =
            vec![&"acme", &4_i64, &pair, &parent, &pair, &none, &none, &none, &US, &seen, &lineage, &time];
        let statement = if what == "claim" {
            parameters.extend([&time as &(dyn ToSql + Sync), &doubtful, &ordered]);
            &self.claim
        } else {
            &self.write
        };
        self.client.query_opt(statement, &parameters).await.unwrap().is_some()
    }

    /// The row's revision, and whose its intent and its lease are.
    async fn row(&self) -> Option<(i64, Option<i64>, Option<i64>)> {
        let row = "SELECT revision, intent_owner, lease_owner FROM bearerd_credential";
        self.client.query_opt(row, &[]).await.unwrap().map(|row| (row.get(0), row.get(1), row.get(2)))
    }
}

#[test]
fn the_statements_do_what_the_protocol_was_simulated_with() {
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let asker = Asker::new(&database.socket_url("postgres")).await;
        let mut asked = 0;
        for line in include_str!("../vectors/claims.txt").lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split(' ').collect();
            asker.lay_out(words[1], words[2], words[3]).await;
            let before = asker.row().await;
            let (doubtful, ordered) = (words[5] == "doubtful", words.get(6) == Some(&"ordered"));
            let allowed = asker.ask(words[0], words[4], doubtful, ordered).await;
            assert_eq!(allowed, words.last() == Some(&"yes"), "{line}");
            let after = asker.row().await;
            if allowed {
                assert_after(line, &words, before.map(|row| row.0), after.unwrap());
            } else {
                assert_eq!(before, after, "{line}");
            }
            asked += 1;
        }
        assert_eq!(asked, 490);
    });
}

/// A claim is the caller's; of a record that was written another's intent and lease stay, as long as
/// the pair is the same.
fn assert_after(line: &str, words: &[&str], before: Option<i64>, after: (i64, Option<i64>, Option<i64>)) {
    assert!(after.0 > before.unwrap_or(0), "{line}");
    let others = |word: &str| word == "open" || word == "over";
    let (intent, lease) = match (words[0], words[1]) {
        ("claim", _) => (Some(US), Some(US)),
        (_, "same") => (others(words[2]).then_some(2), Some(if others(words[3]) { 2 } else { US })),
        _ => (None, Some(US)),
    };
    assert_eq!((after.1, after.2), (intent, lease), "{line}");
}
