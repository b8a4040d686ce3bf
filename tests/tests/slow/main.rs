//! Real trees of Debian, kills by the hundred, a failure at every step. As root.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests work on the build machine and may panic"
)]

mod account;
mod airgap;
mod ansible;
mod attest;
mod authenticode;
mod aws_tools;
mod boxes;
mod carried;
mod clocks;
mod debian;
mod export;
mod families;
mod first_boot;
mod foreign;
mod formats;
mod kill;
mod live;
mod mirror;
mod packer;
mod powershell;
mod prerequisites;
mod proof;
mod readme;
mod release;
mod rpm;
mod signals;
mod signed;
mod snap;
mod snippets;
mod steps;
