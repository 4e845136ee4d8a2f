//! What the servers' own functions do.
//!
//! Owns the lists. A function that is in none of them may be one that users made, and do anything.

use super::kind::Effect;
use super::mode::Server;

/// Functions that MySQL 8.0 and MariaDB 10.6 have in common, and words that can stand before a parenthesis, without an effect
/// outside the session. Sorted.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "ABS", "ACOS", "ADDDATE", "ADDTIME", "AES_DECRYPT", "AES_ENCRYPT", "ALL", "ANALYZE", "AND", "ANY", "AS",
    "ASCII", "ASIN", "ATAN", "ATAN2", "AVG", "BENCHMARK", "BETWEEN", "BIGINT", "BIN", "BINARY", "BIT",
    "BIT_AND", "BIT_COUNT", "BIT_LENGTH", "BIT_OR", "BIT_XOR", "BLOB", "BOTH", "BY", "CASE", "CAST", "CEIL",
    "CEILING", "CHAR", "CHARACTER_LENGTH", "CHARSET", "CHAR_LENGTH", "COALESCE", "COERCIBILITY",
    "COLLATION", "COMPRESS", "CONCAT", "CONCAT_WS", "CONNECTION_ID", "CONV", "CONVERT", "CONVERT_TZ", "COS",
    "COT", "COUNT", "CRC32", "CUME_DIST", "CURDATE", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_USER", "CURTIME", "DATABASE", "DATE", "DATEDIFF", "DATETIME", "DATE_ADD", "DATE_FORMAT",
    "DATE_SUB", "DAY", "DAYNAME", "DAYOFMONTH", "DAYOFWEEK", "DAYOFYEAR", "DEC", "DECIMAL", "DEGREES",
    "DENSE_RANK", "DESC", "DESCRIBE", "DISTINCT", "DISTINCTROW", "DIV", "DO", "DOUBLE", "ELSE", "ELT",
    "EXCEPT", "EXISTS", "EXP", "EXPLAIN", "EXPORT_SET", "EXTRACT", "EXTRACTVALUE", "FIELD", "FIND_IN_SET",
    "FIRST_VALUE", "FLOAT", "FLOOR", "FORMAT", "FOUND_ROWS", "FROM", "FROM_BASE64", "FROM_DAYS",
    "FROM_UNIXTIME", "GEOMETRYCOLLECTION", "GET_FORMAT", "GREATEST", "GROUP", "GROUP_CONCAT", "HAVING",
    "HEX", "HIGH_PRIORITY", "HOUR", "IF", "IFNULL", "IN", "INDEX", "INET6_ATON", "INET6_NTOA", "INET_ATON",
    "INET_NTOA", "INSERT", "INSTR", "INT", "INTEGER", "INTERSECT", "INTERVAL", "ISNULL", "IS_FREE_LOCK",
    "IS_IPV4", "IS_IPV4_COMPAT", "IS_IPV4_MAPPED", "IS_IPV6", "IS_USED_LOCK", "JOIN", "JSON_ARRAY",
    "JSON_ARRAYAGG", "JSON_ARRAY_APPEND", "JSON_ARRAY_INSERT", "JSON_CONTAINS", "JSON_CONTAINS_PATH",
    "JSON_DEPTH", "JSON_EXTRACT", "JSON_INSERT", "JSON_KEYS", "JSON_LENGTH", "JSON_MERGE_PATCH",
    "JSON_MERGE_PRESERVE", "JSON_OBJECT", "JSON_OBJECTAGG", "JSON_OVERLAPS", "JSON_PRETTY", "JSON_QUOTE",
    "JSON_REMOVE", "JSON_REPLACE", "JSON_SEARCH", "JSON_SET", "JSON_TABLE", "JSON_TYPE", "JSON_UNQUOTE",
    "JSON_VALID", "JSON_VALUE", "KEY", "LAG", "LAST_DAY", "LAST_VALUE", "LCASE", "LEAD", "LEADING", "LEAST",
    "LEFT", "LENGTH", "LIKE", "LIMIT", "LINESTRING", "LN", "LOAD_FILE", "LOCALTIME", "LOCALTIMESTAMP",
    "LOCATE", "LOG", "LOG10", "LOG2", "LOWER", "LPAD", "LTRIM", "MAKEDATE", "MAKETIME", "MAKE_SET", "MATCH",
    "MAX", "MBRCONTAINS", "MBRDISJOINT", "MBREQUALS", "MBRINTERSECTS", "MBROVERLAPS", "MBRTOUCHES",
    "MBRWITHIN", "MEDIUMINT", "MICROSECOND", "MID", "MIN", "MINUTE", "MOD", "MONTH", "MONTHNAME",
    "MULTILINESTRING", "MULTIPOINT", "MULTIPOLYGON", "NAME_CONST", "NCHAR", "NOT", "NOW", "NTH_VALUE",
    "NTILE", "NULLIF", "NUMERIC", "OCT", "OCTET_LENGTH", "OFFSET", "ON", "OR", "ORD", "OVER", "PARTITION",
    "PERCENT_RANK", "PERIOD_ADD", "PERIOD_DIFF", "PI", "POINT", "POLYGON", "POSITION", "POW", "POWER",
    "QUARTER", "QUOTE", "RADIANS", "RAND", "RANDOM_BYTES", "RANK", "REAL", "RECURSIVE", "REGEXP",
    "REGEXP_INSTR", "REGEXP_REPLACE", "REGEXP_SUBSTR", "REPEAT", "REPLACE", "REVERSE", "RIGHT", "RLIKE",
    "ROUND", "ROW", "ROW_COUNT", "ROW_NUMBER", "RPAD", "RTRIM", "SCHEMA", "SECOND", "SEC_TO_TIME", "SELECT",
    "SEPARATOR", "SESSION_USER", "SHA2", "SIGN", "SIN", "SLEEP", "SMALLINT", "SOME", "SOUNDEX", "SPACE",
    "SQL_BIG_RESULT", "SQL_BUFFER_RESULT", "SQL_CALC_FOUND_ROWS", "SQL_NO_CACHE", "SQL_SMALL_RESULT",
    "SQRT", "STD", "STDDEV", "STDDEV_POP", "STDDEV_SAMP", "STRAIGHT_JOIN", "STRCMP", "STR_TO_DATE",
    "ST_AREA", "ST_ASBINARY", "ST_ASGEOJSON", "ST_ASTEXT", "ST_ASWKB", "ST_ASWKT", "ST_BUFFER",
    "ST_CENTROID", "ST_CONTAINS", "ST_CONVEXHULL", "ST_CROSSES", "ST_DIFFERENCE", "ST_DIMENSION",
    "ST_DISJOINT", "ST_DISTANCE", "ST_ENDPOINT", "ST_ENVELOPE", "ST_EQUALS", "ST_EXTERIORRING",
    "ST_GEOMCOLLFROMTEXT", "ST_GEOMCOLLFROMWKB", "ST_GEOMETRYCOLLECTIONFROMTEXT",
    "ST_GEOMETRYCOLLECTIONFROMWKB", "ST_GEOMETRYFROMTEXT", "ST_GEOMETRYFROMWKB", "ST_GEOMETRYN",
    "ST_GEOMETRYTYPE", "ST_GEOMFROMGEOJSON", "ST_GEOMFROMTEXT", "ST_GEOMFROMWKB", "ST_INTERSECTION",
    "ST_INTERSECTS", "ST_ISCLOSED", "ST_ISEMPTY", "ST_ISSIMPLE", "ST_LENGTH", "ST_LINEFROMTEXT",
    "ST_LINEFROMWKB", "ST_LINESTRINGFROMTEXT", "ST_LINESTRINGFROMWKB", "ST_MLINEFROMTEXT",
    "ST_MLINEFROMWKB", "ST_MPOINTFROMTEXT", "ST_MPOINTFROMWKB", "ST_MPOLYFROMTEXT", "ST_MPOLYFROMWKB",
    "ST_MULTILINESTRINGFROMTEXT", "ST_MULTILINESTRINGFROMWKB", "ST_MULTIPOINTFROMTEXT",
    "ST_MULTIPOINTFROMWKB", "ST_MULTIPOLYGONFROMTEXT", "ST_MULTIPOLYGONFROMWKB", "ST_NUMGEOMETRIES",
    "ST_NUMINTERIORRINGS", "ST_NUMPOINTS", "ST_OVERLAPS", "ST_POINTFROMTEXT", "ST_POINTFROMWKB",
    "ST_POINTN", "ST_POLYFROMTEXT", "ST_POLYFROMWKB", "ST_POLYGONFROMTEXT", "ST_POLYGONFROMWKB", "ST_SRID",
    "ST_STARTPOINT", "ST_SYMDIFFERENCE", "ST_TOUCHES", "ST_UNION", "ST_WITHIN", "ST_X", "ST_Y", "SUBDATE",
    "SUBSTR", "SUBSTRING", "SUBSTRING_INDEX", "SUBTIME", "SUM", "SYSDATE", "SYSTEM_USER", "TAN", "TEXT",
    "THEN", "TIME", "TIMEDIFF", "TIMESTAMP", "TIMESTAMPADD", "TIMESTAMPDIFF", "TIME_FORMAT", "TIME_TO_SEC",
    "TINYINT", "TO_BASE64", "TO_DAYS", "TO_SECONDS", "TRAILING", "TRIM", "TRUNCATE", "UCASE", "UNCOMPRESS",
    "UNCOMPRESSED_LENGTH", "UNHEX", "UNION", "UNIX_TIMESTAMP", "UNSIGNED", "UPDATEXML", "UPPER", "USER",
    "USING", "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP", "UUID", "UUID_SHORT", "VALUE", "VALUES", "VARBINARY",
    "VARCHAR", "VARIANCE", "VAR_POP", "VAR_SAMP", "VERSION", "WEEK", "WEEKDAY", "WEEKOFYEAR",
    "WEIGHT_STRING", "WHEN", "WHERE", "XOR", "YEAR", "YEARWEEK",
];

/// The same, of MariaDB only. Sorted.
#[rustfmt::skip]
const MARIADB: &[&str] = &[
    "ADD_MONTHS", "BINLOG_GTID_POS", "CHR", "COLUMN_ADD", "COLUMN_CHECK", "COLUMN_CREATE", "COLUMN_DELETE",
    "COLUMN_EXISTS", "COLUMN_GET", "COLUMN_JSON", "COLUMN_LIST", "CONCAT_OPERATOR_ORACLE", "CRC32C",
    "CURRENT_ROLE", "DECODE_HISTOGRAM", "DECODE_ORACLE", "JSON_COMPACT", "JSON_DETAILED", "JSON_EQUALS",
    "JSON_EXISTS", "JSON_LOOSE", "JSON_NORMALIZE", "JSON_QUERY", "LASTVAL", "LENGTHB", "LPAD_ORACLE",
    "LTRIM_ORACLE", "MASTER_GTID_WAIT", "MEDIAN", "NATURAL_SORT_KEY", "NVL", "NVL2", "PERCENTILE_CONT",
    "PERCENTILE_DISC", "REPLACE_ORACLE", "ROWNUM", "RPAD_ORACLE", "RTRIM_ORACLE", "SCHEMAS", "SFORMAT",
    "ST_BOUNDARY", "ST_DISTANCE_SPHERE", "ST_INTERIORRINGN", "ST_ISRING", "ST_POINTONSURFACE", "ST_RELATE",
    "SUBSTR_ORACLE", "SYS_GUID", "TO_CHAR", "TRIM_ORACLE", "WSREP_LAST_SEEN_GTID",
    "WSREP_LAST_WRITTEN_GTID",
];

/// The same, of MariaDB 11.8 and later. Sorted.
#[rustfmt::skip]
const MARIADB_11_8: &[&str] = &[
    "JSON_ARRAY_INTERSECT", "JSON_KEY_VALUE", "JSON_OBJECT_FILTER_KEYS", "JSON_OBJECT_TO_ARRAY",
    "JSON_SCHEMA_VALID", "KDF", "UUID_V4", "UUID_V7", "VEC_DISTANCE", "VEC_DISTANCE_COSINE",
    "VEC_DISTANCE_EUCLIDEAN", "VEC_FROMTEXT", "VEC_TOTEXT",
];

/// The same, of MariaDB, and of MySQL before 9.6: newer ones do not have them. Sorted.
#[rustfmt::skip]
const DIGESTS: &[&str] = &[
    "MD5", "SHA", "SHA1",
];

/// The same, of MySQL only. Sorted.
#[rustfmt::skip]
const MYSQL: &[&str] = &[
    "ANY_VALUE", "BIN_TO_UUID", "CURRENT_ROLE", "ESCAPE", "FORMAT_BYTES", "FORMAT_PICO_TIME", "FROM_VECTOR",
    "GEOMCOLLECTION", "GROUPING", "GTID_SUBSET", "GTID_SUBTRACT", "ICU_VERSION", "IS_UUID", "JSON_MERGE",
    "JSON_SCHEMA_VALID", "JSON_SCHEMA_VALIDATION_REPORT", "JSON_STORAGE_FREE", "JSON_STORAGE_SIZE",
    "LATERAL", "MASTER_POS_WAIT", "MBRCOVEREDBY", "MBRCOVERS", "PS_CURRENT_THREAD_ID", "PS_THREAD_ID",
    "REGEXP_LIKE", "ROLES_GRAPHML", "SOURCE_POS_WAIT", "STATEMENT_DIGEST", "STATEMENT_DIGEST_TEXT",
    "STRING_TO_VECTOR", "ST_BUFFER_STRATEGY", "ST_COLLECT", "ST_DISTANCE_SPHERE", "ST_FRECHETDISTANCE",
    "ST_GEOHASH", "ST_GEOMCOLLFROMTXT", "ST_HAUSDORFFDISTANCE", "ST_INTERIORRINGN", "ST_ISVALID",
    "ST_LATFROMGEOHASH", "ST_LATITUDE", "ST_LINEINTERPOLATEPOINT", "ST_LINEINTERPOLATEPOINTS",
    "ST_LONGFROMGEOHASH", "ST_LONGITUDE", "ST_MAKEENVELOPE", "ST_NUMINTERIORRING", "ST_POINTATDISTANCE",
    "ST_POINTFROMGEOHASH", "ST_SIMPLIFY", "ST_SWAPXY", "ST_TRANSFORM", "ST_VALIDATE", "UUID_TO_BIN",
    "VALIDATE_PASSWORD_STRENGTH", "VECTOR_DIM", "VECTOR_TO_STRING", "WAIT_FOR_EXECUTED_GTID_SET",
];

/// The same, of MariaDB, and of MySQL before 8.0: names that users may have given to functions of their own since. Sorted.
#[rustfmt::skip]
const LEGACY: &[&str] = &[
    "AREA", "ASBINARY", "ASTEXT", "ASWKB", "ASWKT", "BOUNDARY", "BUFFER", "CENTROID", "CONTAINS",
    "CONVEXHULL", "CROSSES", "DECODE", "DES_DECRYPT", "DES_ENCRYPT", "DIMENSION", "DISJOINT", "ENCODE",
    "ENCRYPT", "ENDPOINT", "ENVELOPE", "EQUALS", "EXTERIORRING", "GEOMCOLLFROMTEXT", "GEOMCOLLFROMWKB",
    "GEOMETRYCOLLECTIONFROMTEXT", "GEOMETRYCOLLECTIONFROMWKB", "GEOMETRYFROMTEXT", "GEOMETRYFROMWKB",
    "GEOMETRYN", "GEOMETRYTYPE", "GEOMFROMTEXT", "GEOMFROMWKB", "GLENGTH", "INTERIORRINGN", "INTERSECTS",
    "ISCLOSED", "ISEMPTY", "ISRING", "ISSIMPLE", "JSON_MERGE", "LINEFROMTEXT", "LINEFROMWKB",
    "LINESTRINGFROMTEXT", "LINESTRINGFROMWKB", "MASTER_POS_WAIT", "MBREQUAL", "MLINEFROMTEXT",
    "MLINEFROMWKB", "MPOINTFROMTEXT", "MPOINTFROMWKB", "MPOLYFROMTEXT", "MPOLYFROMWKB",
    "MULTILINESTRINGFROMTEXT", "MULTILINESTRINGFROMWKB", "MULTIPOINTFROMTEXT", "MULTIPOINTFROMWKB",
    "MULTIPOLYGONFROMTEXT", "MULTIPOLYGONFROMWKB", "NUMGEOMETRIES", "NUMINTERIORRINGS", "NUMPOINTS",
    "OLD_PASSWORD", "OVERLAPS", "PASSWORD", "POINTFROMTEXT", "POINTFROMWKB", "POINTN", "POINTONSURFACE",
    "POLYFROMTEXT", "POLYFROMWKB", "POLYGONFROMTEXT", "POLYGONFROMWKB", "SRID", "STARTPOINT", "TOUCHES",
    "WITHIN", "X", "Y",
];

/// More than the longest of their names.
const LONGEST: usize = 32;

/// What calling the function does, and `None` when the server has none of that name. The name is without quotes and a database's
/// name.
pub fn effect(name: &[u8], server: Server) -> Option<Effect> {
    let mut upper = [0; LONGEST];
    let upper = upper.get_mut(..name.len())?;
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    match &*upper {
        b"GET_LOCK" | b"RELEASE_LOCK" | b"RELEASE_ALL_LOCKS" => return Some(Effect::Locks),
        b"NEXTVAL" | b"SETVAL" => return Some(Effect::Writes),
        // With an argument it sets what the session's next call answers.
        b"LAST_INSERT_ID" => return Some(Effect::Session),
        _ => {}
    }
    let is_in = |list: &[&str]| list.binary_search_by(|known| known.as_bytes().cmp(upper)).is_ok();
    let harmless = is_in(COMMON)
        || match server {
            Server::MariaDb(version) => {
                is_in(MARIADB) || is_in(LEGACY) || is_in(DIGESTS) || version >= 110_800 && is_in(MARIADB_11_8)
            }
            Server::MySql(version) => {
                is_in(MYSQL) || version < 80_000 && is_in(LEGACY) || version < 90_600 && is_in(DIGESTS)
            }
            Server::Unknown => is_in(DIGESTS),
        };
    harmless.then_some(Effect::Reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_its_names_fit() {
        for list in [COMMON, MARIADB, MARIADB_11_8, DIGESTS, MYSQL, LEGACY] {
            for pair in list.windows(2) {
                assert!(pair[0] < pair[1], "{} is before {}", pair[0], pair[1]);
            }
            assert!(list.iter().all(|name| name.len() <= LONGEST));
        }
    }

    #[test]
    fn functions_are_known_in_any_case() {
        let of = |name: &[u8]| effect(name, Server::Unknown);
        assert_eq!(of(b"now"), Some(Effect::Reads));
        assert_eq!(of(b"Get_Lock"), Some(Effect::Locks));
        assert_eq!(of(b"nextval"), Some(Effect::Writes));
        assert_eq!(of(b"my_function"), None);
        assert_eq!(of(b""), None);
        assert_eq!(of(&[b'A'; 1000]), None);
    }

    #[test]
    fn what_one_server_has_may_be_made_by_users_of_another() {
        assert_eq!(effect(b"to_char", Server::MariaDb(110_803)), Some(Effect::Reads));
        assert_eq!(effect(b"to_char", Server::MySql(80_403)), None);
        assert_eq!(effect(b"glength", Server::MySql(50_744)), Some(Effect::Reads));
        assert_eq!(effect(b"glength", Server::MySql(80_403)), None);
        assert_eq!(effect(b"md5", Server::MySql(80_403)), Some(Effect::Reads));
        assert_eq!(effect(b"md5", Server::MySql(90_704)), None);
        assert_eq!(effect(b"uuid_to_bin", Server::MySql(80_403)), Some(Effect::Reads));
        assert_eq!(effect(b"uuid_to_bin", Server::Unknown), None);
    }
}
