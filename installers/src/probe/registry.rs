//! The registry: as the hives of a tree hold it, or as the Windows that we run on answers. Only read.

use super::ProbeError;
use super::hive::{self, Hive};
use super::windows::fold;
use crate::root::{Root, RootPath};

/// SOFTWARE or SYSTEM.
pub(super) struct Registry {
    source: Source,
    path: RootPath,
}

enum Source {
    Hive(Hive),
    /// Hives of a running Windows are locked.
    #[cfg(windows)]
    Running(windows_registry::Key),
}

/// A key of it.
pub(super) enum Key {
    Hive(hive::Key),
    #[cfg(windows)]
    Running(windows_registry::Key),
}

impl Registry {
    /// The hive `name` below `config`.
    pub(super) fn open(root: &Root, config: &RootPath, name: &str) -> Result<Option<Self>, ProbeError> {
        let Some(path) = fold(root, &format!("{config}/{name}"))? else {
            return Ok(None);
        };
        let Some(file) = root.open_file(&path)? else {
            return Ok(None);
        };
        match Hive::open(file) {
            Ok(hive) => Ok(Some(Self {
                source: Source::Hive(hive),
                path,
            })),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// What this machine has loaded from the hive `name` below `config`.
    #[cfg(windows)]
    pub(super) fn running(config: &RootPath, name: &str) -> Result<Option<Self>, ProbeError> {
        let path = config.join(name).map_err(|error| ProbeError::Hive {
            path: config.to_string(),
            why: error.to_string(),
        })?;
        match present(windows_registry::LOCAL_MACHINE.open(name)) {
            Ok(key) => Ok(key.map(|key| Self {
                source: Source::Running(key),
                path,
            })),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Where it is stored.
    pub(super) fn path(&self) -> &RootPath {
        &self.path
    }

    /// Whether it is this machine's own.
    pub(super) fn is_running(&self) -> bool {
        match self.source {
            Source::Hive(_) => false,
            #[cfg(windows)]
            Source::Running(_) => true,
        }
    }

    /// The key at `path`, its parts separated by backslashes.
    pub(super) fn key(&self, path: &str) -> Result<Option<Key>, ProbeError> {
        match &self.source {
            Source::Hive(hive) => hive.key(path).map(|key| key.map(Key::Hive)),
            #[cfg(windows)]
            Source::Running(top) => present(top.open(path)).map(|key| key.map(Key::Running)),
        }
        .map_err(|error| self.fail(&error))
    }

    /// The names of the keys below `path`; empty where there is none.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, ProbeError> {
        let Some(key) = self.key(path)? else {
            return Ok(Vec::new());
        };
        match (&self.source, &key) {
            (Source::Hive(hive), Key::Hive(key)) => hive.names(key),
            #[cfg(windows)]
            (_, Key::Running(key)) => key.keys().map(Iterator::collect).map_err(Into::into),
            #[cfg(windows)]
            (Source::Running(_), Key::Hive(_)) => Ok(Vec::new()),
        }
        .map_err(|error| self.fail(&error))
    }

    /// A value that is not empty.
    pub(super) fn text(&self, key: &str, value: &str) -> Result<Option<String>, ProbeError> {
        self.value(self.key(key)?.as_ref(), value)
    }

    /// The same of a key that was looked up before.
    pub(super) fn value(&self, key: Option<&Key>, name: &str) -> Result<Option<String>, ProbeError> {
        let raw = self.raw(key, name)?;
        let text = raw.and_then(|(kind, bytes)| hive::text_of(kind, &bytes));
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// A list of strings; empty where there is none.
    pub(super) fn list(&self, key: &str, name: &str) -> Result<Vec<String>, ProbeError> {
        let raw = self.raw(self.key(key)?.as_ref(), name)?;
        Ok(raw.map_or_else(Vec::new, |(kind, bytes)| hive::list_of(kind, &bytes)))
    }

    /// A value's kind and bytes.
    fn raw(&self, key: Option<&Key>, name: &str) -> Result<Option<(u32, Vec<u8>)>, ProbeError> {
        let Some(key) = key else { return Ok(None) };
        match (&self.source, key) {
            (Source::Hive(hive), Key::Hive(key)) => hive.value(key, name),
            #[cfg(windows)]
            (_, Key::Running(key)) => present(key.get_value(name))
                .map(|value| value.map(|value| (value.ty().into(), value.to_vec()))),
            #[cfg(windows)]
            (Source::Running(_), Key::Hive(_)) => Ok(None),
        }
        .map_err(|error| self.fail(&error))
    }

    fn fail(&self, error: &std::io::Error) -> ProbeError {
        unreadable(&self.path, error)
    }
}

/// ERROR_FILE_NOT_FOUND: there is no such key or value.
#[cfg(windows)]
const NOT_FOUND: u32 = 0x8007_0002;

#[cfg(windows)]
fn present<T>(result: windows_registry::Result<T>) -> std::io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code().0.cast_unsigned() == NOT_FOUND => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn unreadable(path: &RootPath, error: &std::io::Error) -> ProbeError {
    ProbeError::Hive {
        path: path.to_string(),
        why: error.to_string(),
    }
}

/// SOFTWARE of the tree, or of this machine.
pub(super) fn software(root: &Root, config: &RootPath, place: Whose) -> Result<Registry, ProbeError> {
    open(root, config, "SOFTWARE", place)?.ok_or_else(|| ProbeError::Hive {
        path: format!("{config}/SOFTWARE"),
        why: "it does not exist".to_owned(),
    })
}

/// Whose registry is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A tree's: its hives.
    Tree,
    /// This machine's.
    Running,
}

fn open(root: &Root, config: &RootPath, name: &str, whose: Whose) -> Result<Option<Registry>, ProbeError> {
    match whose {
        #[cfg(windows)]
        Whose::Running => Registry::running(config, name),
        _ => Registry::open(root, config, name),
    }
}

/// The SYSTEM hive and its control set. SOFTWARE alone tells the release, so a tree without SYSTEM has a name, too.
pub(super) struct System {
    registry: Registry,
    control_set: String,
}

impl System {
    pub(super) fn open(root: &Root, config: &RootPath, whose: Whose) -> Result<Option<Self>, ProbeError> {
        let Some(registry) = open(root, config, "SYSTEM", whose)? else {
            return Ok(None);
        };
        let control_set = match registry.is_running() {
            true => "CurrentControlSet".to_owned(),
            false => {
                let number = registry.text("Select", "Current")?;
                format!("ControlSet{:0>3}", number.as_deref().unwrap_or("1"))
            }
        };
        Ok(Some(Self {
            control_set,
            registry,
        }))
    }

    /// Where it is stored.
    pub(super) fn path(&self) -> &RootPath {
        self.registry.path()
    }

    pub(super) fn text(&self, key: &str, value: &str) -> Result<Option<String>, ProbeError> {
        self.registry.text(&self.below(key), value)
    }

    pub(super) fn list(&self, key: &str, value: &str) -> Result<Vec<String>, ProbeError> {
        self.registry.list(&self.below(key), value)
    }

    fn below(&self, key: &str) -> String {
        format!(r"{}\{key}", self.control_set)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({})", self.path)
    }
}
