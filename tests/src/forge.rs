//! Takes rpms apart and puts them together again with lies in them, all digests made to fit, so that only the lie is
//! left to be found.

use sha1::{Digest, Sha1};
use sha2::Sha256;

/// An rpm in its parts.
#[derive(Debug, Clone)]
pub struct Forge {
    /// Lead and signature header, padding included.
    front: Vec<u8>,
    /// The main header, magic included.
    pub header: Vec<u8>,
    /// The payload as it is packed.
    pub payload: Vec<u8>,
}

const LEAD: usize = 96;
const INTRO: usize = 16;

fn be32(bytes: &[u8], at: usize) -> usize {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn header_len(bytes: &[u8]) -> usize {
    INTRO + 16 * be32(bytes, 8) + be32(bytes, 12)
}

/// Where the data of `tag` is, from the header's beginning.
pub fn place(header: &[u8], tag: u32) -> usize {
    let entries = be32(header, 8);
    let entry = (0..entries)
        .map(|index| INTRO + 16 * index)
        .find(|at| be32(header, *at) == tag as usize);
    INTRO + 16 * entries + be32(header, entry.unwrap_or_else(|| panic!("no tag {tag}")) + 8)
}

impl Forge {
    /// Takes `rpm` apart.
    pub fn new(rpm: &[u8]) -> Self {
        let signature_end = (LEAD + header_len(&rpm[LEAD..])).next_multiple_of(8);
        let header_end = signature_end + header_len(&rpm[signature_end..]);
        Self {
            front: rpm[..signature_end].to_vec(),
            header: rpm[signature_end..header_end].to_vec(),
            payload: rpm[header_end..].to_vec(),
        }
    }

    /// Writes `bytes` over the data of `tag`, `skip` bytes from its beginning.
    #[must_use]
    pub fn header_at(mut self, tag: u32, skip: usize, bytes: &[u8]) -> Self {
        let at = place(&self.header, tag) + skip;
        self.header[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Replaces the first `from` of the payload by `to`, of the same length.
    #[must_use]
    pub fn payload_text(mut self, from: &[u8], to: &[u8]) -> Self {
        assert_eq!(from.len(), to.len());
        let at = self.find(from);
        self.payload[at..at + to.len()].copy_from_slice(to);
        self
    }

    /// The same behind the first `marker`.
    #[must_use]
    pub fn payload_after(mut self, marker: &[u8], from: &[u8], to: &[u8]) -> Self {
        let start = self.find(marker);
        let rest = Self {
            payload: self.payload.split_off(start),
            ..self.clone()
        };
        self.payload.extend(rest.payload_text(from, to).payload);
        self
    }

    /// Without the last `count` bytes of the payload.
    #[must_use]
    pub fn cut(mut self, count: usize) -> Self {
        self.payload.truncate(self.payload.len() - count);
        self
    }

    /// Where `text` first stands in the payload.
    pub fn find(&self, text: &[u8]) -> usize {
        self.payload
            .windows(text.len())
            .position(|window| window == text)
            .unwrap_or_else(|| panic!("no {}", String::from_utf8_lossy(text)))
    }

    /// Writes hexadecimal `value` over field `number` of the header of the member called `name`.
    #[must_use]
    pub fn member_field(mut self, name: &str, number: usize, value: u32) -> Self {
        let at = self.find(format!("./{name}\0").as_bytes()) - 110 + 6 + 8 * number;
        self.payload[at..at + 8].copy_from_slice(format!("{value:08x}").as_bytes());
        self
    }

    /// Put together, with digests and sizes that fit.
    pub fn finish(mut self) -> Vec<u8> {
        let write = |bytes: &mut Vec<u8>, tag, new: &[u8]| {
            let at = place(bytes, tag);
            bytes[at..at + new.len()].copy_from_slice(new);
        };
        let hex = |bytes: &[u8]| ssmbake_manifests::hex::encode(bytes).into_bytes();
        write(&mut self.header, 5092, &hex(&Sha256::digest(&self.payload)));
        let mut signature = self.front.split_off(LEAD);
        write(&mut signature, 273, &hex(&Sha256::digest(&self.header)));
        write(&mut signature, 269, &hex(&Sha1::digest(&self.header)));
        let size = (self.header.len() + self.payload.len()) as u32;
        write(&mut signature, 1000, &size.to_be_bytes());
        [self.front, signature, self.header, self.payload].concat()
    }
}
