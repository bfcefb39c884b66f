//! Runs `centripeta::fuzzing::timeout` on bytes that the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| centripeta::fuzzing::timeout(bytes));
