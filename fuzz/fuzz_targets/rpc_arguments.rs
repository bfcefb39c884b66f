//! Runs `centripeta::fuzzing::rpc_arguments` on bytes that the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| centripeta::fuzzing::rpc_arguments(bytes));
