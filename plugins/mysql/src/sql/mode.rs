//! What the meaning of a text depends on besides its bytes: the session's `sql_mode` and character set, and the server.
//!
//! Owns these words and how they are read from names, ids and version texts. Who knows them is [`crate::memory`].

/// What a backslash in a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Backslashes {
    /// The beginning of an escape.
    #[default]
    Escape,
    /// A backslash: `NO_BACKSLASH_ESCAPES`.
    Plain,
}

/// What stands between double quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum DoubleQuotes {
    /// A string.
    #[default]
    String,
    /// A name: `ANSI_QUOTES`.
    Name,
}

/// How much of a text there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Extent {
    /// All of it.
    #[default]
    Whole,
    /// Its beginning: what the rest does is not known.
    Beginning,
}

/// Character sets, as far as finding the end of a string depends on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Charset {
    /// Not known, as in a session joined mid-stream. Read as [`Charset::Wide`]; where others would read something else, the text
    /// is in doubt.
    #[default]
    Unknown,
    /// Characters of more than one byte have no byte below 0x80: UTF-8, ASCII, ujis, eucjpms, euckr, gb2312.
    Wide,
    /// latin1, where 0xA0 is a blank.
    Latin1,
    /// Another set of one byte a character. Which bytes are blanks is not known, so that a byte above 0x7F outside quotes is in doubt.
    Single,
    /// gbk.
    Gbk,
    /// gb18030.
    Gb18030,
    /// sjis and cp932.
    Sjis,
    /// big5.
    Big5,
}

impl Charset {
    /// The set that a server calls so, in any case: `utf8mb4`, `gbk`.
    pub fn named(name: &[u8]) -> Self {
        let is = |names: &[&str]| names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        if is(&["utf8mb4", "utf8mb3", "utf8", "ascii", "binary", "ujis", "eucjpms", "euckr", "gb2312"]) {
            Self::Wide
        } else if is(&["latin1"]) {
            Self::Latin1
        } else if is(&["gbk"]) {
            Self::Gbk
        } else if is(&["gb18030"]) {
            Self::Gb18030
        } else if is(&["sjis", "cp932"]) {
            Self::Sjis
        } else if is(&["big5"]) {
            Self::Big5
        } else if is(&[
            "armscii8", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8", "geostd8",
            "greek", "hebrew", "hp8", "keybcs2", "koi8r", "koi8u", "latin2", "latin5", "latin7", "macce",
            "macroman", "swe7", "tis620",
        ]) {
            Self::Single
        } else {
            Self::Unknown
        }
    }

    /// The set of a collation, by its number in a login.
    pub const fn of_collation(id: u16) -> Self {
        match id {
            1 | 84 => Self::Big5,
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => Self::Latin1,
            13 | 88 | 95 | 96 => Self::Sjis,
            28 | 87 => Self::Gbk,
            248..=250 => Self::Gb18030,
            // ujis, ascii, euckr, gb2312, utf8mb3, utf8mb4, binary, eucjpms; MariaDB's UCA 14 collations.
            11
            | 12
            | 19
            | 24
            | 33
            | 45
            | 46
            | 63
            | 65
            | 76
            | 83
            | 85
            | 86
            | 91
            | 97
            | 98
            | 192..=215
            | 223..=247
            | 255..=323
            | 576..=578
            | 608..=610
            | 2048..=2559 => Self::Wide,
            // MariaDB's collations without padding.
            1024..=1279 => Self::of_collation(id - 1024),
            0 | 35 | 54..=56 | 60..=62 | 90 | 101..=191 | 216..=222 | 251..=254 | 324.. => Self::Unknown,
            _ => Self::Single,
        }
    }
}

/// Which server runs a text, for comments that only some versions run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Server {
    /// Not known; at least as new as MySQL 5.5 or MariaDB 5.5.
    #[default]
    Unknown,
    /// MySQL of this version: 80403 for 8.4.3.
    MySql(u32),
    /// MariaDB of this version: 101106 for 10.11.6.
    MariaDb(u32),
}

impl Server {
    /// From the version in a greeting: `8.4.3`, `11.8.3-MariaDB-0+deb13u1`, `5.5.5-10.11.6-MariaDB`.
    pub fn from_version(text: &[u8]) -> Self {
        let maria = text.windows(7).any(|part| part.eq_ignore_ascii_case(b"mariadb"));
        // MariaDB 10 put a version that old replicas accept before its own.
        let text = if maria { text.strip_prefix(b"5.5.5-").unwrap_or(text) } else { text };
        let mut numbers = text.split(|&byte| byte == b'.').map(|part| {
            let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).take(4);
            digits.fold(None, |sum, byte| Some(sum.unwrap_or(0) * 10 + u32::from(byte - b'0')))
        });
        let mut next = || numbers.next().flatten();
        let (Some(major), Some(minor)) = (next(), next()) else { return Self::Unknown };
        let version = major * 10_000 + minor * 100 + next().unwrap_or(0);
        if maria { Self::MariaDb(version) } else { Self::MySql(version) }
    }
}

/// How a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Mode {
    /// What a backslash in a string is.
    pub backslashes: Backslashes,
    /// What stands between double quotes.
    pub quotes: DoubleQuotes,
    /// The client's character set.
    pub charset: Charset,
    /// Who runs it.
    pub server: Server,
    /// How much of it there is.
    pub extent: Extent,
}

impl Mode {
    /// The same, for the beginning of a text whose rest is not there.
    #[must_use]
    pub const fn beginning(mut self) -> Self {
        self.extent = Extent::Beginning;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_servers_give_them() {
        for (text, server) in [
            ("8.4.3", Server::MySql(80_403)),
            ("8.0.36-0ubuntu0.22.04.1", Server::MySql(80_036)),
            ("9.1.0-commercial", Server::MySql(90_100)),
            ("5.5.5-10.11.6-MariaDB-0+deb12u1", Server::MariaDb(101_106)),
            ("11.8.3-MariaDB", Server::MariaDb(110_803)),
            ("", Server::Unknown),
            ("x.y", Server::Unknown),
            ("99999999999.1.1", Server::MySql(99_990_101)),
        ] {
            assert_eq!(Server::from_version(text.as_bytes()), server, "{text}");
        }
    }

    #[test]
    fn collations_and_names_agree() {
        for (id, name) in [
            (8, "latin1"),
            (45, "utf8mb4"),
            (255, "UTF8MB4"),
            (33, "utf8"),
            (63, "binary"),
            (28, "gbk"),
            (87, "gbk"),
            (13, "sjis"),
            (95, "cp932"),
            (1, "big5"),
            (248, "gb18030"),
            (51, "cp1251"),
            (7, "koi8r"),
            (35, "ucs2"),
            (24, "gb2312"),
            (12, "ujis"),
            (97, "eucjpms"),
        ] {
            assert_eq!(Charset::of_collation(id), Charset::named(name.as_bytes()), "{name}");
        }
    }
}
