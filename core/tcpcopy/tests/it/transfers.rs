//! The list of `-x`.

use proptest::prelude::*;
use tcpcopy::transfer::{TransferError, parse};

fn shown(list: &str) -> Vec<String> {
    parse(list).unwrap_or_else(|error| panic!("{list}: {error}")).iter().map(ToString::to_string).collect()
}

#[test]
fn every_form_is_read() {
    assert_eq!(shown("80-10.0.0.2:8080"), ["80-10.0.0.2:8080"]);
    assert_eq!(shown("10.0.0.1:80-10.0.0.2:80"), ["10.0.0.1:80-10.0.0.2:80"]);
    assert_eq!(shown("[fd00::1]:80-[fd00::2]:80"), ["[fd00::1]:80-[fd00::2]:80"]);
    assert_eq!(
        shown(" 80 - 10.0.0.2 : 80 , 443 - [ fd00::2 ]:443 "),
        ["80-10.0.0.2:80", "443-[fd00::2]:443"]
    );
    assert_eq!(
        shown("80@02:00:00:00:00:0A-10.0.0.2:80@02:00:00:00:00:0b"),
        ["80@02:00:00:00:00:0a-10.0.0.2:80@02:00:00:00:00:0b"]
    );
    assert_eq!(
        shown("10.0.0.1:80 @ 02:00:00:00:00:01 - 10.0.0.2:80, 81-10.0.0.2:81"),
        ["10.0.0.1:80@02:00:00:00:00:01-10.0.0.2:80", "81-10.0.0.2:81"]
    );
    assert_eq!(shown("0.0.0.0:80-10.0.0.2:80"), ["80-10.0.0.2:80"], "an unspecified online address is any");
    assert_eq!(shown("[::]:80-[fd00::2]:80"), ["80-[fd00::2]:80"]);
    assert_eq!(
        shown("80-10.0.0.2:80,80-10.0.0.3:80").len(),
        2,
        "the same traffic to two targets is not a syntax error"
    );
}

#[test]
fn errors_point_at_the_place() {
    let lists = [
        "",
        " ",
        ",",
        "80",
        "80-",
        "80-10.0.0.2",
        "80-10.0.0.2:",
        "80-10.0.0.2:0",
        "80-10.0.0.2:65536",
        "0-10.0.0.2:80",
        "99999-10.0.0.2:80",
        "http-10.0.0.2:80",
        "-10.0.0.2:80",
        "80-example.org:80",
        "80-10.0.0.300:80",
        "80-:80",
        "80-fd00::2:80",
        "fd00::1:80-10.0.0.2:80",
        "80-[fd00::2:80",
        "80-[10.0.0.2]:80",
        "80-[fd00::2]80",
        "80-10.0.0.2:80;81-10.0.0.2:81",
        "80-10.0.0.2:80,",
        "80-10.0.0.2:80,81",
        "80-10.0.0.2:80,,81-10.0.0.2:81",
        "80-0.0.0.0:80",
        "80-[::]:80",
        "80-224.0.0.1:80",
        "80-255.255.255.255:80",
        "80-[ff02::1]:80",
        "224.0.0.1:80-10.0.0.2:80",
        "10.0.0.2:80-10.0.0.2:80",
        "[fd00::2]:80-[fd00::2]:80",
        "80-10.0.0.2:80, 80-10.0.0.2:80",
        "80@02:00-10.0.0.2:80",
        "80@-10.0.0.2:80",
        "80-10.0.0.2:80@02:00:00:00:00:zz",
        "80-10.0.0.2:80@02:00:00:00:00:00:01",
        "ü80-10.0.0.2:80",
        "80-ü",
    ];
    let told = lists.iter().map(|list| match parse(list) {
        Ok(found) => panic!("{list:?} was read as {found:?}"),
        Err(TransferError { column, expected }) => {
            format!("{list}\n{:>column$} expected {expected}\n\n", "^")
        }
    });
    insta::assert_snapshot!(told.collect::<String>());
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(list: String) {
        let _ = parse(&list);
    }

    #[test]
    fn nothing_that_looks_like_a_list_makes_it_panic(list in r"[0-9a-f:.,@\[\] -]{0,60}") {
        if let Err(error) = parse(&list) {
            prop_assert!(error.column >= 1 && error.column <= list.chars().count() + 1);
        }
    }

    #[test]
    fn what_is_printed_is_read_back(
        online in proptest::option::of(1u32..0xdfff_ffff), online_port in 1u16.., target in 1u32..0xdfff_ffff,
        target_port in 1u16.., mac: Option<[u8; 6]>,
    ) {
        let addr = |number: u32| std::net::Ipv4Addr::from(number);
        let mac = mac.map_or(String::new(), |mac| format!("@{}", tcpcopy::transfer::MacAddr(mac)));
        let online = online.map_or(String::new(), |online| format!("{}:", addr(online)));
        let list = format!("{online}{online_port}{mac}-{}:{target_port}{mac}", addr(target));
        if let Ok(found) = parse(&list) {
            prop_assert_eq!(found[0].to_string(), list);
        }
    }
}
