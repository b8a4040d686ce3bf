//! SHA-256 as text, the identity of files and certificates in facts, receipts and reports; and what digests are fed with.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use ssmbake_manifests::hex;

/// SHA-256 of `bytes`, lower-case hex.
pub(crate) fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex::encode(&Sha256::digest(bytes))
}

/// Gives all that `from` has to `take`, part by part.
pub fn read_through(mut from: impl Read, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            count => take(&buffer[..count]),
        }
    }
}
