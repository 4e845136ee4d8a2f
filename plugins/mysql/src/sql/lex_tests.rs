use super::*;
use crate::sql::quoted::{bare_name, name, unquoted};
use proptest::prelude::*;

fn tokens(text: &[u8], mode: Mode) -> Vec<(Token, String)> {
    let lexemes = Lexer::new(text, mode);
    lexemes.map(|lexeme| (lexeme.token, String::from_utf8_lossy(lexeme.of(text)).into_owned())).collect()
}

#[test]
fn tokens_of_a_query() {
    use Token::{Mark, Name, Number, Quoted, System, Text, Variable, Word};
    let text = b"SELECT a.b, `c``d`.e.5f, @x.y, @'z w', @@global.q, @@`r`.s, 1.5e+3, .5, 0x1F, 1a, N'\\'', x'00' FROM t--1";
    let expected = [
        (Word, "SELECT"),
        (Name, "a"),
        (Mark(b'.'), "."),
        (Name, "b"),
        (Mark(b','), ","),
        (Quoted, "`c``d`"),
        (Mark(b'.'), "."),
        (Name, "e"),
        (Mark(b'.'), "."),
        (Name, "5f"),
        (Mark(b','), ","),
        (Variable, "@x.y"),
        (Mark(b','), ","),
        (Variable, "@'z w'"),
        (Mark(b','), ","),
        (System, "@@global.q"),
        (Mark(b','), ","),
        (System, "@@`r`.s"),
        (Mark(b','), ","),
        (Number, "1.5e+3"),
        (Mark(b','), ","),
        (Number, ".5"),
        (Mark(b','), ","),
        (Word, "0x1F"),
        (Mark(b','), ","),
        (Word, "1a"),
        (Mark(b','), ","),
        (Word, "N"),
        (Text, "'\\''"),
        (Mark(b','), ","),
        (Word, "x"),
        (Text, "'00'"),
        (Word, "FROM"),
        (Word, "t"),
        (Mark(b'-'), "-"),
        (Mark(b'-'), "-"),
        (Number, "1"),
    ];
    let found = tokens(text, Mode::default());
    assert_eq!(found, expected.map(|(token, text)| (token, text.to_owned())));
}

#[test]
fn comments_are_no_tokens() {
    let words = |text: &str| {
        tokens(text.as_bytes(), Mode::default())
            .into_iter()
            .map(|(_, text)| text)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(words("a -- b\nc"), "a c");
    assert_eq!(words("a --"), "a");
    assert_eq!(words("a --\tb\nc"), "a c");
    assert_eq!(words("a # b\nc"), "a c");
    assert_eq!(words("a/*b*/c"), "a c");
    assert_eq!(words("a /* b"), "a");
    assert_eq!(words("a /*! b */ c"), "a b c");
    assert_eq!(words("a /*!50000b */ c"), "a b c");
    assert_eq!(words("a /*!5000 b */ c"), "a 5000 b c");
    assert_eq!(words("a /*!40000 b /* c */ d */ e"), "a b d e");
    assert_eq!(words("a */ b"), "a * / b");
    assert_eq!(words("a # b\0c"), "a \0 c");
}

#[test]
fn strings_are_read_as_their_mode_has_it() {
    let mode = Mode::default();
    let plain = Mode { backslashes: Backslashes::Plain, ..mode };
    assert_eq!(unquoted(br"'a\n\'\\\%''b'", mode), b"a\n'\\\\%'b");
    assert_eq!(unquoted(br"'a\n'", plain), br"a\n");
    assert_eq!(unquoted(b"'a", mode), b"a");
    assert_eq!(unquoted(b"a", mode), b"a");
    assert_eq!(unquoted(b"'", mode), b"'");
    let gbk = Mode { charset: Charset::Gbk, ..mode };
    assert_eq!(unquoted(b"'\xBF\\n'", gbk), b"\xBF\\n");
    assert_eq!(name(b"`a``b`"), b"a`b");
    assert_eq!(name(b"`a`"), b"a");
    assert_eq!(name(b"a"), b"a");
    assert_eq!(bare_name(b"`a`"), Some(&b"a"[..]));
    assert_eq!(bare_name(b"`a``b`"), None);
}

pub(crate) fn any_mode() -> impl Strategy<Value = Mode> {
    let charset = prop_oneof![
        Just(Charset::Unknown),
        Just(Charset::Wide),
        Just(Charset::Latin1),
        Just(Charset::Single),
        Just(Charset::Gbk),
        Just(Charset::Gb18030),
        Just(Charset::Sjis),
        Just(Charset::Big5),
    ];
    let server =
        prop_oneof![Just(Server::Unknown), Just(Server::MySql(80_403)), Just(Server::MariaDb(110_803))];
    (charset, server, 0..8_u8).prop_map(|(charset, server, bits)| {
        let quotes = if bits & 1 == 0 { DoubleQuotes::String } else { DoubleQuotes::Name };
        let backslashes = if bits & 2 == 0 { Backslashes::Escape } else { Backslashes::Plain };
        let mode = Mode { backslashes, quotes, charset, server, ..Mode::default() };
        if bits & 4 == 0 { mode } else { mode.beginning() }
    })
}

/// Bytes that mean something, and any others.
pub(crate) fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        4 => prop::sample::select(vec![
            "SELECT", "FOR", "UPDATE", "SET", "USE", "PREPARE", "FROM", "GLOBAL", "INTO", "WITH", "AS", "BEGIN", "CREATE",
            "PROCEDURE", "EXECUTE", "IMMEDIATE", "DELETE", "db", "`db`", "db.t", "f(", "@a", "@@b.", "@`", "/*!50000", "/*M!", "/*",
            "*/", "--", "-- ", "#", "\n", ";", "'", "\"", "`", "\\", ".", ",", "(", ")", "=", ":=", "1e5", "0x1", "$a$", " ",
            "SHOW", "TABLES", "IN", "DATABASE", "IF", "NOT", "EXISTS", "NAMES", "gbk", "sql_mode", "ANSI",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
        2 => Just(b" ".to_vec()),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn tokens_are_in_order_and_never_empty(text in any_text(), mode in any_mode()) {
        let mut at = 0;
        for lexeme in Lexer::new(&text, mode) {
            prop_assert!(lexeme.start >= at && lexeme.end > lexeme.start && lexeme.end <= text.len());
            at = lexeme.end;
        }
    }

    #[test]
    fn statements_are_in_order_and_hold_all_tokens(text in any_text(), mode in any_mode()) {
        let mut at = 0;
        let mut tokens = 0;
        for statement in crate::sql::Statements::of(&text, mode) {
            prop_assert!(statement.span.start >= at && statement.span.end >= statement.span.start);
            prop_assert_eq!(&text[statement.span.clone()], statement.text);
            at = statement.span.end;
            tokens += statement.tokens;
        }
        let all = Lexer::new(&text, mode).filter(|lexeme| lexeme.token != Token::Mark(b';')).count();
        prop_assert!(tokens >= all);
    }

    #[test]
    fn the_quick_look_agrees(text in any_text(), mode in any_mode()) {
        let first = crate::sql::Statements::of(&text, mode).next().map(|statement| statement.kind);
        prop_assert_eq!(crate::sql::Statements::quick(&text, mode), first);
    }
}
