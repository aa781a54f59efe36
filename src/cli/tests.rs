//! Arguments, and what is said of wrong ones.

use clap::CommandFactory as _;

use super::*;

fn failure(arguments: &[&str]) -> String {
    let arguments = ["bearerd"].iter().chain(arguments).map(OsString::from);
    run(arguments).unwrap_err().text()
}

#[test]
fn the_parser_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_and_its_exit_codes() {
    fn check(command: &clap::Command) {
        if command.get_name() == "help" {
            return;
        }
        assert!(command.get_about().is_some(), "{}", command.get_name());
        match command.has_subcommands() {
            true => command.get_subcommands().for_each(check),
            false => {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(
                    help.contains("Example: ") && help.contains("Exit codes: 0"),
                    "{}",
                    command.get_name()
                );
            }
        }
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {argument}", command.get_name());
        }
    }
    Cli::command().get_subcommands().for_each(check);
}

#[test]
fn no_command_means_run_and_the_configuration_goes_anywhere() {
    let cli = Cli::try_parse_from(["bearerd"]).unwrap();
    assert!(cli.command.is_none() && cli.config.is_none());
    for arguments in [["bearerd", "--config", "x", "check"], ["bearerd", "check", "--config", "x"]] {
        let cli = Cli::try_parse_from(arguments).unwrap();
        assert_eq!(cli.config, Some(PathBuf::from("x")));
    }
    assert!(Cli::try_parse_from(["bearerd", "--config", "x"]).unwrap().command.is_none());
    assert!(Cli::try_parse_from(["bearerd", "token", "import", "--file", "-"]).is_ok());
}

#[test]
fn a_missing_configuration_is_a_wrong_configuration() {
    for command in [&["run"][..], &["check"], &["token", "status"], &["sandbox"], &["envelope", "seal"]] {
        let failure = failure(&[&["--config", "/nonexistent/c.toml"], command].concat());
        assert!(failure.starts_with("64 /nonexistent/c.toml: cannot open: "), "{failure}");
    }
}

#[test]
fn wrong_usage_is_explained() {
    let cases: [(&[&str], &str); 12] = [
        (&["--confg", "x"], "64 unknown option --confg; did you mean --config?\nusage: bearerd "),
        (&["chek"], "64 unknown command; did you mean check?\n"),
        (&["token"], "64 expected a command\n"),
        (&["token", "imprt"], "64 unknown command; did you mean import?\n"),
        (&["check", "more"], "64 an argument too many\nusage: bearerd check"),
        (
            &["sandbox", "--fault", "odd"],
            "64 --fault <FAULT>: expected one of busy, error, lost, refused, nonsense\n",
        ),
        (&["sandbox", "--grace", "5"], "64 --grace <TIME>: expected a time such as"),
        (
            &["sandbox", "--access-lifetime", "0s"],
            "64 --access-lifetime <TIME>: expected between 1s and 1y\n",
        ),
        (&["sandbox", "--listen"], "64 --listen <ADDRESS>: expected a value\n"),
        (&["envelope", "seal", "--iv", "prefix"], "64 missing: --key-file <FILE>\n"),
        (
            &["envelope", "open", "--key-file", "k", "--partner", "p"],
            "64 --key-file <FILE> does not go together with --partner <NAME>\n",
        ),
        (&["check", "--config", "a", "--config", "b"], "64 --config <FILE> is given more than once\n"),
    ];
    for (arguments, expected) in cases {
        let failure = failure(arguments);
        assert!(failure.starts_with(expected), "{arguments:?}\n{failure}");
        assert!(failure.ends_with("\ntry --help"), "{failure}");
    }
}

#[test]
fn what_may_be_a_secret_typed_by_mistake_is_not_repeated() {
    let cases: [&[&str]; 12] = [
        &["marked"],
        &["token", "marked"],
        &["token", "import", "marked"],
        &["token", "import", "--token", "marked"],
        &["token", "import", "--token=marked"],
        &["token", "import", "--filr=marked"],
        &["token", "import", "--partner", "a", "--partner", "marked"],
        &["token", "status", "--json=marked"],
        &["token", "import", "-marked"],
        &["token", "import", "--marked-0123456789012345678901234567890123456789"],
        &["envelope", "seal", "--key-file", "k", "--iv", "marked"],
        &["sandbox", "--access-lifetime", "5marked"],
    ];
    for arguments in cases {
        let failure = failure(arguments);
        assert!(failure.starts_with("64 ") && !failure.contains("marked"), "{arguments:?}\n{failure}");
    }
}
