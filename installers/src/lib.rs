//! The mechanisms of ssmbake. No argument parsing, no printing, no exit codes.
//!
//! | module | what it does |
//! |---|---|
//! | [`root`] | the one door to the target tree |
//! | [`txn`] | changes a tree wholly or not at all |
//! | [`probe`] | root → facts |
//! | [`plan`] | request + facts → plan; pure |
//! | [`acquire`] | plan → verified package; the only network |
//! | [`apply`], [`revert`], [`receipt`] | plan → changed tree, and back |
//! | [`audit`] | root → report |
//! | [`activation`] | registration at first boot |
//! | [`attest`] | receipt → bill of materials, provenance |
//! | [`supply`] | packages pinned in a lock, carried in a bundle, served by a mirror |
//! | [`seal`] | what belongs to one machine leaves the tree |
//! | [`export`] | plan → script |
//! | [`selinux`] | labels of new files |
//! | [`packages`] | reads packages and registers them in the target's database |
//! | [`service`], [`trust`], [`config`] | the other mechanisms |
//! | [`locks`] | the package managers' locks |
//! | [`error`] | the one shape of an I/O error |
//! | [`whole`] | files of the build machine, whole or not at all |

pub mod acquire;
pub mod activation;
pub mod apply;
pub mod attest;
pub mod audit;
pub mod config;
pub mod digest;
pub mod error;
pub mod export;
pub mod interrupt;
pub mod locks;
pub mod packages;
pub mod plan;
mod positioned;
pub mod probe;
pub mod reach;
pub mod receipt;
pub mod revert;
pub mod root;
mod runner;
pub mod seal;
pub mod selinux;
pub mod service;
pub mod signed;
pub mod supply;
pub mod tls;
pub mod trust;
pub mod txn;
pub mod whole;
