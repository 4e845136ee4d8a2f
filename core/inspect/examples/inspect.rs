//! Inspects capture files and prints the text for people, for measuring without the rest of the program.
//!
//!     cargo run --release -p tcpcopy-inspect --example inspect -- FILE…
#![allow(missing_docs)]

use tcpcopy_capture_file::Input;
use tcpcopy_inspect::{Decap, Limits, Report};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let inputs: Vec<Input> = std::env::args().skip(1).map(|name| Input::from(name.as_str())).collect();
    print!("{}", Report::of(&inputs, Limits::default(), Decap::ALL)?.text());
    Ok(())
}
