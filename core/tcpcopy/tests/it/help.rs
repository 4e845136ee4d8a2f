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
    for letter in "xHciFBSonfmMDRUCstklPrpOgWLhvd".chars() {
        assert!(help.contains(&format!("  -{letter}, --")), "-{letter} is missing");
    }
}

#[test]
fn the_examples_are_good_command_lines() {
    let help = LowArgs::long_help();
    let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("      tcpcopy ")).collect();
    assert!(examples.len() >= 5);
    for example in examples {
        super::support::settings(&example.replace('\'', ""));
    }
}
