//! Compares wanted with present.

use std::io::{self, Read};

use super::change::{Content, Perm, Want};
use crate::error::IoError;
use crate::root::{Kind, Last, Meta, Root, RootPath};

/// Whether `path` is not yet as wanted.
pub(super) fn differs(
    root: &Root,
    path: &RootPath,
    want: &Want,
    before: Option<&Meta>,
) -> Result<bool, IoError> {
    let kind = before.map(|meta| meta.kind);
    match (want, kind) {
        (Want::Absent, None) => Ok(false),
        (Want::Absent, Some(Kind::Dir | Kind::Other)) => Ok(true),
        (Want::Dir { .. }, Some(Kind::Dir)) => Ok(false),
        (_, Some(Kind::Dir)) => Err(in_the_way(path, "a directory is in its place")),
        (_, Some(Kind::Other)) => Err(in_the_way(path, "a device node, fifo or socket is in its place")),
        (Want::Dir { .. }, Some(_)) => Err(in_the_way(path, "it is not a directory")),
        (Want::Absent, Some(_)) | (_, None) => Ok(true),
        (Want::Link { target, .. }, _) => Ok(root.read_link(path)?.as_deref() != Some(target)),
        (Want::HardLink { to }, _) => {
            Ok(root.meta(to, Last::Keep)?.map(|meta| meta.id) != before.map(|meta| meta.id))
        }
        (Want::File { content, perm, .. }, _) => {
            let Some(meta) = before.filter(|meta| meta.kind == Kind::File) else {
                return Ok(true);
            };
            Ok(Perm::like(meta) != *perm || meta.size != content.len() || !same_bytes(root, path, content)?)
        }
    }
}

fn in_the_way(path: &RootPath, why: &'static str) -> IoError {
    IoError::new("replace", path, io::Error::new(io::ErrorKind::InvalidInput, why))
}

fn same_bytes(root: &Root, path: &RootPath, content: &Content) -> Result<bool, IoError> {
    let Some(file) = root.open_file(path)? else {
        return Ok(false);
    };
    let fail = |error| IoError::new("read", path, error);
    match content {
        Content::Bytes(bytes) => equal(io::BufReader::new(file), bytes.as_slice()).map_err(fail),
        Content::Spool(slice) => {
            let wanted = slice.reader().map_err(fail)?;
            equal(
                io::BufReader::with_capacity(1 << 16, file),
                io::BufReader::with_capacity(1 << 16, wanted),
            )
            .map_err(fail)
        }
    }
}

fn equal(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let got = one.read(&mut left)?;
        if got == 0 {
            return Ok(other.read(&mut right)? == 0);
        }
        match other.read_exact(&mut right[..got]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            done => done?,
        }
        if left[..got] != right[..got] {
            return Ok(false);
        }
    }
}
