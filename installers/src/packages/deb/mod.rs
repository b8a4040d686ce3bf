//! The native deb engine: what dpkg would do with the package, without dpkg.
//!
//! [`archive`] reads a package (`payload` its members), [`control`] its fields, [`version`] compares versions,
//! [`database`] reads and edits `/var/lib/dpkg`, [`conffile`] decides about configuration files, [`install`] turns it all into changes.

mod ar;
pub mod archive;
pub mod conffile;
pub mod control;
pub mod database;
pub mod install;
mod payload;
pub mod relation;
pub mod version;
