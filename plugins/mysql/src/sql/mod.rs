//! The lexical side of SQL.
