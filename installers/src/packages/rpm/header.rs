//! rpm headers: an index of typed entries over a store of bytes. Reading, and writing the form that databases hold.
//!
//! Shape (rpm's docs/manual/format_v4.md and hdrblob.c): counts of entries and store bytes, entries of 16 bytes
//! (tag, type, offset, count), store; all numbers big-endian. In packages three magic bytes and a version stand before.

use super::tag;

const ENTRY: usize = 16;
const MAGIC: [u8; 8] = [0x8e, 0xad, 0xe8, 0x01, 0, 0, 0, 0];
/// As rpm limits them.
const MAX_ENTRIES: usize = 65_535;
const MAX_STORE: usize = 256 * 1024 * 1024;

const CHAR: u32 = 1;
const INT8: u32 = 2;
const INT16: u32 = 3;
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const BIN: u32 = 7;
const STRING_ARRAY: u32 = 8;
const I18N: u32 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u32,
    kind: u32,
    offset: usize,
    count: usize,
}

/// A parsed header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    entries: Vec<Entry>,
    /// Counts, index and store, as a database holds them.
    blob: Vec<u8>,
    /// Where the store begins.
    store: usize,
}

/// The counts at the beginning of a header: entries and store bytes, when they are sane.
fn counts(bytes: &[u8]) -> Result<(usize, usize), String> {
    let number = |at: usize| be32(bytes, at).ok_or("it is cut off");
    let (entries, store) = (number(0)? as usize, number(4)? as usize);
    if entries > MAX_ENTRIES || store > MAX_STORE {
        return Err(format!("it promises {entries} entries and {store} bytes"));
    }
    Ok((entries, store))
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

impl Header {
    /// Bytes that a header takes in a package, from its first 16.
    pub fn packaged_len(start: &[u8]) -> Result<usize, String> {
        if start.get(..4) != Some(&MAGIC[..4]) {
            return Err("a header does not begin as headers do".to_owned());
        }
        let (entries, store) = counts(start.get(8..).unwrap_or_default())?;
        Ok(MAGIC.len() + 8 + entries * ENTRY + store)
    }

    /// A header of a package: all its bytes, magic included.
    pub fn packaged(bytes: &[u8], region: u32) -> Result<Self, String> {
        let header = Self::parse(bytes.get(MAGIC.len()..).unwrap_or_default())?;
        let first = header.entries.first().ok_or("it has no entries")?;
        if first.tag != region {
            return Err("it has no immutable region: only rpm 3 built such packages".to_owned());
        }
        header.check_region(first)?;
        Ok(header)
    }

    /// A header as a database holds it.
    pub fn parse(blob: &[u8]) -> Result<Self, String> {
        let (count, store_len) = counts(blob)?;
        let store = 8 + count * ENTRY;
        if blob.len() != store + store_len {
            return Err(format!(
                "it is {} bytes long and promises {}",
                blob.len(),
                store + store_len
            ));
        }
        let mut entries = Vec::with_capacity(count);
        for index in 0..count {
            let at = 8 + index * ENTRY;
            let number = |word: usize| be32(blob, at + 4 * word).unwrap_or(0);
            let entry = Entry {
                tag: number(0),
                kind: number(1),
                offset: number(2) as usize,
                count: number(3) as usize,
            };
            check_entry(&entry, &blob[store..])?;
            entries.push(entry);
        }
        let mut tags: Vec<u32> = entries.iter().map(|entry| entry.tag).collect();
        tags.sort_unstable();
        if tags.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("a tag stands twice in it".to_owned());
        }
        Ok(Self {
            entries,
            blob: blob.to_vec(),
            store,
        })
    }

    /// The region's trailer repeats the entry, its offset telling how many entries belong to it: in a package, all.
    fn check_region(&self, region: &Entry) -> Result<(), String> {
        let trailer = self.bytes_of(region);
        let says = |word: usize| trailer.and_then(|bytes| be32(bytes, 4 * word));
        let length = u32::try_from(self.entries.len() * ENTRY).unwrap_or(u32::MAX);
        let is_whole = region.kind == BIN
            && region.count == ENTRY
            && region.offset + ENTRY == self.blob.len() - self.store
            && says(1) == Some(BIN)
            && says(2) == Some(length.wrapping_neg());
        if is_whole {
            Ok(())
        } else {
            Err("its immutable region is not the whole of it".to_owned())
        }
    }

    fn entry(&self, tag: u32) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    fn bytes_of(&self, entry: &Entry) -> Option<&[u8]> {
        let store = &self.blob[self.store..];
        store.get(entry.offset..entry.offset + entry_len(entry, store)?)
    }

    /// The first text of `tag`.
    pub fn string(&self, tag: u32) -> Option<&str> {
        self.strings(tag).into_iter().next()
    }

    /// The texts of `tag`; none that is no UTF-8.
    pub fn strings(&self, tag: u32) -> Vec<&str> {
        let Some(entry) = self
            .entry(tag)
            .filter(|entry| [STRING, STRING_ARRAY, I18N].contains(&entry.kind))
        else {
            return Vec::new();
        };
        let parts = self.bytes_of(entry).unwrap_or_default().split(|byte| *byte == 0);
        parts
            .take(entry.count)
            .map(|part| std::str::from_utf8(part).unwrap_or("\u{fffd}"))
            .collect()
    }

    /// The numbers of `tag`, 16 or 32 bits each.
    pub fn numbers(&self, tag: u32) -> Vec<u32> {
        let Some(entry) = self.entry(tag) else {
            return Vec::new();
        };
        let bytes = self.bytes_of(entry).unwrap_or_default();
        match entry.kind {
            INT32 => bytes.chunks_exact(4).filter_map(|four| be32(four, 0)).collect(),
            INT16 => bytes
                .chunks_exact(2)
                .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The numbers of `tag`, 64 bits each.
    pub fn long_numbers(&self, tag: u32) -> Vec<u64> {
        let Some(entry) = self.entry(tag).filter(|entry| entry.kind == INT64) else {
            return Vec::new();
        };
        let bytes = self.bytes_of(entry).unwrap_or_default();
        let words = bytes.chunks_exact(8).filter_map(|eight| eight.try_into().ok());
        words.map(u64::from_be_bytes).collect()
    }

    /// The bytes of `tag`.
    pub fn binary(&self, tag: u32) -> Option<&[u8]> {
        self.bytes_of(self.entry(tag).filter(|entry| entry.kind == BIN)?)
    }

    /// Whether there is such a tag.
    pub fn has(&self, tag: u32) -> bool {
        self.entry(tag).is_some()
    }

    /// As a database holds it.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `EPOCH:VERSION-RELEASE`, without an epoch that is not there.
    pub fn evr(&self) -> String {
        let text = |tag| self.string(tag).unwrap_or_default();
        let epoch = self.numbers(tag::EPOCH).first().map(|epoch| format!("{epoch}:"));
        format!(
            "{}{}-{}",
            epoch.unwrap_or_default(),
            text(tag::VERSION),
            text(tag::RELEASE)
        )
    }

    /// The header as an installed package's: this one's region untouched, and behind it what rpm adds. `signature` is
    /// the package's signature header.
    pub fn installed(&self, signature: &Self, at: u32, color: u32) -> Vec<u8> {
        let mut added: Vec<(u32, u32, usize, Vec<u8>)> = Vec::new();
        for (from, to) in tag::FROM_SIGNATURE {
            let found = signature.entry(from).filter(|_| !self.has(to));
            let bytes = found.and_then(|entry| Some((entry, signature.bytes_of(entry)?)));
            added.extend(bytes.map(|(entry, bytes)| (to, entry.kind, entry.count, bytes.to_vec())));
        }
        let files = self.strings(tag::BASE_NAMES).len();
        if files > 0 {
            added.push((tag::FILE_STATES, CHAR, files, vec![0; files]));
        }
        for (tag, value) in [
            (tag::INSTALL_TIME, at),
            (tag::INSTALL_COLOR, color),
            (tag::INSTALL_TID, at),
        ] {
            added.push((tag, INT32, 1, value.to_be_bytes().to_vec()));
        }
        added.sort_by_key(|(tag, ..)| *tag);
        let mut store = self.blob[self.store..].to_vec();
        let mut index = self.blob[8..self.store].to_vec();
        for (tag, kind, count, bytes) in added {
            store.resize(store.len().next_multiple_of(alignment(kind)), 0);
            let numbers = [tag, kind, clamp(store.len()), clamp(count)];
            index.extend(numbers.into_iter().flat_map(u32::to_be_bytes));
            store.extend(bytes);
        }
        let counts = [clamp(index.len() / ENTRY), clamp(store.len())];
        let mut blob: Vec<u8> = counts.into_iter().flat_map(u32::to_be_bytes).collect();
        blob.extend(index);
        blob.extend(store);
        blob
    }
}

/// Lengths are below `MAX_STORE` by what was parsed.
fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn alignment(kind: u32) -> usize {
    match kind {
        INT16 => 2,
        INT32 => 4,
        INT64 => 8,
        _ => 1,
    }
}

/// Bytes that an entry takes in the store; none when it runs out of it.
fn entry_len(entry: &Entry, store: &[u8]) -> Option<usize> {
    let rest = store.get(entry.offset..)?;
    match entry.kind {
        CHAR | INT8 | BIN => Some(entry.count),
        INT16 | INT32 | INT64 => entry.count.checked_mul(alignment(entry.kind)),
        STRING | STRING_ARRAY | I18N => {
            let count = if entry.kind == STRING { 1 } else { entry.count };
            let ends = rest.iter().enumerate().filter(|(_, byte)| **byte == 0);
            ends.map(|(at, _)| at + 1).nth(count.checked_sub(1)?)
        }
        _ => None,
    }
    .filter(|len| *len <= rest.len())
}

fn check_entry(entry: &Entry, store: &[u8]) -> Result<(), String> {
    let is_aligned = entry.offset.is_multiple_of(alignment(entry.kind));
    let is_named = entry.tag >= tag::HEADER_SIGNATURES;
    if entry.count == 0 || !is_aligned || !is_named || entry_len(entry, store).is_none() {
        return Err(format!("its entry for tag {} is damaged", entry.tag));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let store = b"name\0\0\0\0\x00\x00\x00\x07one\0two\0";
        let mut blob = Vec::new();
        for number in [
            3,
            store.len() as u32,
            1000,
            STRING,
            0,
            1,
            1003,
            INT32,
            8,
            1,
            1117,
            STRING_ARRAY,
            12,
            2,
        ] {
            blob.extend(number.to_be_bytes());
        }
        blob.extend(store);
        blob
    }

    #[test]
    fn reads_typed_entries() {
        let header = Header::parse(&sample()).expect("header");
        assert_eq!(header.string(tag::NAME), Some("name"));
        assert_eq!(header.numbers(tag::EPOCH), [7]);
        assert_eq!(header.strings(tag::BASE_NAMES), ["one", "two"]);
        assert_eq!(header.strings(tag::DIR_NAMES), Vec::<&str>::new());
    }

    #[test]
    fn refuses_headers_that_lie() {
        let set = |word: usize, value: u32| {
            let mut blob = sample();
            blob[4 * word..4 * word + 4].copy_from_slice(&value.to_be_bytes());
            Header::parse(&blob)
        };
        // Counts, types, offsets and lengths; a tag that stands twice.
        let lies = [
            (0, 4),
            (0, 70_000),
            (1, 3),
            (1, u32::MAX),
            (3, 99),
            (4, 4000),
            (4, u32::MAX),
            (8, 9),
            (9, u32::MAX),
        ];
        for (word, value) in lies.into_iter().chain([(13, 3), (13, 0), (6, 1000)]) {
            assert!(set(word, value).is_err(), "word {word} as {value}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..76, value: u8, cut in 0_usize..76) {
            let mut blob = sample();
            if let Some(byte) = blob.get_mut(at) { *byte = value; }
            blob.truncate(blob.len() - cut.min(blob.len()));
            if let Ok(header) = Header::parse(&blob) {
                for tag in [tag::NAME, tag::EPOCH, tag::BASE_NAMES] {
                    header.strings(tag);
                    header.numbers(tag);
                    header.long_numbers(tag);
                    header.binary(tag);
                }
                header.installed(&header, 1, 0);
            }
        }
    }
}
