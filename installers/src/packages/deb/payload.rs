//! The payload of a deb: every member judged, its bytes hashed and unpacked into files without a name.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use md5::Md5;
use sha2::{Digest, Sha256};

use super::ar::ArMember;
use super::archive::{CHUNK, Limits, MakeSpool, Member, MemberKind, decoder, malformed};
use crate::error::IoError;
use crate::packages::PackageError;
use crate::root::RootPath;
use crate::txn::SpoolSlice;

/// PATH_MAX.
const LONG_NAME: u64 = 4096;
/// Large members get a file of their own, which can become the target's without another copy; the many small ones
/// share one.
const OWN_FILE_FROM: u64 = 64 * 1024;
const OWN_FILES: usize = 64;

/// The decoder runs on a thread of its own while this one hashes and writes.
pub(super) fn read_payload(
    file: &File,
    member: &ArMember,
    spool: &MakeSpool<'_>,
    limits: Limits,
) -> Result<(Vec<Member>, bool), PackageError> {
    let source = decoder(file, member)?;
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(8);
        scope.spawn(move || pump(source, &sender));
        let reader = ChunkReader {
            receiver,
            chunk: Vec::new(),
            at: 0,
            total: 0,
            limit: limits.unpacked,
        };
        collect(
            reader,
            &mut Spools::new(spool, limits.unpacked),
            limits,
            &member.name,
        )
    })
}

fn pump(mut source: Box<dyn Read + Send + '_>, sender: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let message = match source.read(&mut chunk) {
            Ok(0) => return,
            Ok(got) => {
                chunk.truncate(got);
                Ok(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = message.is_err();
        // A closed channel means that the reader has found a reason to stop.
        if sender.send(message).is_err() || is_last {
            return;
        }
    }
}

/// Passes the decoded bytes on, up to the limit.
struct ChunkReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
    total: u64,
    limit: u64,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.receiver.recv() {
                Err(_) => return Ok(0),
                Ok(chunk) => self.chunk = chunk?,
            }
            self.at = 0;
            self.total += self.chunk.len() as u64;
            if self.total > self.limit {
                return Err(io::Error::other(OverLimit));
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("over the limit")]
struct OverLimit;

/// Our own error travels through the tar reader inside an `io::Error`.
fn payload_error(error: io::Error, name: &str, limit: u64) -> PackageError {
    let mut inner: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(cause) = inner {
        if cause.is::<OverLimit>() {
            return PackageError::TooLarge { limit };
        }
        let wrapped = cause
            .downcast_ref::<io::Error>()
            .and_then(|error| error.get_ref());
        inner = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        };
    }
    malformed(name, error)
}

/// The unnamed files of one package.
struct Spools<'a> {
    make: &'a MakeSpool<'a>,
    own: usize,
    shared: Option<Arc<File>>,
    /// Bytes in the shared file.
    used: u64,
    /// Bytes that may still come.
    left: u64,
    limit: u64,
}

/// Where one member's bytes go.
struct Place {
    file: Arc<File>,
    offset: u64,
    is_whole: bool,
}

impl<'a> Spools<'a> {
    fn new(make: &'a MakeSpool<'a>, limit: u64) -> Self {
        Self {
            make,
            own: 0,
            shared: None,
            used: 0,
            left: limit,
            limit,
        }
    }

    /// A bomb is found by what its headers promise, before a byte of it is written.
    fn place(&mut self, len: u64) -> Result<Place, PackageError> {
        let limit = self.limit;
        self.left = self
            .left
            .checked_sub(len)
            .ok_or(PackageError::TooLarge { limit })?;
        if len >= OWN_FILE_FROM && self.own < OWN_FILES {
            self.own += 1;
            return Ok(Place {
                file: Arc::new((self.make)()?),
                offset: 0,
                is_whole: true,
            });
        }
        let file = match &self.shared {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.shared.insert(Arc::new((self.make)()?))),
        };
        let offset = self.used;
        self.used += len;
        Ok(Place {
            file,
            offset,
            is_whole: false,
        })
    }
}

fn collect(
    mut reader: ChunkReader,
    spools: &mut Spools<'_>,
    limits: Limits,
    name: &str,
) -> Result<(Vec<Member>, bool), PackageError> {
    let bad = |error: io::Error| payload_error(error, name, limits.unpacked);
    let mut members: Vec<Member> = Vec::new();
    let mut seen = Seen::default();
    let mut has_root = false;
    let mut archive = tar::Archive::new(&mut reader);
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
    io::copy(&mut reader, &mut io::sink()).map_err(bad)?;
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

/// `./usr/bin/x` → `/usr/bin/x`; the root directory itself is none.
fn place(raw: &str) -> Result<Option<RootPath>, &'static str> {
    if raw.starts_with('/') {
        return Err("has an absolute path");
    }
    let inner = raw.strip_prefix("./").unwrap_or(raw).trim_end_matches('/');
    if inner.is_empty() || inner == "." {
        return Ok(None);
    }
    if inner.split('/').any(|part| part == "..") {
        return Err("leads out of the root with `..`");
    }
    RootPath::new(&format!("/{inner}"))
        .map(Some)
        .map_err(|_| "has a path that is not plain")
}

fn read_file<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    spools: &mut Spools<'_>,
    bad: &dyn Fn(io::Error) -> PackageError,
) -> Result<MemberKind, PackageError> {
    let len = entry.size();
    let place = spools.place(len)?;
    let (mut sha256, mut md5) = (Sha256::new(), Md5::new());
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let got = entry.read(&mut buffer).map_err(bad)?;
        if got == 0 {
            break;
        }
        total += got as u64;
        // A full disk is not the package's fault.
        let mut file: &File = &place.file;
        file.write_all(&buffer[..got])
            .map_err(|error| IoError::new("unpack into", "a temporary file", error))?;
        sha256.update(&buffer[..got]);
        md5.update(&buffer[..got]);
    }
    if total != len {
        return Err(bad(io::ErrorKind::UnexpectedEof.into()));
    }
    let slice = SpoolSlice {
        spool: place.file,
        offset: place.offset,
        len,
        sha256: sha256.finalize().into(),
        is_whole: place.is_whole,
    };
    Ok(MemberKind::File {
        slice,
        md5: md5.finalize().into(),
    })
}

/// What the members so far rule out for the next.
#[derive(Default)]
struct Seen {
    paths: BTreeSet<RootPath>,
    files: BTreeSet<RootPath>,
    not_dirs: BTreeSet<RootPath>,
    /// Every directory that a member lies below.
    above: BTreeSet<RootPath>,
}

impl Seen {
    fn admit(&mut self, member: &Member) -> Result<(), PackageError> {
        let hostile = |why| {
            Err(PackageError::Hostile {
                member: member.path.to_string(),
                why,
            })
        };
        if !self.paths.insert(member.path.clone()) {
            return hostile("stands twice in the archive");
        }
        let mut above = member.path.parent();
        while let Some(dir) = above {
            if self.not_dirs.contains(&dir) {
                return hostile("lies below a member that is no directory");
            }
            above = dir.parent();
            self.above.insert(dir);
        }
        match &member.kind {
            MemberKind::Dir => {}
            MemberKind::HardLink(to) if !self.files.contains(to) => {
                return hostile("is a hard link to no member");
            }
            kind => {
                if matches!(kind, MemberKind::File { .. }) {
                    self.files.insert(member.path.clone());
                }
                // A link that stands where earlier members went through is as bad as the other order.
                if self.above.contains(&member.path) {
                    return hostile("replaces a directory of earlier members");
                }
                self.not_dirs.insert(member.path.clone());
            }
        }
        Ok(())
    }
}
