//! Compiled modules on disk: used when they fit, and never when they might not.

use crate::guest::{WAT, component, file, quick};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tcpcopy_plugin_host::{CacheDir, Loader, LoaderOptions, Module};

fn load(path: &Path, cache: &Path) -> Module {
    let loader = Loader::new(LoaderOptions {
        cache_dir: CacheDir::At(cache.to_owned()),
        limits: quick(),
        ..LoaderOptions::default()
    });
    Module::load(path, &loader).expect("loads")
}

fn entries(cache: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(cache) else { return Vec::new() };
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn a_compiled_module_is_kept_and_used() {
    let (directory, path) = file("guest.wasm", &component(WAT, "0.1.0"));
    let cache = directory.path().join("cache/of/tcpcopy");
    load(&path, &cache);
    let [entry] = &entries(&cache)[..] else { panic!("one entry") };
    assert_eq!(fs::metadata(&cache).expect("there").permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(entry).expect("there").permissions().mode() & 0o777, 0o600);
    // Used means not written again, which would make a new file.
    let written = fs::metadata(entry).expect("there").ino();
    load(&path, &cache).configure(Vec::new()).expect("works");
    assert_eq!(fs::metadata(entry).expect("there").ino(), written);
}

#[test]
fn entries_that_were_not_used_for_longest_are_removed() {
    let (directory, path) = file("guest.wasm", &component(WAT, "0.1.0"));
    let cache = directory.path().join("cache");
    load(&path, &cache);
    let used = entries(&cache).remove(0);
    let age = |file: &Path, seconds: u64| {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        fs::File::open(file).and_then(|file| file.set_modified(then)).expect("its time is set");
    };
    for number in 0..100 {
        let other = cache.join(format!("{number}.compiled"));
        fs::write(&other, b"of a plugin that was changed since").expect("written");
        age(&other, 1000 + number);
    }
    for (name, seconds) in [("left-behind.new", 4000), ("being-written.new", 10)] {
        fs::write(cache.join(name), b"half").expect("written");
        age(&cache.join(name), seconds);
    }
    age(&used, 5000);
    load(&path, &cache);
    fs::write(&path, component(&WAT.replace("1.2.3", "1.2.4"), "0.1.0")).expect("written");
    load(&path, &cache);
    let left = entries(&cache);
    assert_eq!(
        left.iter().filter(|path| path.extension().is_some_and(|ending| ending == "compiled")).count(),
        64
    );
    assert!(left.contains(&used), "what was used a moment ago stays");
    assert!(left.contains(&cache.join("0.compiled")) && !left.contains(&cache.join("99.compiled")));
    assert!(
        left.contains(&cache.join("being-written.new")) && !left.contains(&cache.join("left-behind.new"))
    );
}

#[test]
fn a_changed_file_has_its_own_entry() {
    let (directory, path) = file("guest.wasm", &component(WAT, "0.1.0"));
    let cache = directory.path().join("cache");
    assert_eq!(load(&path, &cache).descriptor().version, "1.2.3");
    fs::write(&path, component(&WAT.replace("1.2.3", "1.2.4"), "0.1.0")).expect("written");
    assert_eq!(load(&path, &cache).descriptor().version, "1.2.4");
    assert_eq!(entries(&cache).len(), 2);
}

#[test]
fn damaged_entries_are_made_anew() {
    let (directory, path) = file("guest.wasm", &component(WAT, "0.1.0"));
    let cache = directory.path().join("cache");
    load(&path, &cache);
    let entry = entries(&cache).remove(0);
    let good = fs::read(&entry).expect("there");
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let truncated = good[..good.len() / 2].to_vec();
    for bad in [Vec::new(), b"garbage".to_vec(), truncated, flipped] {
        fs::write(&entry, &bad).expect("written");
        load(&path, &cache).configure(Vec::new()).expect("works");
        assert!(fs::read(&entry).expect("there") == good, "the entry is whole again");
    }
    // Nothing half-written stays behind.
    assert_eq!(entries(&cache).len(), 1);
}

#[test]
fn an_entry_of_another_compiler_is_not_used() {
    // With the right checksum, but what wasmtime made with other settings: its own check has to refuse it.
    let (directory, path) = file("guest.wasm", &component(WAT, "0.1.0"));
    let cache = directory.path().join("cache");
    load(&path, &cache);
    let entry = entries(&cache).remove(0);
    let good = fs::read(&entry).expect("there");
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(false);
    let engine = wasmtime::Engine::new(&config).expect("an engine");
    let other = wasmtime::component::Component::from_binary(&engine, &component(WAT, "0.1.0"))
        .and_then(|component| component.serialize())
        .expect("compiles");
    let mut bad = <sha2::Sha256 as sha2::Digest>::digest(&other).to_vec();
    bad.extend_from_slice(&other);
    fs::write(&entry, bad).expect("written");
    load(&path, &cache).configure(Vec::new()).expect("works");
    assert!(fs::read(&entry).expect("there") == good);
}

#[test]
fn a_directory_that_others_can_write_is_not_used() {
    let (directory, path) = file("guest.wasm", &component(WAT, "0.1.0"));
    let cache = directory.path().join("cache");
    fs::create_dir(&cache).expect("made");
    fs::set_permissions(&cache, Permissions::from_mode(0o777)).expect("set");
    load(&path, &cache);
    assert!(entries(&cache).is_empty());
    // Nor one inside of such a directory, which could be put aside.
    let inner = cache.join("inner");
    load(&path, &inner);
    assert!(entries(&inner).is_empty());
    fs::set_permissions(&cache, Permissions::from_mode(0o700)).expect("set");
    load(&path, &cache);
    assert!(!entries(&cache).is_empty());
}

#[test]
fn a_link_in_the_place_of_an_entry_is_not_followed() {
    let (directory, path) = file("guest.wasm", &component(WAT, "0.1.0"));
    let cache = directory.path().join("cache");
    load(&path, &cache);
    let entry = entries(&cache).remove(0);
    let elsewhere = directory.path().join("elsewhere");
    fs::rename(&entry, &elsewhere).expect("moved");
    std::os::unix::fs::symlink(&elsewhere, &entry).expect("linked");
    load(&path, &cache);
    assert!(!fs::symlink_metadata(&entry).expect("there").is_symlink(), "a file took its place");
}
