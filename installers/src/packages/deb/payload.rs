//! The payload of a deb: every member judged, its bytes hashed and unpacked into files without a name.

use std::fs::File;
use std::io::{self, Read};

use md5::{Digest, Md5};

use super::ar::ArMember;
use super::archive::decoder;
use crate::packages::PackageError;
use crate::packages::unpack::{
    ChunkReader, Limits, MakeSpool, Member, MemberKind, Seen, Spools, decoded, malformed, payload_error,
    place, spool_file,
};

/// PATH_MAX.
const LONG_NAME: u64 = 4096;

pub(super) fn read_payload(
    file: &File,
    member: &ArMember,
    spool: &MakeSpool<'_>,
    limits: Limits,
) -> Result<(Vec<Member>, bool), PackageError> {
    let mut spools = Spools::new(spool, limits.unpacked);
    decoded(decoder(file, member)?, limits.unpacked, |reader| {
        collect(reader, &mut spools, limits, &member.name)
    })
}

fn collect(
    reader: &mut ChunkReader,
    spools: &mut Spools<'_>,
    limits: Limits,
    name: &str,
) -> Result<(Vec<Member>, bool), PackageError> {
    let bad = |error: io::Error| payload_error(error, name, limits.unpacked);
    let mut members: Vec<Member> = Vec::new();
    let mut seen = Seen::default();
    let mut has_root = false;
    let mut archive = tar::Archive::new(&mut *reader);
    let mut long = LongNames::default();
    // Raw: the tar crate would read a long name of any size into memory.
    for entry in archive.entries().map_err(bad)?.raw(true) {
        let mut entry = entry.map_err(bad)?;
        if long.take_in(&mut entry, &bad)? {
            continue;
        }
        if members.len() >= limits.members {
            return Err(malformed(
                name,
                format_args!("it has more than {} members", limits.members),
            ));
        }
        match read_member(&mut entry, std::mem::take(&mut long), spools, &bad)? {
            Some(member) => {
                seen.admit(&member)?;
                members.push(member);
            }
            None => has_root = true,
        }
    }
    // To the very end, so that the compressor's own checksum is checked.
    io::copy(reader, &mut io::sink()).map_err(bad)?;
    Ok((members, has_root))
}

/// Names of more than 100 bytes stand in entries of their own before the member, as GNU tar and dpkg do it.
#[derive(Default)]
struct LongNames {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl LongNames {
    /// Whether `entry` was such a name.
    fn take_in<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        bad: &dyn Fn(io::Error) -> PackageError,
    ) -> Result<bool, PackageError> {
        let place = match entry.header().entry_type() {
            tar::EntryType::GNULongName => &mut self.path,
            tar::EntryType::GNULongLink => &mut self.link,
            _ => return Ok(false),
        };
        let mut bytes = Vec::new();
        entry.take(LONG_NAME + 1).read_to_end(&mut bytes).map_err(bad)?;
        if bytes.len() as u64 > LONG_NAME {
            return Err(PackageError::Hostile {
                member: "(a long name)".to_owned(),
                why: "is longer than any path may be",
            });
        }
        bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len()));
        *place = Some(bytes);
        Ok(true)
    }
}

fn read_member<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    long: LongNames,
    spools: &mut Spools<'_>,
    bad: &dyn Fn(io::Error) -> PackageError,
) -> Result<Option<Member>, PackageError> {
    use tar::EntryType;
    let path_bytes = long.path.unwrap_or_else(|| entry.path_bytes().into_owned());
    let raw = String::from_utf8_lossy(&path_bytes).into_owned();
    let link = |entry: &tar::Entry<'_, R>| {
        let bytes = long
            .link
            .or_else(|| entry.link_name_bytes().map(|name| name.into_owned()))?;
        String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
    };
    let hostile = |why| PackageError::Hostile {
        member: raw.chars().take(120).collect(),
        why,
    };
    let Some(path) = place(&raw).map_err(hostile)? else {
        return Ok(None);
    };
    let header = entry.header();
    let (mode, mtime) = (header.mode().map_err(bad)?, header.mtime().map_err(bad)?);
    let (uid, gid) = (header.uid().map_err(bad)?, header.gid().map_err(bad)?);
    // Packages built without fakeroot carry the builder's numbers; dpkg goes by the name.
    let owner = |name: Option<&[u8]>, id: u64| if name == Some(b"root") { 0 } else { id };
    let (uid, gid) = (
        owner(header.username_bytes(), uid),
        owner(header.groupname_bytes(), gid),
    );
    let kind = match header.entry_type() {
        EntryType::Directory => MemberKind::Dir,
        EntryType::Regular | EntryType::Continuous => read_file(entry, spools, bad)?,
        EntryType::Symlink => {
            MemberKind::Link(link(entry).ok_or_else(|| hostile("has a link text that is no UTF-8"))?)
        }
        EntryType::Link => {
            let text = link(entry).ok_or_else(|| hostile("has a link text that is no UTF-8"))?;
            MemberKind::HardLink(
                place(&text)
                    .map_err(hostile)?
                    .ok_or_else(|| hostile("links to the root"))?,
            )
        }
        EntryType::Block | EntryType::Char => return Err(hostile("is a device node")),
        EntryType::Fifo => return Err(hostile("is a fifo")),
        _ => return Err(hostile("is of a kind that packages do not have")),
    };
    let (Ok(uid), Ok(gid), Ok(mtime)) = (u32::try_from(uid), u32::try_from(gid), i64::try_from(mtime)) else {
        return Err(hostile("has an owner or time out of range"));
    };
    Ok(Some(Member {
        path,
        kind,
        mode: mode & 0o7777,
        uid,
        gid,
        mtime,
    }))
}

fn read_file<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    spools: &mut Spools<'_>,
    bad: &dyn Fn(io::Error) -> PackageError,
) -> Result<MemberKind, PackageError> {
    let len = entry.size();
    let mut md5 = Md5::new();
    let slice = spool_file(entry, len, spools, &mut |bytes| md5.update(bytes), bad)?;
    Ok(MemberKind::File {
        slice,
        digest: md5.finalize().to_vec(),
    })
}
