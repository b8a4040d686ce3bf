//! The payload of an rpm: every member judged against the header, its bytes hashed and unpacked into files without a
//! name. The header is signed and hashed, the archive repeats it: where the two differ, the package is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use ssmbake_manifests::hex;

use super::archive::FileInfo;
use super::cpio::{CpioMember, CpioReader};
use super::header::Header;
use super::tag;
use crate::packages::PackageError;
use crate::packages::unpack::{
    ChunkReader, Limits, MakeSpool, Member, MemberKind, Seen, Spools, Stretch, decoded, decoder, malformed,
    payload_error, place, spool_file,
};
use crate::positioned::read_exact_at;
use crate::root::RootPath;

const PART: &str = "payload";
const KIND: u32 = 0o170_000;
/// PATH_MAX.
const LONG_LINK: u64 = 4096;

/// A digest by OpenPGP's number.
#[derive(Clone)]
pub(super) enum Hash {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hash {
    /// Packages from before 2009 name none: MD5.
    pub(super) fn new(number: Option<u32>) -> Result<Self, PackageError> {
        Ok(match number.unwrap_or(1) {
            1 => Self::Md5(Md5::new()),
            2 => Self::Sha1(Sha1::new()),
            8 => Self::Sha256(Sha256::new()),
            9 => Self::Sha384(Sha384::new()),
            10 => Self::Sha512(Sha512::new()),
            other => {
                return Err(malformed(
                    "header",
                    format_args!("its digest algorithm {other} is unknown"),
                ));
            }
        })
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hash) => hash.update(bytes),
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha384(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    /// Hex.
    pub(super) fn finish(self) -> String {
        match self {
            Self::Md5(hash) => hex::encode(&hash.finalize()),
            Self::Sha1(hash) => hex::encode(&hash.finalize()),
            Self::Sha256(hash) => hex::encode(&hash.finalize()),
            Self::Sha384(hash) => hex::encode(&hash.finalize()),
            Self::Sha512(hash) => hex::encode(&hash.finalize()),
        }
    }
}

pub(super) fn read_payload(
    file: &File,
    stretch: Stretch,
    header: &Header,
    files: &BTreeMap<RootPath, FileInfo>,
    spool: &MakeSpool<'_>,
    limits: Limits,
) -> Result<Vec<Member>, PackageError> {
    if header
        .string(tag::PAYLOAD_FORMAT)
        .is_some_and(|format| format != "cpio")
    {
        return Err(malformed(PART, "it is no cpio archive"));
    }
    let compression = match header.string(tag::PAYLOAD_COMPRESSOR) {
        Some(named) => named,
        // Unnamed is gzip, and gzip's own library lets through what is not compressed.
        None if is_gzip(file, stretch) => "gzip",
        None => "none",
    };
    let source = decoder(file, stretch, PART, compression)?;
    let hash = Hash::new(header.numbers(tag::FILE_DIGEST_ALGO).first().copied())?;
    let collector = Collector {
        files,
        hash,
        spools: Spools::new(spool, limits.unpacked),
        limits,
        seen: Seen::default(),
        met: BTreeSet::new(),
        waiting: BTreeMap::new(),
        members: Vec::new(),
    };
    decoded(source, limits.unpacked, |reader| collector.collect(reader))
}

fn is_gzip(file: &File, stretch: Stretch) -> bool {
    let mut magic = [0; 2];
    read_exact_at(file, &mut magic, stretch.offset).is_ok() && magic == [0x1f, 0x8b]
}

struct Collector<'a> {
    files: &'a BTreeMap<RootPath, FileInfo>,
    /// Fresh, to be cloned for each file.
    hash: Hash,
    spools: Spools<'a>,
    limits: Limits,
    seen: Seen,
    met: BTreeSet<RootPath>,
    /// Names of hard links that came before their data, by inode.
    waiting: BTreeMap<u32, Vec<RootPath>>,
    members: Vec<Member>,
}

impl Collector<'_> {
    fn collect(mut self, reader: &mut ChunkReader) -> Result<Vec<Member>, PackageError> {
        let limit = self.limits.unpacked;
        let bad = |error: io::Error| payload_error(error, PART, limit);
        let mut archive = CpioReader::new(&mut *reader);
        while let Some(member) = archive.next_member().map_err(bad)? {
            if self.met.len() >= self.limits.members {
                return Err(malformed(
                    PART,
                    format_args!("it has more than {} members", self.limits.members),
                ));
            }
            self.take_in(&member, &mut archive.data(), &bad)?;
        }
        // To the very end, so that the compressor's own checksum is checked.
        io::copy(reader, &mut io::sink()).map_err(bad)?;
        for names in std::mem::take(&mut self.waiting).into_values() {
            self.close_links(&names, &bad)?;
        }
        let missing = self
            .files
            .iter()
            .find(|(path, info)| !info.is_ghost() && !self.met.contains(path));
        match missing {
            Some((path, _)) => Err(malformed(PART, format_args!("`{path}` of the header is missing"))),
            None => Ok(self.members),
        }
    }

    fn take_in(
        &mut self,
        member: &CpioMember,
        data: &mut dyn Read,
        bad: &dyn Fn(io::Error) -> PackageError,
    ) -> Result<(), PackageError> {
        let hostile = |why| PackageError::Hostile {
            member: member.name.chars().take(120).collect(),
            why,
        };
        let path = place(&member.name)
            .map_err(hostile)?
            .ok_or_else(|| hostile("is the root itself"))?;
        let files = self.files;
        let Some(info) = files.get(&path).filter(|info| !info.is_ghost()) else {
            return Err(hostile("is not in the header"));
        };
        if info.mode != member.mode {
            return Err(hostile("has another mode than the header says"));
        }
        if !self.met.insert(path.clone()) {
            return Err(hostile("stands twice in the archive"));
        }
        let kind = match info.mode & KIND {
            0o040_000 => MemberKind::Dir,
            0o120_000 => MemberKind::Link(self.read_link(member, info, data).map_err(hostile)?),
            0o100_000 if member.links > 1 && member.size == 0 => {
                self.waiting.entry(member.inode).or_default().push(path);
                return Ok(());
            }
            0o100_000 if member.size != info.size => {
                return Err(hostile("has another size than the header says"));
            }
            0o100_000 => self.read_file(&path, info, data, bad)?,
            0o060_000 | 0o020_000 => return Err(hostile("is a device node")),
            0o010_000 => return Err(hostile("is a fifo")),
            _ => return Err(hostile("is of a kind that packages do not have")),
        };
        self.admit(path.clone(), info, kind)?;
        if member.links > 1 {
            for other in self.waiting.remove(&member.inode).unwrap_or_default() {
                self.admit_link(other, &path)?;
            }
        }
        Ok(())
    }

    fn read_link(
        &self,
        member: &CpioMember,
        info: &FileInfo,
        data: &mut dyn Read,
    ) -> Result<String, &'static str> {
        let mut bytes = Vec::new();
        let is_read =
            data.take(LONG_LINK).read_to_end(&mut bytes).is_ok() && bytes.len() as u64 == member.size;
        match String::from_utf8(bytes) {
            Ok(text) if is_read && !text.is_empty() && text == info.link => Ok(text),
            _ => Err("has another link text than the header says"),
        }
    }

    fn read_file(
        &mut self,
        path: &RootPath,
        info: &FileInfo,
        data: &mut dyn Read,
        bad: &dyn Fn(io::Error) -> PackageError,
    ) -> Result<MemberKind, PackageError> {
        let mut hash = self.hash.clone();
        // The spool's own digest is SHA-256 already: not twice.
        let is_sha256 = matches!(hash, Hash::Sha256(_));
        let mut update = |bytes: &[u8]| {
            if !is_sha256 {
                hash.update(bytes)
            }
        };
        let slice = spool_file(data, info.size, &mut self.spools, &mut update, bad)?;
        let digest = if is_sha256 {
            hex::encode(&slice.sha256)
        } else {
            hash.finish()
        };
        if digest != info.digest {
            return Err(malformed(
                PART,
                format_args!("the digest of `{path}` is another than the header says"),
            ));
        }
        let digest = digest.into_bytes();
        Ok(MemberKind::File { slice, digest })
    }

    /// Hard links whose data never came: honest only if the files are empty.
    fn close_links(
        &mut self,
        names: &[RootPath],
        bad: &dyn Fn(io::Error) -> PackageError,
    ) -> Result<(), PackageError> {
        let Some((first, others)) = names.split_first() else {
            return Ok(());
        };
        let files = self.files;
        let Some(info) = files.get(first).filter(|info| info.size == 0) else {
            return Err(malformed(
                PART,
                format_args!("`{first}` is a hard link without data"),
            ));
        };
        let kind = self.read_file(first, info, &mut io::empty(), bad)?;
        self.admit(first.clone(), info, kind)?;
        others
            .iter()
            .try_for_each(|other| self.admit_link(other.clone(), first))
    }

    fn admit_link(&mut self, path: RootPath, to: &RootPath) -> Result<(), PackageError> {
        let files = self.files;
        let (Some(info), Some(first)) = (files.get(&path), files.get(to)) else {
            return Ok(());
        };
        if (info.size, &info.digest, info.mode) != (first.size, &first.digest, first.mode) {
            return Err(malformed(
                PART,
                format_args!("`{path}` and `{to}` are one file and differ in the header"),
            ));
        }
        self.admit(path, info, MemberKind::HardLink(to.clone()))
    }

    fn admit(&mut self, path: RootPath, info: &FileInfo, kind: MemberKind) -> Result<(), PackageError> {
        let member = Member {
            path,
            kind,
            mode: info.mode & 0o7777,
            // Names become numbers in the tree, by its own lists.
            uid: 0,
            gid: 0,
            mtime: info.mtime,
        };
        self.seen.admit(&member)?;
        self.members.push(member);
        Ok(())
    }
}
