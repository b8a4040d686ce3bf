//! See `ssmbake_fuzz::hive`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssmbake_fuzz::hive(bytes));
