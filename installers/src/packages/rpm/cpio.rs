//! cpio archives of the "new ASCII" kind, which rpm uses: headers of hexadecimal text, names and data padded to four
//! bytes, the end told by a member's name.

use std::io::{self, Read};

const HEADER: usize = 110;
/// PATH_MAX.
const LONG_NAME: u32 = 4096;
const TRAILER: &str = "TRAILER!!!";

/// One member's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CpioMember {
    pub(super) name: String,
    pub(super) inode: u32,
    pub(super) mode: u32,
    pub(super) links: u32,
    pub(super) size: u64,
}

/// Reads members one after another; the caller reads each one's data from [`CpioReader::data`] before the next.
pub(super) struct CpioReader<R> {
    inner: R,
    /// Data and padding of the present member that were not read yet.
    left: u64,
    padding: u64,
}

impl<R: Read> CpioReader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self {
            inner,
            left: 0,
            padding: 0,
        }
    }

    /// The next member; none after the last. What the caller left unread is an error of his.
    pub(super) fn next_member(&mut self) -> io::Result<Option<CpioMember>> {
        self.skip(self.padding)?;
        let mut header = [0; HEADER];
        self.inner.read_exact(&mut header)?;
        if !matches!(&header[..6], b"070701" | b"070702") {
            return Err(bad("a member does not begin as members do"));
        }
        let name_size = field(&header, 11)?;
        if name_size == 0 || name_size > LONG_NAME {
            return Err(bad("a member's name is longer than any path may be"));
        }
        let mut name = vec![0; name_size as usize];
        self.inner.read_exact(&mut name)?;
        if name.pop() != Some(0) || name.contains(&0) {
            return Err(bad("a member's name is cut off"));
        }
        let name = String::from_utf8(name).map_err(|_| bad("a member's name is no UTF-8"))?;
        self.skip(pad(HEADER as u64 + u64::from(name_size)))?;
        if name == TRAILER {
            return Ok(None);
        }
        let size = u64::from(field(&header, 6)?);
        (self.left, self.padding) = (size, pad(size));
        Ok(Some(CpioMember {
            name,
            inode: field(&header, 0)?,
            mode: field(&header, 1)?,
            links: field(&header, 4)?,
            size,
        }))
    }

    /// The present member's data.
    pub(super) fn data(&mut self) -> io::Take<&mut R> {
        let left = std::mem::take(&mut self.left);
        self.inner.by_ref().take(left)
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let mut padding = [0; 4];
        let count = usize::try_from(count).unwrap_or(0);
        self.inner.read_exact(&mut padding[..count])
    }
}

fn pad(len: u64) -> u64 {
    len.next_multiple_of(4) - len
}

fn field(header: &[u8; HEADER], number: usize) -> io::Result<u32> {
    let at = 6 + 8 * number;
    let text = std::str::from_utf8(&header[at..at + 8]).unwrap_or("");
    let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16)
        .ok()
        .filter(|_| is_hex)
        .ok_or_else(|| bad("a member's header is no hexadecimal text"))
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"070701".to_vec();
        let size = data.len() as u32;
        for number in [
            9,
            0o100_644,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ] {
            bytes.extend(format!("{number:08x}").bytes());
        }
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read_all(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut reader = CpioReader::new(bytes);
        let mut found = Vec::new();
        while let Some(member) = reader.next_member()? {
            let mut data = Vec::new();
            reader.data().read_to_end(&mut data)?;
            found.push((member.name, data));
        }
        Ok(found)
    }

    #[test]
    fn reads_members_of_every_length() {
        let names = ["./a", "./ab", "./abc", "./abcd"];
        let data = [b"".as_slice(), b"1", b"12", b"12345"];
        let mut archive: Vec<u8> = names
            .iter()
            .zip(data)
            .flat_map(|(name, data)| member(name, data))
            .collect();
        archive.extend(member(TRAILER, b""));
        let found = read_all(&archive).expect("archive");
        let wanted: Vec<(String, Vec<u8>)> = names
            .iter()
            .zip(data)
            .map(|(name, data)| ((*name).to_owned(), data.to_vec()))
            .collect();
        assert_eq!(found, wanted);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(at in 0_usize..240, value: u8, len in 0_usize..260) {
            let mut archive = [member("./abc", b"12345"), member(TRAILER, b"")].concat();
            if let Some(byte) = archive.get_mut(at) { *byte = value; }
            archive.truncate(len);
            let _ = read_all(&archive);
        }
    }
}
