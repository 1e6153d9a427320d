//! `weir validate`: every problem of every file, each with its path.

use crate::cli::ValidateArgs;
use crate::exit::{Exit, report, say};
use crate::manifest::Manifest;

/// Checks all files; nothing is run or written.
pub(crate) async fn run(args: ValidateArgs) -> Exit {
    let mut count = 0;
    for file in &args.files {
        let mut manifest = match Manifest::read(file) {
            Ok(manifest) => manifest,
            Err(error) => {
                report(&error);
                count += 1;
                continue;
            }
        };
        let not_checked = if args.offline { Vec::new() } else { manifest.check().await };
        let name = file.display();
        for problem in &manifest.problems {
            say(&format!("{name}: {problem}"));
        }
        for sentence in &not_checked {
            say(&format!("{name}: not checked: {sentence}"));
        }
        if manifest.problems.is_empty() && not_checked.is_empty() {
            let how = if args.offline { " (sources were not looked at)" } else { "" };
            say(&format!("{name}: no problems{how}"));
        }
        count += manifest.problems.len();
    }
    if count == 0 { Exit::Done } else { Exit::BadInput }
}
