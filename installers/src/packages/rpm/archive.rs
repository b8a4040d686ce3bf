//! Reads a verified rpm: its two headers into memory, the payload unpacked once into files without a name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ssmbake_manifests::{AgentVersion, hex};

use super::header::Header;
use super::payload::{self, Hash};
use super::tag::{self, file_flag};
use crate::packages::unpack::{Limits, MakeSpool, Member, Stretch, malformed};
use crate::packages::{PACKAGE, PackageError};
use crate::positioned::read_exact_at;
use crate::root::RootPath;
use crate::txn::SpoolSlice;

const LEAD: u64 = 96;
const LEAD_MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// AWS's main header takes about 30 kB.
const HEADER_LIMIT: usize = 16 * 1024 * 1024;

/// A file as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileInfo {
    /// `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since the epoch.
    pub mtime: i64,
    /// Hex; empty for what is no regular file.
    pub digest: String,
    /// Text of a symbolic link.
    pub link: String,
    /// See [`file_flag`].
    pub flags: u32,
    /// Owner.
    pub user: String,
    /// Group.
    pub group: String,
}

impl FileInfo {
    /// Whether it is `%config`.
    pub fn is_config(&self) -> bool {
        self.flags & file_flag::CONFIG != 0
    }

    /// Whether it is owned and not shipped.
    pub fn is_ghost(&self) -> bool {
        self.flags & file_flag::GHOST != 0
    }
}

/// The files of a header, by path.
pub fn files(header: &Header) -> Result<BTreeMap<RootPath, FileInfo>, PackageError> {
    let lie = |what: &str| {
        malformed(
            "header",
            format_args!("its lists of files differ in length: {what}"),
        )
    };
    let names = header.strings(tag::BASE_NAMES);
    let (dirs, dir_of) = (header.strings(tag::DIR_NAMES), header.numbers(tag::DIR_INDEXES));
    let sizes: Vec<u64> = match header.has(tag::LONG_FILE_SIZES) {
        true => header.long_numbers(tag::LONG_FILE_SIZES),
        false => header
            .numbers(tag::FILE_SIZES)
            .into_iter()
            .map(u64::from)
            .collect(),
    };
    let (modes, times) = (header.numbers(tag::FILE_MODES), header.numbers(tag::FILE_MTIMES));
    let (digests, links) = (
        header.strings(tag::FILE_DIGESTS),
        header.strings(tag::FILE_LINK_TOS),
    );
    let (users, groups) = (header.strings(tag::FILE_USERS), header.strings(tag::FILE_GROUPS));
    let flags = header.numbers(tag::FILE_FLAGS);
    let lengths = [dir_of.len(), sizes.len(), modes.len(), times.len(), digests.len()];
    let lengths = lengths
        .into_iter()
        .chain([links.len(), users.len(), groups.len(), flags.len()]);
    if lengths.into_iter().any(|len| len != names.len()) {
        return Err(lie("names and the rest"));
    }
    let mut files = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let dir = dirs
            .get(dir_of[index] as usize)
            .ok_or_else(|| lie("directories"))?;
        let text = format!("{dir}{name}");
        let hostile = |why| PackageError::Hostile {
            member: text.chars().take(120).collect(),
            why,
        };
        let is_plain = dir.starts_with('/') && dir.ends_with('/') && !name.is_empty() && !name.contains('/');
        let path = RootPath::new(&text)
            .ok()
            .filter(|path| is_plain && path.as_str() == text);
        let path = path.ok_or_else(|| hostile("has a path that is not plain"))?;
        let info = FileInfo {
            mode: modes[index],
            size: sizes[index],
            mtime: i64::from(times[index]),
            digest: digests[index].to_owned(),
            link: links[index].to_owned(),
            flags: flags[index],
            user: users[index].to_owned(),
            group: groups[index].to_owned(),
        };
        if files.insert(path, info).is_some() {
            return Err(hostile("stands twice in the header"));
        }
    }
    Ok(files)
}

/// A package that was read whole and found honest.
#[derive(Debug)]
pub struct RpmPackage {
    /// The main header.
    pub header: Header,
    /// The signature header.
    pub signature: Header,
    /// The files, ghosts among them.
    pub files: BTreeMap<RootPath, FileInfo>,
    /// The payload, in archive order.
    pub members: Vec<Member>,
    /// The package file itself, for those who register it later.
    pub whole: SpoolSlice,
    /// Where the main header begins and how long it is: what embedded signatures are over.
    header_stretch: Stretch,
}

impl RpmPackage {
    /// Reads the package that is `whole`, unpacking into files of `spool`.
    pub fn read(whole: SpoolSlice, spool: &MakeSpool<'_>, limits: Limits) -> Result<Self, PackageError> {
        let (file, size): (&File, u64) = (&whole.spool, whole.len);
        let (signature, after) = read_signature(file)?;
        let (header, header_stretch) = read_header(file, after, &signature)?;
        if !header.has(tag::SOURCE_RPM) {
            return Err(malformed("header", "it is a source package"));
        }
        let offset = header_stretch.offset + header_stretch.len;
        let stretch = Stretch {
            offset,
            len: size
                .checked_sub(offset)
                .ok_or_else(|| malformed("payload", "it is missing"))?,
        };
        check_size(&signature, size - header_stretch.offset)?;
        check_payload_digest(file, stretch, &header)?;
        let files = files(&header)?;
        let has_caps = header.strings(tag::FILE_CAPS).iter().any(|caps| !caps.is_empty());
        if has_caps {
            return Err(malformed(
                "header",
                "it has files with capabilities, which the agent's never had",
            ));
        }
        let members = payload::read_payload(file, stretch, &header, &files, spool, limits)?;
        Ok(Self {
            header,
            signature,
            files,
            members,
            whole,
            header_stretch,
        })
    }

    /// The package must be the agent, of this version and architecture: a good signature over an older package
    /// would otherwise be a silent downgrade.
    pub fn expect(&self, version: &AgentVersion, archs: &[&str]) -> Result<(), PackageError> {
        let text = |tag| self.header.string(tag).unwrap_or_default();
        let pairs = [
            ("Name", PACKAGE, text(tag::NAME)),
            ("Version", &version.to_string(), text(tag::VERSION)),
            ("Arch", &archs.join(" or "), text(tag::ARCH)),
        ];
        for (field, wanted, found) in pairs {
            if !wanted.split(" or ").any(|one| one == found) {
                return Err(PackageError::WrongPackage {
                    field,
                    wanted: wanted.to_owned(),
                    found: found.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// The embedded OpenPGP signatures over the main header, and the bytes they are over.
    pub fn embedded_signatures(&self) -> Result<(Vec<Vec<u8>>, Vec<u8>), PackageError> {
        let found = [tag::RSA_HEADER, tag::DSA_HEADER].into_iter();
        let signatures = found
            .filter_map(|tag| self.signature.binary(tag))
            .map(<[u8]>::to_vec);
        let mut bytes = vec![0; usize::try_from(self.header_stretch.len).unwrap_or(0)];
        read_exact_at(&self.whole.spool, &mut bytes, self.header_stretch.offset)
            .map_err(|error| malformed("header", error))?;
        Ok((signatures.collect(), bytes))
    }
}

/// The headers of a package file, without its payload: what it is.
pub fn main_header(file: &File) -> Result<Header, PackageError> {
    let (signature, after) = read_signature(file)?;
    Ok(read_header(file, after, &signature)?.0)
}

fn read_signature(file: &File) -> Result<(Header, u64), PackageError> {
    let mut lead = [0; LEAD as usize];
    read_exact_at(file, &mut lead, 0).map_err(|error| malformed("lead", error))?;
    if lead[..4] != LEAD_MAGIC || lead[6..8] != [0, 0] {
        return Err(malformed("lead", "it is no binary rpm"));
    }
    let bytes = read_packaged(file, LEAD)?;
    let end = LEAD + bytes.len() as u64;
    let signature = Header::packaged(&bytes, tag::HEADER_SIGNATURES);
    // The signature header alone is padded.
    Ok((
        signature.map_err(|why| malformed("signature header", why))?,
        end.next_multiple_of(8),
    ))
}

fn read_packaged(file: &File, offset: u64) -> Result<Vec<u8>, PackageError> {
    let mut start = [0; 16];
    let bad = |error| malformed("header", error);
    read_exact_at(file, &mut start, offset).map_err(bad)?;
    let len = Header::packaged_len(&start).map_err(|why| malformed("header", why))?;
    if len > HEADER_LIMIT {
        return Err(malformed("header", format_args!("it promises {len} bytes")));
    }
    let mut bytes = vec![0; len];
    read_exact_at(file, &mut bytes, offset).map_err(bad)?;
    Ok(bytes)
}

fn read_header(file: &File, offset: u64, signature: &Header) -> Result<(Header, Stretch), PackageError> {
    let bytes = read_packaged(file, offset)?;
    let digests = [
        (tag::SHA256_HEADER, hex::encode(&Sha256::digest(&bytes))),
        (tag::SHA1_HEADER, hex::encode(&Sha1::digest(&bytes))),
    ];
    for (tag, computed) in digests {
        if signature.string(tag).is_some_and(|said| said != computed) {
            return Err(malformed(
                "header",
                "its digest is another than the signature header says",
            ));
        }
    }
    let header = Header::packaged(&bytes, tag::HEADER_IMMUTABLE).map_err(|why| malformed("header", why))?;
    let len = bytes.len() as u64;
    Ok((header, Stretch { offset, len }))
}

fn check_size(signature: &Header, found: u64) -> Result<(), PackageError> {
    // By its number in the signature header.
    let said = signature.numbers(1000).first().map(|size| u64::from(*size));
    match said.is_some_and(|said| said != found) {
        true => Err(malformed(
            "package",
            "its size is another than the signature header says",
        )),
        false => Ok(()),
    }
}

fn check_payload_digest(file: &File, stretch: Stretch, header: &Header) -> Result<(), PackageError> {
    let Some(said) = header.string(tag::PAYLOAD_DIGEST) else {
        return Ok(());
    };
    let number = header.numbers(tag::PAYLOAD_DIGEST_ALGO).first().copied();
    let mut hash = Hash::new(number)?;
    let mut source = crate::packages::unpack::decoder(file, stretch, "payload", "none")?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let got = source
            .read(&mut buffer)
            .map_err(|error| malformed("payload", error))?;
        if got == 0 {
            break;
        }
        hash.update(&buffer[..got]);
    }
    if hash.finish() != said {
        return Err(malformed("payload", "its digest is another than the header says"));
    }
    Ok(())
}
