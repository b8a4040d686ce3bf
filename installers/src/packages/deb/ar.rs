//! The outer archive of a deb: `debian-binary`, one control member, one data member, and not a byte more.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::packages::PackageError;

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: usize = 60;

/// Where a member lies in the file, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ArMember {
    pub(super) name: String,
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// The control and the data member.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) control: ArMember,
    pub(super) data: ArMember,
}

/// Reads the member headers of `file`, `size` bytes long.
pub(super) fn layout(mut file: &File, size: u64) -> Result<Layout, PackageError> {
    let fail = |error: io::Error| PackageError::Malformed(format!("it is cut short: {error}"));
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut magic = [0; 8];
    file.read_exact(&mut magic).map_err(fail)?;
    if &magic != MAGIC {
        return Err(PackageError::Malformed("it is no ar archive".to_owned()));
    }
    let mut members = Vec::new();
    let mut at = MAGIC.len() as u64;
    while at < size && members.len() < 4 {
        file.seek(SeekFrom::Start(at)).map_err(fail)?;
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(fail)?;
        let member = parse_header(&header, at + HEADER as u64)?;
        at = member.offset + member.size + member.size % 2;
        // The padding of an odd last member may be missing, as ar itself allows.
        if member.offset + member.size > size {
            return Err(PackageError::Malformed(format!(
                "member `{}` is cut short",
                member.name
            )));
        }
        members.push(member);
    }
    let version = read_version(file, members.first())?;
    arrange(members, at >= size, &version)
}

fn parse_header(header: &[u8; HEADER], offset: u64) -> Result<ArMember, PackageError> {
    let bad = || PackageError::Malformed("it has a damaged ar header".to_owned());
    if &header[58..] != b"`\n" {
        return Err(bad());
    }
    let name = std::str::from_utf8(&header[..16])
        .map_err(|_| bad())?
        .trim_end()
        .trim_end_matches('/');
    let size = std::str::from_utf8(&header[48..58])
        .map_err(|_| bad())?
        .trim_end();
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    Ok(ArMember {
        name: name.to_owned(),
        offset,
        size: size.parse().map_err(|_| bad())?,
    })
}

fn read_version(mut file: &File, first: Option<&ArMember>) -> Result<String, PackageError> {
    let member = first
        .filter(|member| member.name == "debian-binary" && member.size <= 64)
        .ok_or_else(|| PackageError::Malformed("its first member is not `debian-binary`".to_owned()))?;
    let fail = |error: io::Error| PackageError::Malformed(format!("it is cut short: {error}"));
    file.seek(SeekFrom::Start(member.offset)).map_err(fail)?;
    let mut text = String::new();
    file.take(member.size).read_to_string(&mut text).map_err(fail)?;
    Ok(text)
}

fn arrange(members: Vec<ArMember>, at_end: bool, version: &str) -> Result<Layout, PackageError> {
    if !version.starts_with("2.") || !version.ends_with('\n') {
        return Err(PackageError::Malformed(format!(
            "its format is `{}`, not 2.x",
            version.trim()
        )));
    }
    let mut rest = members.into_iter().skip(1);
    let (control, data) = (rest.next(), rest.next());
    match (control, data, rest.next()) {
        (Some(control), Some(data), None) if at_end => {
            if !control.name.starts_with("control.tar") || !data.name.starts_with("data.tar") {
                let why = format!("its members are `{}` and `{}`", control.name, data.name);
                return Err(PackageError::Malformed(why));
            }
            Ok(Layout { control, data })
        }
        (Some(_), Some(_), _) => Err(PackageError::Malformed("bytes follow its data member".to_owned())),
        _ => Err(PackageError::Malformed(
            "it lacks a control or data member".to_owned(),
        )),
    }
}
