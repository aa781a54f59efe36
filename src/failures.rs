#![doc = include_str!("failures.md")]

#[cfg(test)]
mod tests {
    use crate::credential::State;
    use crate::metrics::ReplayResult;
    use crate::partner::reason;

    const PAGE: &str = include_str!("failures.md");

    #[test]
    fn every_word_that_an_operator_may_meet_is_explained() {
        for word in reason::ALL {
            assert!(PAGE.contains(&format!("\n| `{word}` | ")), "{word} has no row");
        }
        let states = [State::Starting, State::Valid, State::Degraded, State::Expired, State::ReauthRequired];
        let results = ReplayResult::ALL.map(ReplayResult::as_str);
        for word in states.map(State::as_str).into_iter().chain(results) {
            assert!(PAGE.contains(&format!("`{word}`")), "{word}");
        }
    }
}
