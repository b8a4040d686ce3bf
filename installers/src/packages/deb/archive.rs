//! Reads a verified deb: control data into memory, the payload unpacked once into files without a name.
//!
//! Every member is judged here, so that `install` meets only honest ones. Nobody else can reach the unnamed files: what
//! was judged is what will be written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use md5::Md5;
use sha2::{Digest, Sha256};
use ssmbake_manifests::AgentVersion;

use super::ar::{self, ArMember};
use super::control::Paragraph;
use super::database::PACKAGE;
use super::version::upstream;
use crate::error::IoError;
use crate::packages::PackageError;
use crate::root::RootPath;
use crate::txn::SpoolSlice;

/// What one package may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the unpacked payload.
    pub unpacked: u64,
    /// Members of the payload.
    pub members: usize,
}

/// All control files together; the real ones are a few kilobytes.
const CONTROL_LIMIT: u64 = 4 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;
/// PATH_MAX.
const LONG_NAME: u64 = 4096;

/// Large members get a file of their own, which can become the target's without another copy; the many small ones
/// share one.
const OWN_FILE_FROM: u64 = 64 * 1024;
const OWN_FILES: usize = 64;

/// Makes empty files without a name.
pub type MakeSpool<'a> = dyn Fn() -> Result<File, IoError> + 'a;

/// What a payload member is.
#[derive(Debug, Clone)]
pub enum MemberKind {
    /// A directory.
    Dir,
    /// A regular file and its MD5, which dpkg's database speaks.
    File {
        /// Its bytes.
        slice: SpoolSlice,
        /// Digest.
        md5: [u8; 16],
    },
    /// A symbolic link and its text.
    Link(String),
    /// Another name of an earlier member.
    HardLink(RootPath),
}

/// A payload member.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its place in the target.
    pub path: RootPath,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since the epoch.
    pub mtime: i64,
}

/// A package that was read whole and found honest.
#[derive(Debug)]
pub struct DebPackage {
    /// The control paragraph.
    pub control: Paragraph,
    /// The other control files (maintainer scripts, md5sums, conffiles, triggers …) and their mode.
    pub control_files: BTreeMap<String, (Vec<u8>, u32)>,
    /// The paths named in `conffiles`, in order.
    pub conffiles: Vec<String>,
    /// The payload, in archive order; the root directory is left out.
    pub members: Vec<Member>,
    /// Whether the root directory was in it: dpkg's list names it then.
    pub has_root: bool,
}

impl DebPackage {
    /// Reads the package in `file` (`size` bytes), unpacking into files of `spool`.
    pub fn read(file: &File, size: u64, spool: &MakeSpool<'_>, limits: Limits) -> Result<Self, PackageError> {
        let layout = ar::layout(file, size)?;
        let (control, control_files) = read_control(file, &layout.control)?;
        let conffiles = conffile_list(&control_files)?;
        let (members, has_root) = read_payload(file, &layout.data, spool, limits)?;
        Ok(Self {
            control,
            control_files,
            conffiles,
            members,
            has_root,
        })
    }

    /// The package must be the agent, of this version and architecture: a good signature over an older package
    /// would otherwise be a silent downgrade.
    pub fn expect(&self, version: &AgentVersion, arch: &str) -> Result<(), PackageError> {
        let found = upstream(self.control.need("Version")?);
        let pairs = [
            ("Package", PACKAGE, self.control.need("Package")?),
            ("Version", &version.to_string(), found),
            ("Architecture", arch, self.control.need("Architecture")?),
        ];
        for (field, wanted, found) in pairs {
            if wanted != found {
                return Err(PackageError::WrongPackage {
                    field,
                    wanted: wanted.to_owned(),
                    found: found.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The member at `path`.
    pub fn member(&self, path: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.path.as_str() == path)
    }
}

fn malformed(part: &str, why: impl std::fmt::Display) -> PackageError {
    PackageError::Malformed(format!("{part}: {why}"))
}

fn decoder<'a>(file: &'a File, member: &ArMember) -> Result<Box<dyn Read + Send + 'a>, PackageError> {
    let mut source = file;
    source
        .seek(SeekFrom::Start(member.offset))
        .map_err(|error| malformed(&member.name, error))?;
    let source = io::BufReader::with_capacity(CHUNK, source.take(member.size));
    let ending = member.name.split_once(".tar").map_or("", |(_, ending)| ending);
    Ok(match ending {
        "" => Box::new(source),
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        ".xz" => Box::new(lzma_rust2::XzReader::new(source, true)),
        ".zst" => {
            let inner = ruzstd::decoding::StreamingDecoder::new(source);
            Box::new(inner.map_err(|error| malformed(&member.name, error))?)
        }
        _ => {
            return Err(malformed(
                &member.name,
                "its compression is none of none, gz, xz, zst",
            ));
        }
    })
}

type ControlFiles = BTreeMap<String, (Vec<u8>, u32)>;

fn read_control(file: &File, member: &ArMember) -> Result<(Paragraph, ControlFiles), PackageError> {
    let bad = |error: io::Error| malformed(&member.name, error);
    let mut archive = tar::Archive::new(decoder(file, member)?.take(CONTROL_LIMIT));
    let mut files = BTreeMap::new();
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = raw.trim_start_matches("./").to_owned();
        let is_plain = entry.header().entry_type().is_file() && !name.contains('/') && is_info_name(&name);
        if !is_plain {
            return Err(PackageError::Hostile {
                member: raw,
                why: "is no plain control file",
            });
        }
        let mode = entry.header().mode().map_err(bad)? & 0o777;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(bad)?;
        if files.insert(name, (bytes, mode)).is_some() {
            return Err(PackageError::Hostile {
                member: raw,
                why: "stands twice in the archive",
            });
        }
    }
    let (bytes, _) = files
        .remove("control")
        .ok_or_else(|| malformed(&member.name, "there is no `control`"))?;
    let text = String::from_utf8(bytes).map_err(|_| malformed("control", "it is no UTF-8"))?;
    let control = Paragraph::parse(&text).map_err(|why| malformed("control", why))?;
    Ok((control, files))
}

/// The name becomes part of a file name in dpkg's info directory.
fn is_info_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_+".contains(&byte))
}

fn conffile_list(files: &ControlFiles) -> Result<Vec<String>, PackageError> {
    let Some((bytes, _)) = files.get("conffiles") else {
        return Ok(Vec::new());
    };
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("conffiles", "it is no UTF-8"))?;
    let mut paths = Vec::new();
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let path = line.strip_prefix("remove-on-upgrade ").unwrap_or(line);
        RootPath::new(path).map_err(|error| malformed("conffiles", error))?;
        if path == line {
            paths.push(path.to_owned());
        }
    }
    Ok(paths)
}

/// The decoder runs on a thread of its own while this one hashes and writes.
fn read_payload(
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
