//! The numbers of commands, and how they are answered.

use crate::results::Form;

/// The client says farewell.
pub const QUIT: u8 = 0x01;
/// It selects a database.
pub const INIT_DB: u8 = 0x02;
/// A text of statements.
pub const QUERY: u8 = 0x03;
/// The columns of a table are asked for.
pub const FIELD_LIST: u8 = 0x04;
/// A database is made.
pub const CREATE_DB: u8 = 0x05;
/// A database is dropped.
pub const DROP_DB: u8 = 0x06;
/// Caches, logs and the like are flushed.
pub const REFRESH: u8 = 0x07;
/// The server is to end.
pub const SHUTDOWN: u8 = 0x08;
/// A text about the server is asked for.
pub const STATISTICS: u8 = 0x09;
/// Connections are listed.
pub const PROCESS_INFO: u8 = 0x0a;
/// A connection is ended.
pub const PROCESS_KILL: u8 = 0x0c;
/// The server writes to its log.
pub const DEBUG: u8 = 0x0d;
/// Nothing but an answer is wanted.
pub const PING: u8 = 0x0e;
/// Another user takes the connection.
pub const CHANGE_USER: u8 = 0x11;
/// A replica reads the binary log.
pub const BINLOG_DUMP: u8 = 0x12;
/// A table is read.
pub const TABLE_DUMP: u8 = 0x13;
/// A replica says who it is.
pub const REGISTER_REPLICA: u8 = 0x15;
/// A statement is prepared.
pub const PREPARE: u8 = 0x16;
/// A prepared statement is executed.
pub const EXECUTE: u8 = 0x17;
/// Data of a parameter come ahead of an execution.
pub const LONG_DATA: u8 = 0x18;
/// A prepared statement is closed.
pub const CLOSE: u8 = 0x19;
/// A prepared statement is reset.
pub const RESET: u8 = 0x1a;
/// Several statements in a text are allowed, or not.
pub const SET_OPTION: u8 = 0x1b;
/// Rows are fetched from a cursor.
pub const FETCH: u8 = 0x1c;
/// A replica reads the binary log.
pub const BINLOG_DUMP_GTID: u8 = 0x1e;
/// The session begins anew.
pub const RESET_CONNECTION: u8 = 0x1f;
/// Another server clones this one.
pub const CLONE: u8 = 0x20;
/// MariaDB: a prepared statement is executed with many rows of parameters.
pub const BULK_EXECUTE: u8 = 0xfa;

/// Whether it runs statements.
pub const fn runs_statements(code: u8) -> bool {
    matches!(code, QUERY | EXECUTE | BULK_EXECUTE)
}

/// How a command is answered. One that is not known is refused, in a packet.
pub const fn form(command: u8) -> Form {
    match command {
        QUIT | LONG_DATA | CLOSE => Form::None,
        FIELD_LIST | FETCH => Form::Rows,
        STATISTICS => Form::Text,
        PREPARE => Form::Prepare,
        INIT_DB | CREATE_DB | DROP_DB | REFRESH | SHUTDOWN | PROCESS_KILL | DEBUG | PING | RESET
        | SET_OPTION | RESET_CONNECTION => Form::Simple,
        _ => Form::Results,
    }
}

/// Whether a command may choose a database.
pub const fn may_choose_database(command: u8) -> bool {
    matches!(command, INIT_DB | QUERY)
}

/// The least number of bytes that a command has behind its own; `None`: there is no such command.
pub const fn least(command: u8) -> Option<usize> {
    Some(match command {
        EXECUTE => 9,
        FETCH => 8,
        LONG_DATA => 6,
        CLOSE | RESET | PROCESS_KILL => 4,
        SET_OPTION => 2,
        QUERY | PREPARE | INIT_DB | FIELD_LIST | CREATE_DB | DROP_DB | CHANGE_USER | REFRESH => 1,
        BULK_EXECUTE => 6,
        QUIT | STATISTICS | PROCESS_INFO | DEBUG | PING | RESET_CONNECTION | SHUTDOWN => 0,
        BINLOG_DUMP | BINLOG_DUMP_GTID | TABLE_DUMP | REGISTER_REPLICA => 8,
        _ => return None,
    })
}

/// The greatest number of bytes that a command has behind its own.
pub const fn most(command: u8) -> usize {
    match command {
        QUIT | STATISTICS | PROCESS_INFO | DEBUG | PING | RESET_CONNECTION => 0,
        CLOSE | RESET | PROCESS_KILL => 4,
        FETCH => 8,
        SET_OPTION => 2,
        REFRESH | SHUTDOWN => 1,
        _ => usize::MAX,
    }
}
