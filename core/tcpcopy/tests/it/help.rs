//! The help texts.

use tcpcopy::options::LowArgs;

#[test]
fn short_help() {
    insta::assert_snapshot!(LowArgs::short_help());
}

#[test]
fn long_help() {
    insta::assert_snapshot!(LowArgs::long_help());
}

#[test]
fn every_letter_of_tcpcopy_is_there() {
    let help = LowArgs::short_help();
    for letter in "xHciFBSonfmMDRUCstklPrpOgWLhvdaIT".chars() {
        assert!(help.contains(&format!("  -{letter}, --")), "-{letter} is missing");
    }
}

#[test]
fn the_examples_are_good_command_lines() {
    let help = LowArgs::long_help();
    let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("      tcpcopy ")).collect();
    assert!(examples.len() >= 5);
    // Commands have arguments of their own.
    let is_replay = |line: &&str| !tcpcopy::commands::is_command(line.split(' ').next().map(AsRef::as_ref));
    for example in examples.into_iter().filter(is_replay) {
        super::support::settings(&example.replace('\'', ""));
    }
}

#[test]
fn every_option_is_in_the_documentation() {
    use clap::CommandFactory;
    let documentation =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/options.md")).unwrap();
    let command = LowArgs::command();
    for option in command.get_arguments() {
        let long = format!("`--{}`", option.get_long().unwrap());
        assert!(documentation.contains(&long), "{long} is missing");
        if let Some(letter) = option.get_short() {
            let row = format!("| `-{letter}` | {long} |");
            assert!(documentation.contains(&row), "no row begins with {row}");
        }
    }
}
