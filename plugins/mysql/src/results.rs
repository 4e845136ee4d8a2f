//! When an answer is complete.
//!
//! Owns following the packets of one command's answer: OK and error packets, results with and without the EOF packets that older
//! servers send, several results in a row, what answers a PREPARE, cursors, LOAD DATA LOCAL. Rows are not looked into.

use crate::capabilities::Features;
use crate::packet::{self, MOST, Message};
use mysql_common::constants::{SessionStateType, StatusFlags};
use plugin_sdk::cursor::{Cursor, Read, Stop};

/// How a command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With nothing.
    None,
    /// With one packet: OK, EOF or an error.
    Simple,
    /// With OK, an error, results, or the wish for a file.
    Results,
    /// With the statement's number and descriptions of its parameters and columns.
    Prepare,
    /// With rows up to their end.
    Rows,
    /// With one packet of text.
    Text,
}

/// What a server says against a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// Its number.
    pub code: u16,
    /// What it says, at most 512 bytes.
    pub text: Vec<u8>,
}

/// What answers a PREPARE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The statement's number.
    pub id: u32,
    /// How many columns its results have.
    pub columns: u16,
    /// How many parameters it has.
    pub parameters: u16,
}

/// What an answer said.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The error that it ended with.
    pub error: Option<ServerError>,
    /// The status that came last.
    pub status: Option<u16>,
    /// The database that the session is in now, if the server said so.
    pub database: Option<Vec<u8>>,
    /// Variables whose values changed, as far as the server said so.
    pub variables: Vec<(Vec<u8>, Vec<u8>)>,
    /// The statement that was prepared.
    pub prepared: Option<Prepared>,
}

/// How far an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More packets belong to it.
    More,
    /// It is complete.
    Done,
    /// The server wants a file from the client; what it says to that is another answer.
    File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    First,
    Columns(u64),
    ColumnsEnd,
    Rows,
    Parameters(u16, u16),
    ParametersEnd(u16),
    PreparedColumns(u16),
    PreparedEnd,
}

/// An answer that is coming.
#[derive(Debug)]
pub struct Answer {
    form: Form,
    at: At,
    /// What it said so far.
    pub outcome: Outcome,
}

impl Answer {
    /// An answer of this form, of which nothing has come.
    pub fn new(form: Form) -> Self {
        let at = if form == Form::Rows { At::Rows } else { At::First };
        Self { form, at, outcome: Outcome::default() }
    }

    /// Takes the next packet.
    ///
    /// # Errors
    /// When it is none that may come here.
    pub fn take(&mut self, message: &Message<'_>, features: Features) -> Read<Step> {
        let Some(first) = message.first() else { return Err(Stop::Invalid("an empty packet in an answer")) };
        // No description of a column and no row begins so.
        if first == 0xff {
            return self.error(message, features);
        }
        match self.at {
            At::First => self.first(message, first, features),
            At::Columns(left) => {
                self.at = match left {
                    0 | 1 if features.is_eof_deprecated => At::Rows,
                    0 | 1 => At::ColumnsEnd,
                    _ => At::Columns(left - 1),
                };
                Ok(Step::More)
            }
            At::ColumnsEnd => {
                let status = eof(message).ok_or(Stop::Invalid("no end behind the columns"))?;
                self.outcome.status = Some(status);
                if status & StatusFlags::SERVER_STATUS_CURSOR_EXISTS.bits() != 0 {
                    return Ok(self.end_of_result(status));
                }
                self.at = At::Rows;
                Ok(Step::More)
            }
            At::Rows if first == 0xfe && message.length < MOST as u64 => {
                if features.is_eof_deprecated && eof(message).is_none() {
                    return self.ok(message, features);
                }
                match eof(message) {
                    Some(status) => {
                        self.outcome.status = Some(status);
                        Ok(self.end_of_result(status))
                    }
                    // A row whose first value is very long.
                    None => Ok(Step::More),
                }
            }
            At::Rows => Ok(Step::More),
            At::Parameters(left, columns) => {
                self.at = match left {
                    0 | 1 if features.is_eof_deprecated => return Ok(self.prepared_columns(columns)),
                    0 | 1 => At::ParametersEnd(columns),
                    _ => At::Parameters(left - 1, columns),
                };
                Ok(Step::More)
            }
            At::ParametersEnd(columns) => {
                eof(message).ok_or(Stop::Invalid("no end behind the parameters"))?;
                Ok(self.prepared_columns(columns))
            }
            At::PreparedColumns(left) => {
                self.at = match left {
                    0 | 1 if features.is_eof_deprecated => return Ok(Step::Done),
                    0 | 1 => At::PreparedEnd,
                    _ => At::PreparedColumns(left - 1),
                };
                Ok(Step::More)
            }
            At::PreparedEnd => {
                eof(message).ok_or(Stop::Invalid("no end behind the columns"))?;
                Ok(Step::Done)
            }
        }
    }

    fn error(&mut self, message: &Message<'_>, features: Features) -> Read<Step> {
        let error = server_error(message.front)?;
        if error.code == 0xffff && features.has_progress {
            return Ok(Step::More);
        }
        self.outcome.error = Some(error);
        Ok(Step::Done)
    }

    fn first(&mut self, message: &Message<'_>, first: u8, features: Features) -> Read<Step> {
        match self.form {
            Form::None => Err(Stop::Invalid("an answer to what has none")),
            Form::Text => Ok(Step::Done),
            Form::Simple => self.simple(message, features),
            Form::Prepare => {
                let mut cursor = Cursor::new(message.front);
                if cursor.u8()? != 0 {
                    return Err(Stop::Invalid("no answer to a PREPARE"));
                }
                let (id, columns, parameters) = (cursor.u32_le()?, cursor.u16_le()?, cursor.u16_le()?);
                self.outcome.prepared = Some(Prepared { id, columns, parameters });
                // One reserved byte, the number of warnings, then whether descriptions follow.
                let described = message.front.get(12).copied();
                if features.has_optional_metadata && described == Some(0) {
                    return Ok(Step::Done);
                }
                if parameters > 0 {
                    self.at = At::Parameters(parameters, columns);
                    return Ok(Step::More);
                }
                Ok(self.prepared_columns(columns))
            }
            Form::Results | Form::Rows => match first {
                0 if !(features.has_optional_metadata && message.length < 7) => self.ok(message, features),
                0xfb => Ok(Step::File),
                0xfe if message.length < 9 => self.simple(message, features),
                _ => self.columns(message, features),
            },
        }
    }

    fn simple(&mut self, message: &Message<'_>, features: Features) -> Read<Step> {
        if let Some(status) = eof(message) {
            self.outcome.status = Some(status);
            return Ok(Step::Done);
        }
        match message.first() {
            Some(0 | 0xfe) => self.ok(message, features),
            _ => Err(Stop::Invalid("neither OK nor an error")),
        }
    }

    /// How many columns a result has.
    fn columns(&mut self, message: &Message<'_>, features: Features) -> Read<Step> {
        let mut cursor = Cursor::new(message.front);
        let mut described = true;
        if features.has_optional_metadata {
            described = cursor.u8()? != 0;
        }
        let columns = packet::length_encoded(&mut cursor)?;
        if features.caches_metadata
            && let Ok(flag) = cursor.u8()
        {
            described = flag != 0;
        }
        if columns == 0 {
            return Err(Stop::Invalid("a result without columns"));
        }
        self.at = match (described, features.is_eof_deprecated) {
            (true, _) => At::Columns(columns),
            (false, true) => At::Rows,
            (false, false) => At::ColumnsEnd,
        };
        Ok(Step::More)
    }

    fn prepared_columns(&mut self, columns: u16) -> Step {
        if columns == 0 {
            return Step::Done;
        }
        self.at = At::PreparedColumns(columns);
        Step::More
    }

    fn ok(&mut self, message: &Message<'_>, features: Features) -> Read<Step> {
        let ok = Accepted::read(message.front, features)?;
        self.outcome.status = Some(ok.status);
        if ok.database.is_some() {
            self.outcome.database = ok.database;
        }
        self.outcome.variables = ok.variables;
        Ok(self.end_of_result(ok.status))
    }

    fn end_of_result(&mut self, status: u16) -> Step {
        if status & StatusFlags::SERVER_MORE_RESULTS_EXISTS.bits() != 0 && self.form == Form::Results {
            self.at = At::First;
            return Step::More;
        }
        Step::Done
    }
}

/// The status in an EOF packet, if it is one.
fn eof(message: &Message<'_>) -> Option<u16> {
    match *message.front {
        [0xfe, _, _, low, high] if message.is_whole() => Some(u16::from_le_bytes([low, high])),
        _ => None,
    }
}

/// What an error packet says.
///
/// # Errors
/// When it is cut.
pub fn server_error(packet: &[u8]) -> Read<ServerError> {
    let mut cursor = Cursor::new(packet);
    cursor.u8()?;
    let code = cursor.u16_le()?;
    let mut text = cursor.rest();
    // Before the login the text follows at once.
    if let [b'#', _, _, _, _, _, rest @ ..] = text {
        text = rest;
    }
    Ok(ServerError { code, text: text[..text.len().min(512)].to_vec() })
}

/// What an OK packet says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Accepted {
    /// The server's status.
    pub status: u16,
    /// The database that the session is in now, if it changed.
    pub database: Option<Vec<u8>>,
    /// Variables whose values changed.
    pub variables: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Accepted {
    /// Reads it.
    ///
    /// # Errors
    /// When it is cut.
    pub fn read(packet: &[u8], features: Features) -> Read<Self> {
        let mut cursor = Cursor::new(packet);
        cursor.u8()?;
        packet::length_encoded(&mut cursor)?;
        packet::length_encoded(&mut cursor)?;
        let mut ok = Self { status: cursor.u16_le()?, ..Self::default() };
        cursor.u16_le()?;
        if features.tracks_session && ok.status & StatusFlags::SERVER_SESSION_STATE_CHANGED.bits() != 0 {
            // More than is kept of a packet may be said: what is cut is not known then.
            let _ = ok.track(&mut cursor);
        }
        Ok(ok)
    }

    /// Changes of the session.
    fn track(&mut self, cursor: &mut Cursor<'_>) -> Read<()> {
        const VARIABLES: u8 = SessionStateType::SESSION_TRACK_SYSTEM_VARIABLES as u8;
        const DATABASE: u8 = SessionStateType::SESSION_TRACK_SCHEMA as u8;
        packet::length_encoded_bytes(cursor)?;
        let mut changes = Cursor::new(packet::length_encoded_bytes(cursor)?);
        while !changes.is_empty() {
            let kind = changes.u8()?;
            let mut change = Cursor::new(packet::length_encoded_bytes(&mut changes)?);
            match kind {
                VARIABLES => {
                    // MariaDB tells several in one.
                    while !change.is_empty() {
                        let name = packet::length_encoded_bytes(&mut change)?.to_vec();
                        let value = packet::length_encoded_bytes(&mut change)?.to_vec();
                        self.variables.push((name, value));
                    }
                }
                DATABASE => self.database = Some(packet::length_encoded_bytes(&mut change)?.to_vec()),
                _ => {}
            }
        }
        Ok(())
    }
}
