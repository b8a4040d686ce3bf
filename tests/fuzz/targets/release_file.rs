//! See `ssmbake_fuzz::release_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssmbake_fuzz::release_file(bytes));
