//! Settings from a file and the command line, the help about them, and the plugin path.

use std::fs;
use std::path::Path;
use tcpcopy_engine::plugin::Inputs;
use tcpcopy_plugin_host::settings::{ConfigFile, SettingsError, help_text, resolve};
use tcpcopy_plugin_host::{Descriptor, OptionKind, PluginOption, SearchPath, Setting, SettingValue, Side};

fn option(name: &str, kind: OptionKind, default: Option<&str>) -> PluginOption {
    let choices = match kind {
        OptionKind::Choice => vec!["fast".to_owned(), "slow".to_owned()],
        _ => Vec::new(),
    };
    let help = format!("About {name}.");
    PluginOption { name: name.to_owned(), kind, choices, default: default.map(str::to_owned), help }
}

fn descriptor() -> Descriptor {
    Descriptor {
        name: "demo".into(),
        version: "0.3.0".into(),
        about: "shows options".into(),
        speaks_first: Side::Client,
        ports: vec![80, 8080],
        inputs: Inputs::NONE,
        options: vec![
            option("on", OptionKind::Boolean, Some("false")),
            option("count", OptionKind::Integer, Some("3")),
            option("rate", OptionKind::Number, None),
            option("password", OptionKind::Text, None),
            option("speed", OptionKind::Choice, Some("\"fast\"")),
            option("names", OptionKind::Texts, Some("[\"a\"]")),
            option("map", OptionKind::Table, None),
        ],
    }
}

fn values(file: Option<&str>, assignments: &[&str]) -> Result<Vec<Setting>, SettingsError> {
    let file = file.map(|text| ConfigFile::parse(text, Path::new("demo.toml"))).transpose()?;
    let assignments: Vec<_> = assignments.iter().map(|text| (*text).to_owned()).collect();
    resolve(&descriptor(), file.as_ref(), &assignments)
}

fn value(settings: &[Setting], name: &str) -> Option<SettingValue> {
    let mut found = settings.iter().filter(|setting| setting.name == name);
    let value = found.next().map(|setting| setting.value.clone());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

fn texts(texts: &[&str]) -> SettingValue {
    SettingValue::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn table(entries: &[(&str, &str)]) -> SettingValue {
    SettingValue::Table(entries.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect())
}

#[test]
fn defaults_are_filled_in() {
    let settings = values(None, &[]).expect("fine");
    assert_eq!(value(&settings, "on"), Some(SettingValue::Boolean(false)));
    assert_eq!(value(&settings, "count"), Some(SettingValue::Integer(3)));
    assert_eq!(value(&settings, "speed"), Some(SettingValue::Text("fast".into())));
    assert_eq!(value(&settings, "names"), Some(texts(&["a"])));
    assert_eq!(value(&settings, "rate"), None);
}

#[test]
fn the_file_goes_before_defaults_and_the_command_line_before_the_file() {
    let file = "on = true\ncount = 7\nrate = 2\nmap = { a = \"1\", b = \"2\" }\nnames = [\"x\", \"y\"]";
    let settings = values(Some(file), &["count=8", "rate=2.5", "names=p,q", "names=r", "map=c=3"]);
    let settings = settings.expect("fine");
    assert_eq!(value(&settings, "on"), Some(SettingValue::Boolean(true)));
    assert_eq!(value(&settings, "count"), Some(SettingValue::Integer(8)));
    assert_eq!(value(&settings, "rate"), Some(SettingValue::Number(2.5)));
    assert_eq!(value(&settings, "names"), Some(texts(&["p", "q", "r"])));
    assert_eq!(value(&settings, "map"), Some(table(&[("c", "3")])));
}

#[test]
fn a_file_may_have_a_table_for_each_plugin() {
    let settings = values(Some("[demo]\ncount = 9\n[other]\nthing = 1"), &[]).expect("fine");
    assert_eq!(value(&settings, "count"), Some(SettingValue::Integer(9)));
}

#[test]
fn texts_may_stand_elsewhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let secret = directory.path().join("secret");
    fs::write(&secret, "s3=cret\n").expect("written");
    let path = secret.display();
    let settings = values(Some(&format!("password = {{ file = \"{path}\" }}")), &[]).expect("fine");
    assert_eq!(value(&settings, "password"), Some(SettingValue::Text("s3=cret".into())));
    let settings = values(None, &[&format!("map={{ a = {{ file = \"{path}\" }} }}")]).expect("fine");
    assert_eq!(value(&settings, "map"), Some(table(&[("a", "s3=cret")])));
    let home = std::env::var("PATH").expect("set");
    let settings = values(None, &["password={ env = \"PATH\" }"]).expect("fine");
    assert_eq!(value(&settings, "password"), Some(SettingValue::Text(home)));
    let settings = values(None, &["password=bare = text, {so"]).expect("fine");
    assert_eq!(value(&settings, "password"), Some(SettingValue::Text("bare = text, {so".into())));
    for bad in ["{ env = \"NO_SUCH_VARIABLE_HERE\" }", "{ file = \"/nonexistent\" }", "{ other = \"x\" }"] {
        let error = values(None, &[&format!("password={bad}")]).expect_err("is refused");
        assert!(matches!(error, SettingsError::Value { .. }), "{error}");
    }
    let debug = format!("{:?}", values(None, &["password=hidden"]).expect("fine"));
    assert!(!debug.contains("hidden"), "{debug}");
}

#[test]
fn what_does_not_fit_is_refused_with_the_list_of_options() {
    let list = "its options are on (true|false), count (whole number), rate (number), password (text), \
                speed (fast|slow), names (text,…), map (name=text,…)";
    for (file, assignments, expected) in [
        (Some("colour = 1"), &[][..], "demo.toml: plugin demo has no option \"colour\"; "),
        (None, &["colour=red"][..], "--module-opt: plugin demo has no option \"colour\"; "),
        (Some("count = \"x\""), &[][..], "option count of plugin demo: a text is not a whole number; "),
        (None, &["count=x"][..], "option count of plugin demo: \"x\" is not a whole number; "),
        (None, &["on=yes"][..], "\"yes\" is not true or false; "),
        (None, &["speed=warp"][..], "\"warp\" is not one of fast, slow; "),
        (None, &["rate=inf"][..], "\"inf\" is not a number; "),
        (None, &["map=x"][..], "an entry is not a table of names with a text each (name=text); "),
        (Some("names = \"x\""), &[][..], "option names of plugin demo: a text is not a list of texts; "),
        (Some("password = 1"), &[][..], "option password of plugin demo: a whole number is not a text; "),
        (Some("names = [1]"), &[][..], "option names of plugin demo: a whole number is not a text; "),
    ] {
        let error = values(file, assignments).expect_err("is refused").to_string();
        assert!(error.contains(&format!("{expected}{list}")), "{error}");
    }
    let error = values(None, &["password"]).expect_err("is refused").to_string();
    assert_eq!(error, "\"password\" is no NAME=VALUE");
    let error = values(Some("on = true\non ="), &[]).expect_err("is refused").to_string();
    assert!(error.starts_with("demo.toml is no TOML: line 2: "), "{error}");
}

#[test]
fn help_shows_types_defaults_and_texts() {
    assert_eq!(
        help_text(&descriptor()),
        "demo 0.3.0: shows options
Ports: 80, 8080

Options (--module-opt NAME=VALUE, or NAME = VALUE in the file of --module-config):

  on=<true|false>  [default: false]
      About on.

  count=<whole number>  [default: 3]
      About count.

  rate=<number>
      About rate.

  password=<text>
      About password.

  speed=<fast|slow>  [default: \"fast\"]
      About speed.

  names=<text,…>  [default: [\"a\"]]
      About names.

  map=<name=text,…>
      About map.

A text may be { env = \"NAME\" }, the value of a variable, or { file = \"PATH\" }, what a file holds.
"
    );
}

#[test]
fn plugins_are_found_on_the_path() {
    let (first, second) = (tempfile::tempdir().expect("made"), tempfile::tempdir().expect("made"));
    let (one, two) = (first.path(), second.path());
    for file in [one.join("a.so"), two.join("a.so"), two.join("a.wasm"), two.join("b.so"), two.join("c.txt")]
    {
        fs::write(file, "").expect("written");
    }
    let path = SearchPath::new(vec![one.join("missing"), one.to_owned(), two.to_owned()]);
    assert_eq!(path.find("a").expect("there"), one.join("a.so"));
    assert_eq!(path.find("a.wasm").expect("there"), two.join("a.wasm"));
    assert_eq!(path.find("b").expect("there"), two.join("b.so"));
    assert_eq!(path.find(two.join("c.txt").to_str().expect("text")).expect("there"), two.join("c.txt"));
    assert_eq!(path.list(), [one.join("a.so"), two.join("a.wasm"), two.join("b.so")]);
    let error = path.find("d").expect_err("is not there");
    assert_eq!((error.name.as_str(), error.looked.len()), ("d", 3));
    assert!(path.find("./d.wasm").expect_err("is not there").looked.is_empty());
}
