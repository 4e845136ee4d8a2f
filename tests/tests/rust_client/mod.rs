//! The driver that Rust programs use, as a client of the lab.

use anyhow::{Context, Result, ensure};
use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, TxOpts, params};
use tcpcopy_lab::host::RunningHost;
use tcpcopy_lab::mysql::server::DATABASE;
use tcpcopy_lab::mysql::{Compression, Login, MYSQL, Work};

/// Connects from a host's thread.
pub(crate) fn connect(login: &Login, compression: Compression) -> Result<Conn> {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some(&login.address))
        .tcp_port(MYSQL)
        .user(Some(&login.user))
        .pass(Some(&login.password))
        .db_name(Some(DATABASE))
        .prefer_socket(false)
        .compress((compression != Compression::Off).then(mysql::Compression::fast));
    Conn::new(options).with_context(|| format!("the Rust client at {}", login.address))
}

/// Does a client's work: text and prepared statements, transactions, statements prepared again and again, long data.
pub(crate) fn run(host: &RunningHost, login: &Login, compression: Compression, work: Work) -> Result<()> {
    let login = login.clone();
    host.run(move || work_on(&mut connect(&login, compression)?, work))
}

fn work_on(connection: &mut Conn, work: Work) -> Result<()> {
    let table = format!("rust_{}", work.id);
    connection
        .query_drop(format!("CREATE TABLE {table} (id INT PRIMARY KEY, name VARCHAR(60), data LONGBLOB)"))?;
    let insert = connection.prep(format!("INSERT INTO {table} VALUES (?, ?, ?)"))?;
    for round in 0..work.rounds {
        connection.exec_drop(&insert, (round, format!("name {round}"), vec![round as u8; 100]))?;
        // Named parameters, and a statement of which the driver keeps no more than some.
        let sql = format!("SELECT id, name, {round} FROM {table} WHERE id >= :from ORDER BY id");
        let rows: Vec<(u32, String, u32)> = connection.exec(sql, params! { "from" => 0 })?;
        ensure!(rows.len() == round as usize + 1, "{} rows", rows.len());
        let mut transaction = connection.start_transaction(TxOpts::default())?;
        transaction.exec_drop(format!("UPDATE {table} SET name = ? WHERE id = ?"), ("changed", round))?;
        if round % 2 == 0 {
            transaction.commit()?
        } else {
            transaction.rollback()?
        }
        connection.query_drop("SELECT 1; SELECT 2")?;
        connection.ping()?;
    }
    // Too long for one command: the driver sends it ahead of the statement.
    let long = vec![b'l'; 3_000_000];
    connection.exec_drop(&insert, (work.rounds, "long", &long))?;
    let length: Option<u64> =
        connection.exec_first(format!("SELECT LENGTH(data) FROM {table} WHERE name = ?"), ("long",))?;
    ensure!(length == Some(3_000_000), "the long row has {length:?} bytes");
    connection.reset()?;
    connection.exec_drop(format!("DELETE FROM {table} WHERE id = ?"), (0,))?;
    Ok(())
}
