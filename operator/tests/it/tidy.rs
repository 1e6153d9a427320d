//! The house rules that no lint can say, and the dependency rules between crates.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file without its tests; a file above is to be cut in parts.
const FILE_LINES_MAX: usize = 600;
/// Lines of a file of tests.
const TEST_LINES_MAX: usize = 800;
const ARCHITECTURE_LINES_MAX: usize = 300;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").into()
}

/// All Rust files of the workspace, by path below its root.
fn rust_files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for crate_folder in ["crds", "engine", "operator"] {
        collect(&root().join(crate_folder), &mut files);
    }
    files.sort();
    assert!(files.len() > 20, "the walk found the sources");
    files
}

fn collect(folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).expect("folder is readable").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            files.push((name, fs::read_to_string(&path).expect("a source file is UTF-8")));
        }
    }
}

/// What stands before the file's unit tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs")
}

/// Runs `wrong` on every file; it says what is wrong with one.
#[track_caller]
fn check(wrong: impl Fn(&str, &str) -> Option<String>) {
    let found: Vec<String> = rust_files()
        .iter()
        .filter_map(|(name, text)| wrong(name, text).map(|what| format!("{name}: {what}")))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_file_says_what_lives_in_it() {
    check(|_, text| (!text.starts_with("//!")).then(|| "does not open with //!".to_owned()));
}

#[test]
fn no_file_is_too_long() {
    check(|name, text| {
        let (code, most) = match is_test(name) {
            true => (text, TEST_LINES_MAX),
            false => (without_tests(text), FILE_LINES_MAX),
        };
        let lines = code.lines().count();
        (lines > most).then(|| format!("{lines} lines, at most {most}"))
    });
}

#[test]
fn nothing_is_left_undone() {
    // Spelt apart, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|word| word.concat());
    let macros = [["to", "do!("], ["unimpl", "emented!("], ["db", "g!("]].map(|word| word.concat());
    check(|_, text| {
        let found = words.iter().chain(&macros).find(|word| text.contains(word.as_str()))?;
        Some(format!("contains {found}"))
    });
}

#[test]
fn no_code_is_commented_out() {
    check(|_, text| {
        let line = text.lines().position(|line| {
            let line = line.trim_start();
            line.starts_with("// ")
                && (line.ends_with(';') || line.ends_with(" {"))
                && (line.starts_with("// let ")
                    || line.starts_with("// fn ")
                    || line.contains(");"))
        })?;
        Some(format!("line {} looks like code in a comment", line + 1))
    });
}

/// One module each spawns, reads the clock and makes random numbers: rule 10 of the design.
#[test]
fn spawn_clock_and_randomness_stay_at_home() {
    const HOME: &str = "engine/runtime/src/";
    let strangers = [
        "tokio::spawn(",
        "spawn_blocking(",
        "thread::spawn(",
        "tokio::time::",
        "SystemTime::now",
        "Instant::now",
        "getrandom::",
        "rand::",
        "RandomState",
        "unbounded_channel",
    ];
    check(|name, text| {
        if name.starts_with(HOME) || is_test(name) {
            return None;
        }
        let code = without_tests(text);
        let found = strangers.iter().find(|word| {
            code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(**word))
        })?;
        Some(format!("uses {found}, whose home is {HOME}"))
    });
}

/// The names of a crate's own dependencies, as its manifest lists them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).expect("the manifest is readable");
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && !line.trim().is_empty() {
            names.extend(line.split(['.', ' ', '=']).next().map(str::to_owned));
        }
    }
    assert!(!names.is_empty(), "{manifest} has dependencies");
    names
}

#[track_caller]
fn check_absent(manifest: &str, prefixes: &[&str]) {
    let wrong: Vec<String> = dependencies(manifest)
        .into_iter()
        .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    assert!(wrong.is_empty(), "{manifest} must not depend on {wrong:?}");
}

#[test]
fn the_engine_knows_nothing_of_kubernetes() {
    for manifest in [
        "engine/Cargo.toml",
        "engine/state/Cargo.toml",
        "engine/expr/Cargo.toml",
        "engine/runtime/Cargo.toml",
    ] {
        check_absent(manifest, &["kube", "k8s-openapi", "weir-crds"]);
    }
}

#[test]
fn the_state_store_knows_nothing_of_arrow_and_dataflow() {
    for manifest in ["engine/state/Cargo.toml", "engine/runtime/Cargo.toml"] {
        check_absent(manifest, &["arrow", "parquet", "datafusion", "weir-engine", "weir-expr"]);
    }
}

#[test]
fn only_weir_expr_knows_datafusion() {
    for manifest in ["crds/Cargo.toml", "engine/Cargo.toml", "operator/Cargo.toml"] {
        check_absent(manifest, &["datafusion"]);
    }
}

#[test]
fn the_resource_types_know_no_client_and_no_engine() {
    check_absent("crds/Cargo.toml", &["weir-", "tokio"]);
}

#[test]
fn every_dependency_has_its_sentence_of_reason() {
    let reasons = fs::read_to_string(root().join("docs/design/0001-dependencies.md"))
        .expect("the page is there");
    for manifest in [
        "crds/Cargo.toml",
        "engine/Cargo.toml",
        "engine/state/Cargo.toml",
        "engine/expr/Cargo.toml",
        "engine/runtime/Cargo.toml",
        "operator/Cargo.toml",
    ] {
        for name in dependencies(manifest).iter().filter(|name| !name.starts_with("weir-")) {
            assert!(reasons.contains(&format!("`{name}`")), "{manifest}: no reason for {name}");
        }
    }
}

/// The code map of ARCHITECTURE.md lists exactly the folders and top-level modules that there are.
#[test]
fn the_map_shows_the_house_as_it_is() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map is there");
    assert!(map.lines().count() <= ARCHITECTURE_LINES_MAX, "the map is too long");
    let mut there = BTreeSet::new();
    for folder in [
        "crds/src",
        "engine/src",
        "engine/runtime/src",
        "engine/state/src",
        "engine/expr/src",
        "operator/src",
    ] {
        for entry in fs::read_dir(root().join(folder)).expect("folder is readable").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(module) = name.strip_suffix(".rs")
                && !["lib", "main"].contains(&module)
            {
                there.insert(format!("{folder}/{module}"));
            }
        }
    }
    let listed: BTreeSet<String> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|path| path.contains("/src/"))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = there.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&there).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in the map: {missing:?}; gone: {gone:?}");
}

#[test]
fn no_machine_is_named() {
    let names = ["/root/", "/home/", "/tmp/"].map(str::to_owned);
    check(|name, text| {
        let code = if is_test(name) { return None } else { without_tests(text) };
        names.iter().find(|path| code.contains(path.as_str())).map(|path| format!("names {path}"))
    });
}
