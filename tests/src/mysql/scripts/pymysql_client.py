# What an application with pymysql does: transactions, many rows at once, results of several kinds, an error on the way.
import sys

import pymysql

address, port, user, password, database, _, number, rounds = sys.argv[1:]
connection = pymysql.connect(
    host=address, port=int(port), user=user, password=password, database=database, charset="utf8mb4", autocommit=False
)
table = f"python_{number}"
with connection.cursor() as cursor:
    cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), data LONGBLOB)")
    for turn in range(int(rounds)):
        cursor.executemany(
            f"INSERT INTO {table} (name, data) VALUES (%s, %s)",
            [(f"größe {turn}.{row} \u4f60\u597d", bytes(range(256)) * row) for row in range(5)],
        )
        connection.commit()
        cursor.execute(f"SELECT id, name, data FROM {table} WHERE name LIKE %s", (f"%{turn}.%",))
        assert len(cursor.fetchall()) >= 5
        cursor.execute(f"UPDATE {table} SET name = CONCAT(name, '!') WHERE id %% 2 = %s", (turn % 2,))
        connection.rollback()
        try:
            cursor.execute("SELECT nothing FROM nowhere")
        except pymysql.err.ProgrammingError:
            pass
        connection.ping()
    # One that is longer than a TCP segment may be, by far.
    cursor.execute(f"INSERT INTO {table} (name, data) VALUES ('large', %s)", (b"\x00\xff" * 500_000,))
    connection.commit()
    unbuffered = connection.cursor(pymysql.cursors.SSCursor)
    unbuffered.execute(f"SELECT * FROM {table} ORDER BY id")
    assert sum(1 for _ in unbuffered) == 5 * int(rounds) + 1
    unbuffered.close()
connection.select_db(database)
connection.close()
