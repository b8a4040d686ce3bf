//! What must hold on synthetic trees: seconds, before every commit.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "tests work on the build machine and may panic"
)]

mod apply;
mod audit;
mod bootstrap;
mod channels;
mod cli;
mod corpus;
mod detect;
mod exact;
mod hostile;
mod hostile_rpm;
mod keys;
mod network;
mod outputs;
mod plans;
mod readme;
mod rpm;
mod rpmdb;
mod seal;
mod secrets;
mod selinux;
mod supply;
mod trust;
mod windows;
mod windows_audit;
