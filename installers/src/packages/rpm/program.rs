//! Registration by an rpm program, of this machine or of the target, on a copy of the database: what it wrote becomes
//! part of the transaction, and the target's own files are not touched by it.
#![expect(
    clippy::disallowed_methods,
    reason = "the copy lies on the build machine's own disk"
)]

use std::fs::{self, DirBuilder, File};
use std::io;
use std::path::{Path, PathBuf};

use super::archive::RpmPackage;
use super::database::{Backend, Database};
use super::register::FLAGS;
use crate::error::IoError;
use crate::packages::{InstallError, conflict};
use crate::root::{Kind, Last, Root, RootPath};
use crate::runner;
use crate::txn::ChangeSet;

/// Whose rpm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// This machine's.
    Host,
    /// The target's own, in a chroot and a mount namespace of its own.
    Target,
}

/// Binds the copy over the target's /tmp where only this process sees it.
const IN_TARGET: &str =
    "mount --bind \"$1\" \"$2/tmp\" && root=$2 && shift 2 && exec chroot \"$root\" rpm \"$@\"";
const LIMIT: usize = 1024 * 1024 * 1024;

/// The form of database that this machine's rpm writes; none without an rpm.
pub fn host_backend() -> Option<Backend> {
    let name = runner::run("rpm", ["--eval", "%{?_db_backend}"]).ok()?;
    match name.trim() {
        "sqlite" => Some(Backend::Sqlite),
        "ndb" => Some(Backend::Ndb),
        // Before 4.16 there was nothing else.
        "bdb" | "" => Some(Backend::Bdb),
        _ => None,
    }
}

/// Adds to `set` what rpm makes of the database when it learns of `package`.
pub(super) fn register(
    root: &Root,
    database: &Database,
    package: &RpmPackage,
    program: Program,
    temp_dir: &Path,
    set: &mut ChangeSet,
) -> Result<(), InstallError> {
    let scratch = Scratch::new(temp_dir)?;
    let names = scratch.fill(root, database, package)?;
    let refused = |error: runner::RunError| {
        conflict(
            error.to_string(),
            "use --registration first-boot, or another rpm that knows this database",
        )
    };
    match program {
        Program::Host => {
            let inside = scratch.path.display();
            let places = [format!("--dbpath={inside}/db"), format!("{inside}/agent.rpm")];
            let arguments = FLAGS.iter().map(|flag| (*flag).to_owned()).chain(places);
            runner::run("rpm", arguments).map_err(refused)?;
        }
        Program::Target => {
            let tmp = root.meta(&RootPath::fixed("/tmp"), Last::Keep)?;
            if tmp.is_none_or(|meta| meta.kind != Kind::Dir) {
                return Err(conflict("the tree has no directory /tmp", "make one"));
            }
            let (from, to) = (scratch.path.to_string_lossy(), root.host_path().to_string_lossy());
            let mut arguments = vec![
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                IN_TARGET,
                "sh",
                &from,
                &to,
            ];
            arguments.extend(FLAGS);
            arguments.extend(["--dbpath=/tmp/db", "/tmp/agent.rpm"]);
            runner::run("unshare", arguments).map_err(refused)?;
        }
    }
    scratch.take_over(root, database, &names, set)
}

/// A private directory that goes with this value.
struct Scratch {
    path: PathBuf,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A leftover is litter on the build machine, nothing worse.
        drop(fs::remove_dir_all(&self.path));
    }
}

fn fail(path: &Path) -> impl Fn(io::Error) -> IoError {
    move |error| IoError::new("write to", path.display(), error)
}

/// Readable by its owner only.
fn private_dir() -> DirBuilder {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "modes are Unix's"))]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

impl Scratch {
    fn new(temp_dir: &Path) -> Result<Self, IoError> {
        let path = temp_dir.join(format!(".ssmbake-rpm-{}", std::process::id()));
        // Fails when it exists: nobody can have laid it out for us.
        private_dir().create(&path).map_err(fail(&path))?;
        Ok(Self { path })
    }

    /// Copies of the database's files and of the package; the names of the former.
    fn fill(&self, root: &Root, database: &Database, package: &RpmPackage) -> Result<Vec<String>, IoError> {
        let db = self.path.join("db");
        private_dir().create(&db).map_err(fail(&db))?;
        let mut names = Vec::new();
        for entry in root.read_dir(&database.dir)?.unwrap_or_default() {
            let path = database.file(&entry.name);
            let is_file = root
                .meta(&path, Last::Keep)?
                .is_some_and(|meta| meta.kind == Kind::File);
            if is_file && is_lasting(&entry.name) {
                let bytes = root.read(&path, LIMIT)?.unwrap_or_default();
                fs::write(db.join(&entry.name), bytes).map_err(fail(&db))?;
                names.push(entry.name);
            }
        }
        let at = self.path.join("agent.rpm");
        let mut source = package.whole.reader().map_err(fail(&at))?;
        let mut file = File::create(&at).map_err(fail(&at))?;
        io::copy(&mut source, &mut file).map_err(fail(&at))?;
        Ok(names)
    }

    fn take_over(
        &self,
        root: &Root,
        database: &Database,
        names: &[String],
        set: &mut ChangeSet,
    ) -> Result<(), InstallError> {
        let db = self.path.join("db");
        let mut found = names.to_vec();
        for entry in fs::read_dir(&db).map_err(fail(&db))? {
            let entry = entry.map_err(fail(&db))?;
            found.extend(entry.file_name().into_string());
        }
        found.sort();
        found.dedup();
        for name in found.iter().filter(|name| is_lasting(name)) {
            let bytes = fs::read(db.join(name)).map_err(fail(&db))?;
            if root.read(&database.file(name), LIMIT)?.as_ref() != Some(&bytes) {
                set.edit(root, &database.file(name), bytes, 0o644)?;
            }
        }
        Ok(())
    }
}

/// Locks, shared memory and emptied logs belong to running programs.
fn is_lasting(name: &str) -> bool {
    !name.starts_with('.') && !name.starts_with("__db.") && !name.ends_with("-shm") && !name.ends_with("-wal")
}
