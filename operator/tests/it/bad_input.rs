//! What is refused, in which words, with which exit status, by the binary itself.
//!
//! - `manifest.rs` — manifests: every problem at once, what is not built yet, and sound ones.
//! - `rows.rs` — rows that are bad, and expressions that fail on a row or a key.
//! - `stores.rs` — stores that refuse, are full, damaged or silent.
//! - `folders.rs` — folders, flags and signals.
//!
//! Each sentence of a single check is tested beside that check; here it is read where a user does.

use crate::command::{Done, Folder};

mod folders;
mod manifest;
mod rows;
#[path = "../../../engine/state/tests/it/s3_stub.rs"]
mod s3_stub;
mod stores;

/// A manifest with these steps.
fn job(name: &str, steps: &str) -> String {
    let head = "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {name: ";
    let steps: String = steps.trim().lines().map(|step| format!("    {}\n", step.trim())).collect();
    format!("{head}{name}}}\nspec:\n  pipeline:\n{steps}")
}

/// What `weir run` said, without the name of a temporary folder, progress and hints.
fn said(done: &Done) -> Vec<&str> {
    let is_progress = |line: &str| {
        let is_start = line.starts_with("worker ") && line.contains(" runs as process ");
        is_start || line.contains(" rows in (") || line.starts_with("logs are in ")
    };
    done.err.lines().filter(|line| !is_progress(line) && !line.is_empty()).collect()
}

/// Runs the job; it fails, or is refused, with exactly these sentences.
#[track_caller]
fn fails(folder: &Folder, args: &[&str], code: i32, sentences: &[&str]) {
    let done = folder.weir(args);
    assert_eq!(done.code, Some(code), "{}", done.err);
    assert_eq!(said(&done), sentences);
    assert!(done.out.is_empty(), "{}", done.out);
}
