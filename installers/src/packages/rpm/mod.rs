//! The native rpm engine: what rpm would do with the package, without rpm.
//!
//! [`header`] reads and writes headers, [`archive`] a package (`cpio` and `payload` its members), [`version`] compares
//! versions, [`database`] reads and edits the target's package database, [`fate`] decides about files that are there
//! already, [`relation`] about dependencies, [`install`] turns it all
//! into changes, [`register`] leaves the database to the target's own rpm, [`program`] asks an rpm now.

pub mod archive;
mod cpio;
pub mod database;
pub mod fate;
pub mod header;
pub mod install;
mod payload;
pub mod program;
pub mod register;
pub mod relation;
pub mod tag;
pub mod version;
