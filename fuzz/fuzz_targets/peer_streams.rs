//! Runs `centripeta_cluster::fuzzing::streams` on bytes that the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| centripeta_cluster::fuzzing::streams(bytes));
