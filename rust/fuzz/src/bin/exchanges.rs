#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| turnout_fuzz::exchanges(data));
