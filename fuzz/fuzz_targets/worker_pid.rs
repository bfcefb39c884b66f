//! Runs `centripeta::fuzzing::worker_pid` on bytes that the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| centripeta::fuzzing::worker_pid(bytes));
