//! rpm's SQLite database (lib/backend/sqlite.c): one table of headers, one of keys for each tag that rpm searches by.
//!
//! SQLite works on a copy in memory. The result replaces the file in one rename like every other change.

use std::collections::BTreeSet;

use rusqlite::types::Value;
use rusqlite::{Connection, params};

use crate::packages::rpm::header::Header;
use crate::packages::rpm::tag::{self, sense};

/// Tables of keys and their tags.
const INDEXES: [(&str, u32); 18] = [
    ("Name", tag::NAME),
    ("Basenames", tag::BASE_NAMES),
    ("Group", 1016),
    ("Requirename", tag::REQUIRE_NAME),
    ("Providename", tag::PROVIDE_NAME),
    ("Conflictname", tag::CONFLICT_NAME),
    ("Obsoletename", tag::OBSOLETE_NAME),
    ("Triggername", tag::TRIGGER_NAME),
    ("Dirnames", tag::DIR_NAMES),
    ("Installtid", tag::INSTALL_TID),
    ("Sigmd5", tag::SIG_MD5),
    ("Sha1header", tag::SHA1_HEADER),
    ("Filetriggername", 5069),
    ("Transfiletriggername", 5079),
    ("Recommendname", 5046),
    ("Suggestname", 5049),
    ("Supplementname", 5052),
    ("Enhancename", 5055),
];
/// Tables whose rows carry the trigger's number instead of the key's.
const TRIGGER_NUMBERS: [(&str, u32); 2] = [("Filetriggername", 5070), ("Transfiletriggername", 5080)];
/// The file header's two bytes for the kind of journal, and "write-ahead log" there.
const JOURNAL: std::ops::Range<usize> = 18..20;
const WAL: u8 = 2;

/// An open copy; a database in memory cannot have a write-ahead log, so the file says otherwise meanwhile.
struct Copy {
    db: Connection,
    journal: [u8; 2],
}

fn open(mut bytes: Vec<u8>) -> Result<Copy, String> {
    let journal = match bytes.get(JOURNAL) {
        Some(&[write, read]) if bytes.starts_with(b"SQLite format 3\0") => [write, read],
        _ => return Err("it is no SQLite database".to_owned()),
    };
    if journal.contains(&WAL) {
        bytes[JOURNAL].fill(1);
    }
    let mut db = Connection::open_in_memory().map_err(text)?;
    let len = bytes.len();
    db.deserialize_read_exact("main", bytes.as_slice(), len, false)
        .map_err(text)?;
    Ok(Copy { db, journal })
}

fn text(error: rusqlite::Error) -> String {
    error.to_string()
}

/// Number and blob of every package called `name`.
pub fn named(bytes: Vec<u8>, name: &str) -> Result<Vec<(u32, Vec<u8>)>, String> {
    let query =
        "SELECT hnum, blob FROM Packages WHERE hnum IN (SELECT hnum FROM Name WHERE key = ?1) ORDER BY hnum";
    records(&open(bytes)?, query, &[&name])
}

/// Number and blob of every package.
pub fn all(bytes: Vec<u8>) -> Result<Vec<(u32, Vec<u8>)>, String> {
    records(
        &open(bytes)?,
        "SELECT hnum, blob FROM Packages ORDER BY hnum",
        &[],
    )
}

fn records(copy: &Copy, query: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<(u32, Vec<u8>)>, String> {
    let mut statement = copy.db.prepare(query).map_err(text)?;
    let rows = statement
        .query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(text)?;
    rows.collect::<Result<_, _>>().map_err(text)
}

/// The database without the packages `remove` and with the header `add`.
pub fn replace(bytes: Vec<u8>, remove: &[u32], add: Option<&Header>) -> Result<Vec<u8>, String> {
    let mut copy = open(bytes)?;
    let health: String = copy
        .db
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(text)?;
    if health != "ok" {
        return Err(health);
    }
    let work = copy.db.transaction().map_err(text)?;
    let tables = tables(&work)?;
    for number in remove {
        for (table, _) in INDEXES.iter().filter(|(table, _)| tables.contains(*table)) {
            work.execute(&format!("DELETE FROM '{table}' WHERE hnum = ?1"), params![number])
                .map_err(text)?;
        }
        work.execute("DELETE FROM Packages WHERE hnum = ?1", params![number])
            .map_err(text)?;
    }
    if let Some(header) = add {
        work.execute("INSERT INTO Packages VALUES (NULL, ?1)", params![header.blob()])
            .map_err(text)?;
        let number = work.last_insert_rowid();
        for (table, tag) in INDEXES.iter().filter(|(table, _)| tables.contains(*table)) {
            let insert = format!("INSERT INTO '{table}' VALUES (?1, ?2, ?3)");
            for (key, index) in keys(header, table, *tag) {
                work.execute(&insert, params![key, number, index]).map_err(text)?;
            }
        }
    }
    work.commit().map_err(text)?;
    let mut bytes = copy.db.serialize("main").map_err(text)?.to_vec();
    bytes[JOURNAL].copy_from_slice(&copy.journal);
    Ok(bytes)
}

fn tables(db: &Connection) -> Result<BTreeSet<String>, String> {
    let mut statement = db
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table'")
        .map_err(text)?;
    let rows = statement.query_map([], |row| row.get(0)).map_err(text)?;
    rows.collect::<Result<_, _>>().map_err(text)
}

/// The keys of one header in one table, with the number that stands beside each.
fn keys(header: &Header, table: &str, tag: u32) -> Vec<(Value, i64)> {
    match tag {
        // In the machine's own order of bytes; every system that rpm's SQLite databases are found on is little-endian.
        tag::INSTALL_TID => {
            let numbers = header.numbers(tag).into_iter().zip(0..);
            return numbers
                .map(|(tid, index)| (Value::Blob(tid.to_le_bytes().to_vec()), index))
                .collect();
        }
        tag::SIG_MD5 => {
            return header
                .binary(tag)
                .map(|md5| (Value::Blob(md5.to_vec()), 0))
                .into_iter()
                .collect();
        }
        _ => {}
    }
    let mut texts = header.strings(tag);
    if table == "Group" {
        texts.truncate(1);
        if texts.is_empty() {
            texts.push("Unknown");
        }
    }
    let flags = header.numbers(tag::REQUIRE_FLAGS);
    let is_kept = |index: usize| match tag {
        tag::REQUIRE_NAME => !is_transient(flags.get(index).copied().unwrap_or(0)),
        tag::TRIGGER_NAME => !texts[..index].contains(&texts[index]),
        _ => true,
    };
    let numbers = TRIGGER_NUMBERS
        .iter()
        .find(|(own, _)| *own == table)
        .map(|(_, tag)| header.numbers(*tag));
    let beside = |index: usize| match &numbers {
        Some(numbers) => numbers.get(index).copied().map_or(0, i64::from),
        None => i64::try_from(index).unwrap_or(0),
    };
    let kept = (0..texts.len()).filter(|index| is_kept(*index));
    kept.map(|index| (Value::Text(texts[index].to_owned()), beside(index)))
        .collect()
}

/// Needed only while a package is being installed: rpm does not look for such ones later.
fn is_transient(flags: u32) -> bool {
    flags & sense::INSTALL_ONLY != 0 && flags & (sense::ERASE_ONLY | sense::META) == 0
}
