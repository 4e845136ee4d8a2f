//! The tokens of a text, as MySQL's and MariaDB's own lexers find them.
//!
//! Owns where words, names, strings and comments begin and end, whatever the bytes are. What they mean together is left to
//! [`super::statement`]. Nothing is copied; a token is a range of the text.

use super::mode::{Backslashes, Charset, DoubleQuotes, Mode, Server};
use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// A keyword or a name, without quotes.
    Word,
    /// A name for sure, for it stands beside the dot of a qualified name.
    Name,
    /// A name in quotes: `` `a` ``.
    Quoted,
    /// A string, its quotes included.
    Text,
    /// A number.
    Number,
    /// A variable of the user: `@a`.
    Variable,
    /// A variable of the server: `@@global.a`.
    System,
    /// Any other byte.
    Mark(u8),
}

/// A token and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lexeme {
    /// What it is.
    pub token: Token,
    /// Its first byte.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
}

impl Lexeme {
    /// Where it is.
    pub const fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// Its bytes in the text that it was found in; none in another, shorter one.
    pub fn of<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.range()).unwrap_or_default()
    }

    /// Whether it can name a thing.
    pub const fn is_name(&self) -> bool {
        matches!(self.token, Token::Word | Token::Name | Token::Quoted)
    }
}

/// Whether a text can be read in one way only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Doubt {
    /// It can.
    #[default]
    None,
    /// The server may read it otherwise: what it does is not known.
    Some,
}

/// The tokens of a text; comments and blanks are left out. The text of a comment that the server runs is read as text.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a [u8],
    mode: Mode,
    at: usize,
    /// Within a comment that the server runs: its end is none of a statement's tokens.
    inside: bool,
    /// The end of the name that the last token was.
    name_end: Option<usize>,
    /// The next token is a name, for it follows a dot.
    after_dot: bool,
    doubt: Doubt,
}

/// Bytes that a word is made of.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Blanks, to a server.
const fn is_blank(byte: u8) -> bool {
    matches!(byte, 9..=13 | b' ')
}

impl<'a> Lexer<'a> {
    /// Begins with a text.
    pub const fn new(text: &'a [u8], mode: Mode) -> Self {
        Self { text, mode, at: 0, inside: false, name_end: None, after_dot: false, doubt: Doubt::None }
    }

    /// Whether what has been read so far can be read in one way only.
    pub const fn doubt(&self) -> Doubt {
        self.doubt
    }

    /// How far it has read.
    pub const fn at(&self) -> usize {
        self.at
    }

    /// A statement ended: what follows its `;` is read anew, and is in no comment.
    pub const fn leave_comment(&mut self) {
        self.inside = false;
    }

    #[inline]
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    /// How many bytes the character at `at` has.
    #[inline]
    pub(crate) fn width(&mut self, at: usize) -> usize {
        let first = self.text[at];
        if first < 0x80 || matches!(self.mode.charset, Charset::Wide | Charset::Latin1 | Charset::Single) {
            return 1;
        }
        let next = self.text.get(at + 1).copied().unwrap_or(0);
        let is_pair = match self.mode.charset {
            Charset::Gbk => matches!(first, 0x81..=0xFE) && matches!(next, 0x40..=0x7E | 0x80..=0xFE),
            Charset::Sjis => {
                matches!(first, 0x81..=0x9F | 0xE0..=0xFC) && matches!(next, 0x40..=0x7E | 0x80..=0xFC)
            }
            Charset::Big5 => matches!(first, 0xA1..=0xF9) && matches!(next, 0x40..=0x7E | 0xA1..=0xFE),
            Charset::Gb18030 => {
                let rest = self.text.get(at + 2..at + 4);
                if matches!(first, 0x81..=0xFE)
                    && next.is_ascii_digit()
                    && rest.is_some_and(|rest| matches!(rest[0], 0x81..=0xFE) && rest[1].is_ascii_digit())
                {
                    return 4;
                }
                matches!(first, 0x81..=0xFE) && matches!(next, 0x40..=0x7E | 0x80..=0xFE)
            }
            _ => {
                if matches!(next, b'\\' | b'`') {
                    self.doubt = Doubt::Some;
                }
                false
            }
        };
        if is_pair { 2 } else { 1 }
    }

    /// The end of the word that goes on at `at`.
    fn word_end(&mut self, mut at: usize) -> usize {
        while let Some(&byte) = self.text.get(at) {
            if !is_word(byte) {
                break;
            }
            if byte >= 0x80 {
                match self.mode.charset {
                    Charset::Latin1 if byte == 0xA0 => break,
                    Charset::Single => self.doubt = Doubt::Some,
                    Charset::Unknown if byte == 0xA0 => self.doubt = Doubt::Some,
                    _ => {}
                }
                at += self.width(at);
            } else {
                at += 1;
            }
        }
        at
    }

    /// The end of what is quoted, from the byte behind the first quote.
    fn quoted_end(&mut self, mut at: usize, quote: u8, escapes: Backslashes) -> usize {
        while let Some(&byte) = self.text.get(at) {
            if byte == quote {
                if self.text.get(at + 1) != Some(&quote) {
                    return at + 1;
                }
                at += 2;
            } else if byte == b'\\' && escapes == Backslashes::Escape {
                // One byte is skipped, not one character.
                at += 2;
            } else if byte >= 0x80 {
                at += self.width(at);
            } else {
                at += 1;
            }
        }
        self.text.len()
    }

    /// Skips to behind the end of the line. A NUL ends it too.
    fn skip_line(&mut self) {
        let rest = &self.text[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n' || byte == 0);
        self.at += end.unwrap_or(rest.len());
    }

    /// Skips a comment from behind its beginning, with so many comments within comments.
    fn skip_comment(&mut self, nested: u8) {
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'*', Some(b'/')) => {
                    self.at += 2;
                    return;
                }
                (b'/', Some(b'*')) if nested > 0 => {
                    self.at += 2;
                    self.skip_comment(nested - 1);
                }
                _ => self.at += 1,
            }
        }
    }

    /// A comment begins: it is skipped, or its beginning only when the server runs it.
    fn comment(&mut self) {
        self.at += 2;
        let maria = self.peek(0) == Some(b'M') && self.peek(1) == Some(b'!');
        if !maria && self.peek(0) != Some(b'!') {
            return self.skip_comment(0);
        }
        if maria {
            match self.mode.server {
                Server::MySql(_) => return self.skip_comment(0),
                Server::Unknown => self.doubt = Doubt::Some,
                Server::MariaDb(_) => {}
            }
        }
        self.at += if maria { 2 } else { 1 };
        let digits = self.text[self.at..].iter().take(6).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < 5 {
            self.inside = true;
            return;
        }
        let number = |digits: usize| {
            self.text[self.at..self.at + digits].iter().fold(0, |sum, byte| sum * 10 + u32::from(byte - b'0'))
        };
        let runs = match self.mode.server {
            Server::MySql(server) => {
                if digits == 6 {
                    // Five or six digits are read, as the server's version has it.
                    self.doubt = Doubt::Some;
                }
                number(5) <= server
            }
            // Versions of MySQL's that MariaDB does not follow.
            Server::MariaDb(_) if !maria && matches!(number(digits), 50_700..=99_999) => false,
            Server::MariaDb(server) => number(digits) <= server,
            Server::Unknown => {
                if digits == 6 || number(5) > 50_500 {
                    self.doubt = Doubt::Some;
                }
                true
            }
        };
        if runs {
            self.inside = true;
            let five_only = matches!(self.mode.server, Server::MySql(_));
            self.at += if five_only { 5 } else { digits };
        } else {
            self.skip_comment(1);
        }
    }

    /// The end of the number that begins at `at`; `None` when it is a name that begins with digits.
    fn number_end(&self, at: usize) -> Option<usize> {
        let digits = |mut at: usize| {
            while self.text.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let exponent = |at: usize| -> Option<usize> {
            if !matches!(self.text.get(at), Some(b'e' | b'E')) {
                return None;
            }
            let from = at + 1 + usize::from(matches!(self.text.get(at + 1), Some(b'+' | b'-')));
            let end = digits(from);
            (end > from).then_some(end)
        };
        let end = digits(at);
        match self.text.get(end) {
            Some(b'.') => {
                let end = digits(end + 1);
                Some(exponent(end).unwrap_or(end))
            }
            Some(&byte) if is_word(byte) => exponent(end),
            _ => Some(end),
        }
    }

    fn variable(&mut self) -> (Token, usize) {
        let start = self.at + 1;
        if self.text.get(start) != Some(&b'@') {
            return (Token::Variable, self.variable_end(start));
        }
        let mut end = self.variable_end(start + 1);
        // @@`global`.`a`
        while self.text.get(end - 1) == Some(&b'`') && self.text.get(end) == Some(&b'.')
            || self.text.get(end - 1) == Some(&b'.') && self.text.get(end) == Some(&b'`')
        {
            end = self.variable_end(end);
        }
        (Token::System, end)
    }

    fn variable_end(&mut self, mut at: usize) -> usize {
        match self.text.get(at) {
            Some(&quote @ (b'\'' | b'"')) => {
                let escapes = if quote == b'"' && self.mode.quotes == DoubleQuotes::Name {
                    Backslashes::Plain
                } else {
                    self.mode.backslashes
                };
                return self.quoted_end(at + 1, quote, escapes);
            }
            Some(b'`') => return self.quoted_end(at + 1, b'`', Backslashes::Plain),
            _ => {}
        }
        while self.text.get(at).is_some_and(|&byte| is_word(byte) || byte == b'.') {
            if self.text[at] == b'.' {
                at += 1;
            } else {
                at = match self.word_end(at) {
                    end if end > at => end,
                    _ => return at,
                };
            }
        }
        at
    }

    /// The token that begins here with `byte`.
    fn token(&mut self, byte: u8) -> (Token, usize) {
        let at = self.at;
        if std::mem::take(&mut self.after_dot) {
            return (Token::Name, self.word_end(at).max(at + 1));
        }
        match byte {
            b'\'' => (Token::Text, self.quoted_end(at + 1, b'\'', self.mode.backslashes)),
            b'"' if self.mode.quotes == DoubleQuotes::String => {
                (Token::Text, self.quoted_end(at + 1, b'"', self.mode.backslashes))
            }
            b'"' | b'`' => (Token::Quoted, self.quoted_end(at + 1, byte, Backslashes::Plain)),
            b'@' => self.variable(),
            b'0'..=b'9' => match self.number_end(at) {
                Some(end) => (Token::Number, end),
                None => (Token::Word, self.word_end(at)),
            },
            b'.' => {
                let follows = self.text.get(at + 1).is_some_and(|&byte| is_word(byte));
                let digit = self.text.get(at + 1).is_some_and(u8::is_ascii_digit);
                if digit && self.name_end != Some(at) {
                    return (Token::Number, self.number_end(at).unwrap_or(at + 1));
                }
                self.after_dot = follows;
                (Token::Mark(b'.'), at + 1)
            }
            _ if is_word(byte) => {
                let end = self.word_end(at);
                if byte == b'$' && self.text[at + 1..end].contains(&b'$') {
                    // To newer servers of MySQL, the beginning of a quoted text.
                    self.doubt = Doubt::Some;
                }
                let qualifies = self.text.get(end) == Some(&b'.')
                    && self.text.get(end + 1).is_some_and(|&byte| is_word(byte));
                (if qualifies { Token::Name } else { Token::Word }, end)
            }
            _ => (Token::Mark(byte), at + 1),
        }
    }
}

impl Iterator for Lexer<'_> {
    type Item = Lexeme;

    fn next(&mut self) -> Option<Lexeme> {
        loop {
            let byte = self.peek(0)?;
            let next = self.peek(1);
            match byte {
                _ if is_blank(byte) => self.at += 1,
                0xA0 if self.mode.charset == Charset::Latin1 => self.at += 1,
                b'#' => self.skip_line(),
                b'-' if next == Some(b'-')
                    && self.peek(2).is_none_or(|byte| byte <= b' ' || byte == 0x7F) =>
                {
                    self.skip_line();
                }
                b'/' if next == Some(b'*') => self.comment(),
                b'*' if next == Some(b'/') && self.inside => {
                    self.at += 2;
                    self.inside = false;
                }
                _ => {
                    let start = self.at;
                    let (token, end) = self.token(byte);
                    let end = end.min(self.text.len());
                    self.at = end;
                    self.name_end = matches!(token, Token::Word | Token::Name).then_some(end);
                    return Some(Lexeme { token, start, end });
                }
            }
            // A blank or a comment stands between the dot and what follows.
            self.after_dot = false;
        }
    }
}

#[cfg(test)]
#[path = "lex_tests.rs"]
pub(crate) mod tests;
