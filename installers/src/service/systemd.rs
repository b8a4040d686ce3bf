//! systemd units in a tree that does not run: what `systemctl --root enable` and `is-enabled` would do and say.

use std::collections::BTreeMap;
use std::io;

use super::Enablement;
use crate::error::IoError;
use crate::root::{Kind, Last, Root, RootPath};
use crate::txn::{ChangeSet, OnLink, Want};

/// The administrator's directory: enablement links, masks and overriding units.
pub const ADMIN_DIR: &str = "/etc/systemd/system";
/// Where units are looked for, the first match wins (systemd.unit(5); /run is empty in an image).
const SEARCH: [&str; 4] = [
    ADMIN_DIR,
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
];
const UNIT_LIMIT: usize = 256 * 1024;

/// The `[Install]` section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Install {
    /// Directories of links: `multi-user.target.wants` and the like.
    pub link_dirs: Vec<String>,
    /// Other names of the unit.
    pub aliases: Vec<String>,
}

/// Reads the `[Install]` section of a unit file.
pub fn parse_install(text: &str) -> Install {
    let mut install = Install::default();
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| section == "[Install]") else {
            continue;
        };
        // Only plain unit names: the text becomes a path.
        let names = value
            .split_whitespace()
            .filter(|name| !name.contains('/') && !name.starts_with('.'));
        match key.trim() {
            "WantedBy" => install
                .link_dirs
                .extend(names.map(|name| format!("{name}.wants"))),
            "RequiredBy" => install
                .link_dirs
                .extend(names.map(|name| format!("{name}.requires"))),
            "Alias" => install.aliases.extend(names.map(str::to_owned)),
            _ => {}
        }
    }
    install
}

/// Whether `unit` starts at boot.
pub fn state(root: &Root, unit: &str) -> Result<Enablement, IoError> {
    let admin = path(ADMIN_DIR, unit)?;
    if is_mask(root, &admin)? {
        return Ok(Enablement::Masked(admin));
    }
    let Some(file) = find(root, unit)? else {
        return Ok(Enablement::Missing);
    };
    let bytes = root.read(&file, UNIT_LIMIT)?.unwrap_or_default();
    let install = parse_install(&String::from_utf8_lossy(&bytes));
    for dir in &install.link_dirs {
        for base in SEARCH {
            let link = path(base, dir)?
                .join(unit)
                .map_err(|error| invalid(unit, error))?;
            if root
                .meta(&link, Last::Keep)?
                .is_some_and(|meta| meta.kind == Kind::Link)
            {
                return Ok(Enablement::Enabled(link));
            }
        }
    }
    Ok(Enablement::Disabled)
}

/// The unit file in force, if there is one.
pub fn find(root: &Root, unit: &str) -> Result<Option<RootPath>, IoError> {
    for base in SEARCH {
        let place = path(base, unit)?;
        if root
            .meta(&place, Last::Follow)?
            .is_some_and(|meta| meta.kind == Kind::File)
        {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// The drop-ins of `unit` in the order in which they count: by name, wherever they are; of one name the administrator's.
pub(crate) fn drop_ins(root: &Root, unit: &str) -> Result<Vec<RootPath>, IoError> {
    let mut found = BTreeMap::new();
    for base in [ADMIN_DIR, "/run/systemd/system"].iter().chain(&SEARCH[1..]) {
        let dir = path(base, &format!("{unit}.d"))?;
        for entry in root.read_dir(&dir)?.unwrap_or_default() {
            if let (true, Ok(place)) = (entry.name.ends_with(".conf"), dir.join(&entry.name)) {
                found.entry(entry.name).or_insert(place);
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Adds the links that enable `unit`. `set` may hold the unit file already; `unit_dir` is the directory that this
/// release's systemctl names in its links.
pub fn enable(root: &Root, unit: &str, unit_dir: Option<&str>, set: &mut ChangeSet) -> Result<(), IoError> {
    let mut found = None;
    for base in SEARCH {
        let place = path(base, unit)?;
        if let Some(bytes) = set.read(root, &place, UNIT_LIMIT)? {
            found = Some((base, place, bytes));
            break;
        }
    }
    let Some((base, place, bytes)) = found else {
        return Err(IoError::new(
            "find unit",
            unit,
            io::Error::from(io::ErrorKind::NotFound),
        ));
    };
    let install = parse_install(&String::from_utf8_lossy(&bytes));
    let is_vendor = base.ends_with("/lib/systemd/system") && base != "/usr/local/lib/systemd/system";
    let target = match unit_dir.filter(|_| is_vendor) {
        Some(dir) => format!("{dir}/{unit}"),
        None => place.as_str().to_owned(),
    };
    for dir in &install.link_dirs {
        let dir = path(ADMIN_DIR, dir)?;
        let link = dir.join(unit).map_err(|error| invalid(unit, error))?;
        if root.meta(&link, Last::Keep)?.is_none() {
            set.put(root, &link, OnLink::Replace, Want::link(target.clone()))?;
        }
    }
    for alias in &install.aliases {
        let link = path(ADMIN_DIR, alias)?;
        if root.meta(&link, Last::Keep)?.is_none() {
            set.put(root, &link, OnLink::Replace, Want::link(target.clone()))?;
        }
    }
    Ok(())
}

/// A link to /dev/null or an empty file in the administrator's directory.
fn is_mask(root: &Root, place: &RootPath) -> Result<bool, IoError> {
    match root.meta(place, Last::Keep)? {
        Some(meta) if meta.kind == Kind::Link => {
            let target = root.read_link(place)?.unwrap_or_default();
            Ok(target == "/dev/null" || target.ends_with("/dev/null"))
        }
        Some(meta) => Ok(meta.kind == Kind::File && meta.size == 0),
        None => Ok(false),
    }
}

fn path(base: &str, name: &str) -> Result<RootPath, IoError> {
    RootPath::new(&format!("{base}/{name}")).map_err(|error| invalid(name, error))
}

fn invalid(name: &str, error: crate::root::PathError) -> IoError {
    IoError::new("name", name, io::Error::new(io::ErrorKind::InvalidInput, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_only_the_install_section() {
        let text = "[Unit]\nWantedBy=no.target\n[Install]\n WantedBy = multi-user.target graphical.target\nAlias=ssm.service\nRequiredBy=../evil.target a/b\n";
        let install = parse_install(text);
        assert_eq!(
            install.link_dirs,
            ["multi-user.target.wants", "graphical.target.wants"]
        );
        assert_eq!(install.aliases, ["ssm.service"]);
    }
}
