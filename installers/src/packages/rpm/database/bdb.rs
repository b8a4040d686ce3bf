//! Berkeley DB's hash access method, as far as rpm's `Packages` needs it, for reading: EL 6 to 8, Amazon Linux 1 and 2,
//! SLES 12. Nothing here writes it.
//!
//! Records are found through the buckets, as the library itself does, because a page that was given back still holds
//! what it held (Berkeley DB's dbinc/db_page.h and hash.h name the fields).

const HASH_MAGIC: u32 = 0x0006_1561;
const HASH_META: u8 = 8;
const OVERFLOW: u8 = 7;
const HASH_PAGES: [u8; 2] = [2, 13];
/// An item's first byte: the bytes follow, or stand on pages of their own.
const KEY_DATA: u8 = 1;
const OFF_PAGE: u8 = 3;
const PAGE_HEADER: usize = 26;
const SPARES: usize = 32;

/// An open database: its pages and their order of bytes.
struct Pages<'a> {
    bytes: &'a [u8],
    size: usize,
    is_big: bool,
}

/// Number and blob of every package.
pub fn packages(bytes: &[u8]) -> Result<Vec<(u32, Vec<u8>)>, String> {
    let pages = Pages::open(bytes)?;
    let meta = pages.page(0)?;
    let buckets = pages.u32(meta, 72)?;
    let mut found = Vec::new();
    let mut left = bytes.len() / pages.size;
    for bucket in 0..=buckets {
        let mut number = bucket.wrapping_add(pages.u32(meta, 96 + 4 * spare(bucket)?)?);
        // Chains of pages; a loop among them would use up more pages than there are.
        loop {
            left = left.checked_sub(1).ok_or("its pages form a loop")?;
            let page = pages.page(number)?;
            if !HASH_PAGES.contains(&page[25]) {
                return Err(format!("page {number} is no page of a hash"));
            }
            pages.records(page, &mut found)?;
            match pages.u32(page, 16)? {
                0 => break,
                next => number = next,
            }
        }
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

/// Which entry of the list of spare pages a bucket belongs to: the power of two that holds it.
fn spare(bucket: u32) -> Result<usize, String> {
    let power = (u64::from(bucket) + 1).next_power_of_two().trailing_zeros() as usize;
    if power < SPARES {
        Ok(power)
    } else {
        Err("it promises too many buckets".to_owned())
    }
}

impl<'a> Pages<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, String> {
        let head: [u8; 4] = bytes
            .get(12..16)
            .and_then(|four| four.try_into().ok())
            .ok_or("it is cut off")?;
        let is_big = match (u32::from_le_bytes(head), u32::from_be_bytes(head)) {
            (HASH_MAGIC, _) => false,
            (_, HASH_MAGIC) => true,
            _ => return Err("it is no Berkeley DB hash".to_owned()),
        };
        let mut pages = Self {
            bytes,
            size: 512,
            is_big,
        };
        let size = pages.u32(bytes, 20)? as usize;
        let is_encrypted = bytes.get(24) != Some(&0);
        if !size.is_power_of_two()
            || !(512..=65_536).contains(&size)
            || is_encrypted
            || bytes.get(25) != Some(&HASH_META)
        {
            return Err("its first page is none of a hash".to_owned());
        }
        pages.size = size;
        Ok(pages)
    }

    fn page(&self, number: u32) -> Result<&'a [u8], String> {
        let start = (number as usize).checked_mul(self.size);
        let page = start.and_then(|start| self.bytes.get(start..start.checked_add(self.size)?));
        page.ok_or_else(|| format!("page {number} is beyond its end"))
    }

    fn u32(&self, bytes: &[u8], at: usize) -> Result<u32, String> {
        let four = bytes
            .get(at..at + 4)
            .and_then(|four| four.try_into().ok())
            .ok_or("it is cut off")?;
        Ok(if self.is_big {
            u32::from_be_bytes(four)
        } else {
            u32::from_le_bytes(four)
        })
    }

    fn u16(&self, bytes: &[u8], at: usize) -> Result<usize, String> {
        let two = bytes
            .get(at..at + 2)
            .and_then(|two| two.try_into().ok())
            .ok_or("it is cut off")?;
        Ok(usize::from(if self.is_big {
            u16::from_be_bytes(two)
        } else {
            u16::from_le_bytes(two)
        }))
    }

    /// Keys and data take turns on a page.
    fn records(&self, page: &'a [u8], found: &mut Vec<(u32, Vec<u8>)>) -> Result<(), String> {
        let count = self.u16(page, 20)?;
        for index in (0..count / 2).map(|pair| 2 * pair) {
            let key = self.item(page, index)?;
            if key.len() != 5 || key[0] != KEY_DATA {
                return Err("a key is no package number".to_owned());
            }
            let number = self.u32(key, 1)?;
            let data = self.item(page, index + 1)?;
            let blob = match data.first() {
                Some(&KEY_DATA) => data[1..].to_vec(),
                Some(&OFF_PAGE) => self.overflow(data)?,
                _ => {
                    return Err(format!(
                        "package {number} is stored in a way that rpm does not use"
                    ));
                }
            };
            // Number 0 holds the next free number.
            if number != 0 {
                found.push((number, blob));
            }
        }
        Ok(())
    }

    /// Items grow from the end of the page towards its header.
    fn item(&self, page: &'a [u8], index: usize) -> Result<&'a [u8], String> {
        let start = self.u16(page, PAGE_HEADER + 2 * index)?;
        let end = match index {
            0 => self.size,
            _ => self.u16(page, PAGE_HEADER + 2 * (index - 1))?,
        };
        page.get(start..end)
            .filter(|item| !item.is_empty())
            .ok_or_else(|| "an item has no place on its page".to_owned())
    }

    fn overflow(&self, item: &[u8]) -> Result<Vec<u8>, String> {
        let (mut number, len) = (self.u32(item, 4)?, self.u32(item, 8)? as usize);
        if len > self.bytes.len() {
            return Err("a package is longer than the database".to_owned());
        }
        let mut blob = Vec::with_capacity(len);
        while number != 0 && blob.len() < len {
            let page = self.page(number)?;
            let used = self.u16(page, 22)?;
            let part = page
                .get(PAGE_HEADER..PAGE_HEADER + used)
                .filter(|part| !part.is_empty());
            match part {
                Some(part) if page[25] == OVERFLOW => blob.extend_from_slice(part),
                _ => return Err(format!("page {number} holds no part of a package")),
            }
            number = self.u32(page, 16)?;
        }
        if blob.len() == len {
            Ok(blob)
        } else {
            Err("a package is cut off".to_owned())
        }
    }
}
