//! See `ssmbake_fuzz::os_release`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssmbake_fuzz::os_release(bytes));
