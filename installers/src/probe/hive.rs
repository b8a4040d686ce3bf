//! Reads a registry hive key by key, without loading it: the SOFTWARE hive of a server is 100 MB. Never writes.
//!
//! Offsets inside a hive count from its first bin, 4096 bytes into the file. A dirty hive (one whose log Windows would
//! replay first) is read as it stands; what is asked here does not change between shutdowns.

use std::cell::Cell;
use std::fs::File;
use std::io;

use crate::positioned::read_exact_at;

const BINS: u64 = 4096;
/// What is read of a cell at most: a list of 65,535 keys.
const CELL_LIMIT: usize = 512 * 1024 + 8;
/// A key or value and its name of at most 255 characters, of which a hostile list may name many.
const NAMED_LIMIT: usize = 1024;
/// Cells that all lookups together may visit; a server's take some thousands.
const CELLS: u32 = 1_000_000;
const NO_CELL: u32 = u32::MAX;
/// ri lists hold lf, lh and li lists and nothing else.
const LIST_DEPTH: u8 = 2;

/// An opened hive.
#[derive(Debug)]
pub(super) struct Hive {
    file: File,
    root: u32,
    left: Cell<u32>,
}

/// A key: its cell.
#[derive(Debug, Clone)]
pub(super) struct Key {
    cell: Vec<u8>,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the hive is damaged: {what}"))
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let pair = bytes
        .get(at..at + 2)
        .ok_or_else(|| damaged("a cell is too short"))?;
    Ok(u16::from_le_bytes([pair[0], pair[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let four = bytes
        .get(at..at + 4)
        .ok_or_else(|| damaged("a cell is too short"))?;
    Ok(u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// Names are Latin-1 where a flag says so, else UTF-16.
fn name_of(bytes: &[u8], is_latin: bool) -> String {
    if is_latin {
        return bytes.iter().map(|byte| char::from(*byte)).collect();
    }
    utf16(bytes)
}

/// Whether more keys are to be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    GoOn,
    Stop,
}

/// A value as text: of the types string, expandable string and 32-bit number.
pub(super) fn text_of(kind: u32, bytes: &[u8]) -> Option<String> {
    match kind {
        1 | 2 => Some(utf16(bytes)),
        4 => Some(u32_at(bytes, 0).ok()?.to_string()),
        _ => None,
    }
}

/// The strings of a value that is a list of them.
pub(super) fn list_of(kind: u32, bytes: &[u8]) -> Vec<String> {
    match kind {
        7 => utf16(bytes).split('\0').map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn utf16(bytes: &[u8]) -> String {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    String::from_utf16_lossy(&units).trim_end_matches('\0').to_owned()
}

impl Hive {
    /// Reads the base block.
    pub(super) fn open(file: File) -> io::Result<Self> {
        let mut base = [0; 0x2c];
        read_exact_at(&file, &mut base, 0)?;
        if &base[..4] != b"regf" {
            return Err(damaged("it does not begin with `regf`"));
        }
        let root = u32_at(&base, 0x24)?;
        Ok(Self {
            file,
            root,
            left: Cell::new(CELLS),
        })
    }

    /// The key at `path`, its parts separated by backslashes; none when it does not exist. Case does not count.
    pub(super) fn key(&self, path: &str) -> io::Result<Option<Key>> {
        let mut key = Key {
            cell: self.cell(self.root, NAMED_LIMIT)?,
        };
        for part in path.split('\\').filter(|part| !part.is_empty()) {
            match self.child(&key, part)? {
                Some(child) => key = child,
                None => return Ok(None),
            }
        }
        Ok(Some(key))
    }

    /// The names of the keys below `key`.
    pub(super) fn names(&self, key: &Key) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.visit(key, &mut |key| {
            names.push(key.name()?);
            Ok(Visit::GoOn)
        })?;
        Ok(names)
    }

    /// A value's type and bytes.
    pub(super) fn value(&self, key: &Key, name: &str) -> io::Result<Option<(u32, Vec<u8>)>> {
        let count = u32_at(&key.cell, 0x24)? as usize;
        let list = u32_at(&key.cell, 0x28)?;
        if count == 0 || list == NO_CELL {
            return Ok(None);
        }
        let list = self.cell(list, CELL_LIMIT)?;
        for index in 0..count.min(list.len() / 4) {
            let value = self.cell(u32_at(&list, index * 4)?, NAMED_LIMIT)?;
            if value.get(..2) != Some(b"vk") {
                return Err(damaged("a value is none"));
            }
            let length = usize::from(u16_at(&value, 2)?);
            let stored = value.get(0x14..0x14 + length).unwrap_or_default();
            let is_latin = u16_at(&value, 0x10)? & 1 != 0;
            if name_of(stored, is_latin).eq_ignore_ascii_case(name) {
                return self.data(&value).map(Some);
            }
        }
        Ok(None)
    }

    fn data(&self, value: &[u8]) -> io::Result<(u32, Vec<u8>)> {
        let size = u32_at(value, 4)?;
        let kind = u32_at(value, 0xc)?;
        // Up to four bytes stand where the offset would.
        let mut bytes = if size & 0x8000_0000 != 0 {
            u32_at(value, 8)?.to_le_bytes().to_vec()
        } else {
            self.cell(u32_at(value, 8)?, CELL_LIMIT)?
        };
        let size = (size & 0x7fff_ffff) as usize;
        bytes.truncate(size);
        Ok((kind, bytes))
    }

    fn child(&self, key: &Key, name: &str) -> io::Result<Option<Key>> {
        let mut found = None;
        self.visit(key, &mut |key| {
            if !key.name()?.eq_ignore_ascii_case(name) {
                return Ok(Visit::GoOn);
            }
            found = Some(key);
            Ok(Visit::Stop)
        })?;
        Ok(found)
    }

    /// Shows `see` the keys below `key` until it has seen enough.
    fn visit(&self, key: &Key, see: &mut dyn FnMut(Key) -> io::Result<Visit>) -> io::Result<()> {
        let count = u32_at(&key.cell, 0x14)?;
        let list = u32_at(&key.cell, 0x1c)?;
        if count == 0 || list == NO_CELL {
            return Ok(());
        }
        self.visit_list(&self.cell(list, CELL_LIMIT)?, LIST_DEPTH, see)
            .map(drop)
    }

    fn visit_list(
        &self,
        list: &[u8],
        depth: u8,
        see: &mut dyn FnMut(Key) -> io::Result<Visit>,
    ) -> io::Result<Visit> {
        let stride = match list.get(..2) {
            Some(b"lf" | b"lh") => 8,
            Some(b"li" | b"ri") => 4,
            _ => return Err(damaged("a list of keys is none")),
        };
        let is_index = list.starts_with(b"ri");
        if is_index && depth == 0 {
            return Err(damaged("its lists are nested too deep"));
        }
        let limit = if is_index { CELL_LIMIT } else { NAMED_LIMIT };
        for index in 0..usize::from(u16_at(list, 2)?) {
            let cell = self.cell(u32_at(list, 4 + index * stride)?, limit)?;
            let visit = if is_index {
                self.visit_list(&cell, depth - 1, see)?
            } else {
                see(Key { cell })?
            };
            if visit == Visit::Stop {
                return Ok(visit);
            }
        }
        Ok(Visit::GoOn)
    }

    /// The bytes of an allocated cell, its size left out, up to `limit`.
    fn cell(&self, offset: u32, limit: usize) -> io::Result<Vec<u8>> {
        let left = self
            .left
            .get()
            .checked_sub(1)
            .ok_or_else(|| damaged("it never ends"))?;
        self.left.set(left);
        let at = BINS + u64::from(offset);
        let mut size = [0; 4];
        read_exact_at(&self.file, &mut size, at)?;
        let size = i32::from_le_bytes(size);
        let length = usize::try_from(-i64::from(size)).unwrap_or(0);
        if length < 8 {
            return Err(damaged("a cell has an impossible size"));
        }
        let mut bytes = vec![0; (length - 4).min(limit)];
        read_exact_at(&self.file, &mut bytes, at + 4)?;
        Ok(bytes)
    }
}

impl Key {
    fn name(&self) -> io::Result<String> {
        if self.cell.get(..2) != Some(b"nk") {
            return Err(damaged("a key is none"));
        }
        let is_latin = u16_at(&self.cell, 2)? & 0x20 != 0;
        let length = usize::from(u16_at(&self.cell, 0x48)?);
        let bytes = self.cell.get(0x4c..0x4c + length);
        Ok(name_of(
            bytes.ok_or_else(|| damaged("a name is cut short"))?,
            is_latin,
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn hive(bytes: &[u8]) -> io::Result<Hive> {
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        Hive::open(file)
    }

    #[test]
    fn a_list_that_names_itself_ends() {
        let mut bytes = vec![0; 4096 + 0x1000];
        bytes[..4].copy_from_slice(b"regf");
        bytes[0x24..0x28].copy_from_slice(&0x20_u32.to_le_bytes());
        let mut put = |at: usize, data: &[u8]| bytes[4096 + at..4096 + at + data.len()].copy_from_slice(data);
        // The root key, with a list of 65,535 lists: all of them itself.
        put(0x20, &(-0x80_i32).to_le_bytes());
        put(0x24, b"nk");
        put(0x24 + 0x14, &1_u32.to_le_bytes());
        put(0x24 + 0x1c, &0x100_u32.to_le_bytes());
        put(0x100, &(-0x800_i32).to_le_bytes());
        put(0x104, b"ri\xff\xff");
        for index in 0..500 {
            put(0x108 + index * 4, &0x100_u32.to_le_bytes());
        }
        let error = hive(&bytes).expect("hive").key("x").expect_err("endless");
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..600), root in 0_u32..64) {
            let mut bytes = vec![0; 4096];
            bytes[..4].copy_from_slice(b"regf");
            bytes[0x24..0x28].copy_from_slice(&root.to_le_bytes());
            // Plausible sizes, so that what follows them is looked at.
            bytes.extend((-400_i32).to_le_bytes().repeat(8));
            bytes.extend(b"nk");
            bytes.extend(&tail);
            let hive = hive(&bytes).expect("base block");
            if let Ok(Some(key)) = hive.key("") {
                let _either = hive.value(&key, "x");
                let _either = hive.names(&key);
            }
            let _either = hive.key("a\\b");
        }
    }
}
