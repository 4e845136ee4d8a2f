#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tcpcopy_fuzz_bodies::capture_file(data));
