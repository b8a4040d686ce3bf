//! rpm's own form of database, `Packages.db`: SUSE since 15 (rpm's lib/backend/ndb/rpmpkg.c and glue.cc).
//!
//! A header of 32 bytes, slots of 16 that say where each package lies, the packages in blocks of 16; all numbers
//! little-endian. A new file is laid out afresh, without gaps. Its generation is one more than before: `Index.db` beside
//! it, which names the old one, is then rebuilt by the first rpm that runs as root and is good enough for others until
//! then, which know all packages but ours.

const MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";
const TAIL_MAGIC: &[u8] = b"BlbE";
const BLOB_HEAD: usize = 16;
const BLOB_TAIL: usize = 12;
const HEADER: usize = 32;
const SLOT: usize = 16;
const BLOCK: usize = 16;
const PAGE: usize = 4096;

/// Number and blob of every package.
pub fn packages(bytes: &[u8]) -> Result<Vec<(u32, Vec<u8>)>, String> {
    if bytes.get(..4) != Some(MAGIC) || u32_at(bytes, 4)? != 0 {
        return Err("it is no ndb database".to_owned());
    }
    let end = (u32_at(bytes, 12)? as usize)
        .checked_mul(PAGE)
        .filter(|end| *end <= bytes.len());
    let end = end.ok_or("it promises more slots than it has")?;
    let mut found = Vec::new();
    for slot in bytes.get(HEADER..end).unwrap_or_default().chunks_exact(SLOT) {
        let (number, block) = (u32_at(slot, 4)?, u32_at(slot, 8)? as usize);
        if slot.get(..4) != Some(SLOT_MAGIC) {
            return Err("a slot does not begin as slots do".to_owned());
        }
        // A free one.
        if block == 0 {
            continue;
        }
        let at = block.checked_mul(BLOCK).ok_or("a package lies beyond its end")?;
        let head = bytes.get(at..).filter(|head| head.get(..4) == Some(BLOB_MAGIC));
        let head = head.ok_or_else(|| format!("package {number} is not where its slot says"))?;
        let len = u32_at(head, 12)? as usize;
        let blob = head.get(16..).and_then(|rest| rest.get(..len));
        let blob = blob.filter(|_| u32_at(head, 4) == Ok(number));
        found.push((
            number,
            blob.ok_or_else(|| format!("package {number} is damaged"))?
                .to_vec(),
        ));
    }
    found.sort_by_key(|(number, _)| *number);
    Ok(found)
}

/// The database without the packages `remove` and with the header `add`.
pub fn replace(bytes: &[u8], remove: &[u32], add: Option<&[u8]>) -> Result<Vec<u8>, String> {
    let mut packages = packages(bytes)?;
    packages.retain(|(number, _)| !remove.contains(number));
    let last = packages.last().map_or(0, |(number, _)| *number);
    // Never a number that was somebody else's before.
    let mut next = u32_at(bytes, 16)?.max(last.saturating_add(1)).max(1);
    if let Some(blob) = add {
        packages.push((next, blob.to_vec()));
        next = next.saturating_add(1);
    }
    let generation = u32_at(bytes, 8)?.wrapping_add(1);
    let slots_a_page = PAGE / SLOT;
    let pages = (packages.len() + HEADER / SLOT + 1).div_ceil(slots_a_page);
    let mut slots = Vec::with_capacity(pages * PAGE);
    slots.extend_from_slice(MAGIC);
    for number in [0, generation, word(pages)?, next, 0, 0, 0] {
        slots.extend(number.to_le_bytes());
    }
    let mut blobs = Vec::new();
    for (number, blob) in &packages {
        let block = (pages * PAGE + blobs.len()) / BLOCK;
        push_blob(&mut blobs, *number, generation, blob)?;
        let count = (pages * PAGE + blobs.len()) / BLOCK - block;
        push_slot(&mut slots, [*number, word(block)?, word(count)?]);
    }
    while slots.len() < pages * PAGE {
        push_slot(&mut slots, [0; 3]);
    }
    slots.extend(blobs);
    Ok(slots)
}

fn push_slot(slots: &mut Vec<u8>, numbers: [u32; 3]) {
    slots.extend_from_slice(SLOT_MAGIC);
    slots.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
}

/// Head, bytes, padding and a tail with a checksum over all before it.
fn push_blob(blobs: &mut Vec<u8>, number: u32, generation: u32, blob: &[u8]) -> Result<(), String> {
    let start = blobs.len();
    let end = start + (BLOB_HEAD + blob.len() + BLOB_TAIL).next_multiple_of(BLOCK);
    blobs.extend_from_slice(BLOB_MAGIC);
    for field in [number, generation, word(blob.len())?] {
        blobs.extend(field.to_le_bytes());
    }
    blobs.extend_from_slice(blob);
    blobs.resize(end - BLOB_TAIL, 0);
    let sum = adler32(&blobs[start..]);
    for field in [sum, word(blob.len())?] {
        blobs.extend(field.to_le_bytes());
    }
    blobs.extend_from_slice(TAIL_MAGIC);
    Ok(())
}

/// RFC 1950's checksum.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1_u32, 0_u32);
    // As many as fit before a sum of sums can overflow.
    for chunk in bytes.chunks(5552) {
        for byte in chunk {
            low += u32::from(*byte);
            high += low;
        }
        low %= 65_521;
        high %= 65_521;
    }
    high << 16 | low
}

fn word(number: usize) -> Result<u32, String> {
    u32::try_from(number).map_err(|_| "it is too large for its form".to_owned())
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, String> {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map(u32::from_le_bytes)
        .ok_or_else(|| "it is cut off".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One page of free slots, as rpm begins.
    fn empty() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for number in [0_u32, 5, 1, 0, 0, 0, 0] {
            bytes.extend(number.to_le_bytes());
        }
        while bytes.len() < PAGE {
            push_slot(&mut bytes, [0; 3]);
        }
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = empty();
        let blobs: Vec<Vec<u8>> = (0..255)
            .map(|number: u8| vec![number; usize::from(number) * 7])
            .collect();
        for blob in &blobs {
            bytes = replace(&bytes, &[], Some(blob)).expect("written");
        }
        let wanted: Vec<(u32, Vec<u8>)> = (1..).zip(blobs.clone()).collect();
        assert_eq!(packages(&bytes).expect("read"), wanted);
        let fewer = replace(&bytes, &[1, 200], Some(b"new")).expect("written");
        let found = packages(&fewer).expect("read");
        assert_eq!(found.len(), 254);
        assert_eq!(found.last(), Some(&(256, b"new".to_vec())));
        // A number is never used again, though the last package went.
        let gone = replace(&fewer, &[256], None).expect("written");
        let again = replace(&gone, &[], Some(b"newer")).expect("written");
        assert_eq!(
            packages(&again).expect("read").last(),
            Some(&(257, b"newer".to_vec()))
        );
        assert_eq!(u32_at(&again, 8), Ok(5 + 255 + 3));
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..8192, value: u8, len in 0_usize..8300) {
            let mut bytes = replace(&empty(), &[], Some(&[7; 3000])).expect("written");
            if let Some(byte) = bytes.get_mut(at) { *byte = value; }
            bytes.truncate(len);
            let _ = packages(&bytes);
            let _ = replace(&bytes, &[1], Some(b"x"));
        }
    }
}
