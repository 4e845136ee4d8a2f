// What an application with mysql2 does: text and prepared statements, transactions, another user's login on the same connection.
const mysql = require('mysql2/promise');

const [address, port, user, password, database, compression, number, rounds] = process.argv.slice(-8);
const table = `node_${number}`;

async function main() {
  const connection = await mysql.createConnection({
    host: address, port: Number(port), user, password, database,
    compress: compression === 'on', multipleStatements: true,
  });
  await connection.query(`CREATE TABLE ${table} (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), data TEXT, at DATETIME)`);
  const at = new Date(Date.UTC(2020, 1, 2, 3, 4, 5));
  for (let turn = 0; turn < Number(rounds); turn++) {
    const row = [`turn ${turn}`, JSON.stringify({ turn, list: [1, 2, 3] }), at];
    await connection.execute(`INSERT INTO ${table} (name, data, at) VALUES (?, ?, ?)`, row);
    await connection.beginTransaction();
    await connection.execute(`UPDATE ${table} SET name = ? WHERE id = ?`, [`changed ${turn}`, 1 + turn]);
    await (turn % 2 ? connection.commit() : connection.rollback());
    await connection.execute(`SELECT id, name, data, at FROM ${table} WHERE id > ? ORDER BY id`, [0]);
    await connection.query('SELECT 1; SELECT 2, 3; DO 4');
    await connection.ping();
    // The driver takes a text that it has seen for the statement that it closed.
    const passing = await connection.prepare(`SELECT COUNT(*), ${turn} FROM ${table} WHERE id <> ?`);
    await passing.execute([turn]);
    await passing.execute([null]);
    await passing.close();
  }
  await connection.changeUser({ user, password, database });
  await connection.query(`INSERT INTO ${table} (name) VALUES ('after the second login')`);
  await connection.execute(`SELECT COUNT(*) FROM ${table} WHERE id > ?`, [0]);
  await connection.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
