//! See `ssmbake_fuzz::rpm_payload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssmbake_fuzz::rpm_payload(bytes));
