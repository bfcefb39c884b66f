//! Runs `centripeta::fuzzing::two_way` on bytes that the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| centripeta::fuzzing::two_way(bytes));
