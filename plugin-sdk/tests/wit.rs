//! The copy of the interface that is published with this crate.

use std::path::Path;

#[test]
fn the_crate_carries_the_interface_as_it_is() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let original = crate_folder.join("../wit/v0.1/plugin.wit");
    let copy = crate_folder.join("wit/v0.1/plugin.wit");
    let read = |file: &Path| {
        std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    assert!(read(&original) == read(&copy), "copy {} to {}", original.display(), copy.display());
}
