//! Runs `centripeta::fuzzing::peer_messages` on bytes that the fuzzer makes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| centripeta::fuzzing::peer_messages(bytes));
