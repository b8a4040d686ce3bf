//! Reads a verified deb: control data into memory, the payload unpacked once into files without a name.
//!
//! Every member is judged here, so that `install` meets only honest ones. Nobody else can reach the unnamed files: what
//! was judged is what will be written.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use ssmbake_manifests::AgentVersion;

use super::ar::{self, ArMember};
use super::control::Paragraph;
use super::payload::read_payload;
use super::version::upstream;
use crate::packages::unpack::{self, Limits, MakeSpool, Member, Stretch, malformed};
use crate::packages::{PACKAGE, PackageError};
use crate::root::RootPath;

/// All control files together; the real ones are a few kilobytes.
const CONTROL_LIMIT: u64 = 4 * 1024 * 1024;

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

pub(super) fn decoder<'a>(
    file: &'a File,
    member: &ArMember,
) -> Result<Box<dyn Read + Send + 'a>, PackageError> {
    let ending = member.name.split_once(".tar").map_or("", |(_, ending)| ending);
    let stretch = Stretch {
        offset: member.offset,
        len: member.size,
    };
    unpack::decoder(file, stretch, &member.name, ending.trim_start_matches('.'))
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
