//! rpm's package database in a tree: which of its three forms, what it holds, and how it will hold another package.

pub mod bdb;
pub mod ndb;
pub mod sqlite;

use serde::{Deserialize, Serialize};

use super::header::Header;
use super::tag;
use crate::error::IoError;
use crate::root::{Kind, Last, Root, RootPath};

/// Newer releases keep it under /usr; a link leads there from the old place.
const DIRS: [&str; 2] = ["/usr/lib/sysimage/rpm", "/var/lib/rpm"];
/// No real database comes near.
const LIMIT: usize = 1024 * 1024 * 1024;

/// The form of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// SQLite: EL 9 and later, Amazon Linux 2023, Fedora.
    Sqlite,
    /// rpm's own: SUSE since 15.
    Ndb,
    /// Berkeley DB: EL 6 to 8, Amazon Linux 1 and 2, SLES 12.
    Bdb,
}

impl Backend {
    const ALL: [Self; 3] = [Self::Sqlite, Self::Ndb, Self::Bdb];

    /// The name of its main file.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Sqlite => "rpmdb.sqlite",
            Self::Ndb => "Packages.db",
            Self::Bdb => "Packages",
        }
    }

    /// As rpm calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Ndb => "ndb",
            Self::Bdb => "bdb",
        }
    }
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It is not as its form says.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// Which file.
        path: RootPath,
        /// Why.
        why: String,
    },
    /// A file beside it holds changes that are not in it yet.
    #[error("`{path}` holds changes that are not in the database yet")]
    Unclean {
        /// That file.
        path: RootPath,
    },
    /// The disk said no.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// A tree's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its form.
    pub backend: Backend,
    /// Its directory, as rpm names it.
    pub dir: RootPath,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Its number in the database.
    pub number: u32,
    /// Its header.
    pub header: Header,
}

impl Database {
    /// The database of `root`, if it has one.
    pub fn find(root: &Root) -> Result<Option<Self>, IoError> {
        for dir in DIRS {
            for backend in Backend::ALL {
                let found = Self {
                    backend,
                    dir: RootPath::fixed(dir),
                };
                let meta = root.meta(&found.path(), Last::Follow)?;
                if meta.is_some_and(|meta| meta.kind == Kind::File && meta.size > 0) {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// A file of its directory.
    pub fn file(&self, name: &str) -> RootPath {
        // A plain name below a plain directory is a plain path.
        self.dir.join(name).unwrap_or_else(|_| self.dir.clone())
    }

    /// Its main file.
    pub fn path(&self) -> RootPath {
        self.file(self.backend.file_name())
    }

    /// The main file's bytes; refused while another file holds the newest changes.
    pub fn read(&self, root: &Root) -> Result<Vec<u8>, DatabaseError> {
        if self.backend == Backend::Sqlite {
            for end in ["-wal", "-journal"] {
                let path = self.file(&format!("{}{end}", self.backend.file_name()));
                if root.meta(&path, Last::Follow)?.is_some_and(|meta| meta.size > 0) {
                    return Err(DatabaseError::Unclean { path });
                }
            }
        }
        Ok(root.read(&self.path(), LIMIT)?.unwrap_or_default())
    }

    fn damaged(&self, why: impl Into<String>) -> DatabaseError {
        DatabaseError::Damaged {
            path: self.path(),
            why: why.into(),
        }
    }

    /// The packages called `name`: one, as a rule.
    pub fn named(&self, root: &Root, name: &str) -> Result<Vec<Installed>, DatabaseError> {
        // Only SQLite has an index that is worth the asking.
        if self.backend != Backend::Sqlite {
            let is_named = |one: &Installed| one.header.string(tag::NAME) == Some(name);
            return Ok(self.all(root)?.into_iter().filter(is_named).collect());
        }
        let records = sqlite::named(self.read(root)?, name);
        self.parse(records.map_err(|why| self.damaged(why))?)
    }

    /// All packages.
    pub fn all(&self, root: &Root) -> Result<Vec<Installed>, DatabaseError> {
        let bytes = self.read(root)?;
        let records = match self.backend {
            Backend::Sqlite => sqlite::all(bytes),
            Backend::Ndb => ndb::packages(&bytes),
            Backend::Bdb => bdb::packages(&bytes),
        };
        self.parse(records.map_err(|why| self.damaged(why))?)
    }

    fn parse(&self, records: Vec<(u32, Vec<u8>)>) -> Result<Vec<Installed>, DatabaseError> {
        let parse = |(number, blob): (u32, Vec<u8>)| {
            let header =
                Header::parse(&blob).map_err(|why| self.damaged(format!("package {number}: {why}")))?;
            Ok(Installed { number, header })
        };
        records.into_iter().map(parse).collect()
    }

    /// The main file's bytes with the packages `remove` gone and the header `add` there.
    pub fn replaced(
        &self,
        root: &Root,
        remove: &[u32],
        add: Option<&Header>,
    ) -> Result<Vec<u8>, DatabaseError> {
        let bytes = self.read(root)?;
        let new = match self.backend {
            Backend::Sqlite => sqlite::replace(bytes, remove, add),
            Backend::Ndb => ndb::replace(&bytes, remove, add.map(Header::blob)),
            Backend::Bdb => Err("its form is not written here".to_owned()),
        };
        new.map_err(|why| self.damaged(why))
    }
}
