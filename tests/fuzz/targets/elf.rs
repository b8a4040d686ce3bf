//! See `ssmbake_fuzz::elf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssmbake_fuzz::elf(bytes));
