//! The mechanisms of ssmbake. No argument parsing, no printing, no exit codes.
//!
//! | module | what it does |
//! |---|---|
//! | [`root`] | the one door to the target tree |
//! | [`txn`] | changes a tree wholly or not at all |
//! | [`packages`] | reads packages and registers them in the target's database |
//! | [`error`] | the one shape of an I/O error |

pub mod error;
pub mod hex;
pub mod packages;
pub mod root;
pub mod txn;
