//! Whatever the text is, reading it ends, and what is accepted is whole.

use proptest::prelude::*;

use super::*;

/// Pieces that change the shape of a manifest when they are put somewhere into it.
const PIECES: [&str; 22] = [
    " ", "\n", "  ", "- ", ": ", "{", "}", "[", "]", ",", "\"", "'", "#", "&a ", "*a", "!x ", "|",
    ">", "null", "\u{feff}", "é", "---\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_damaged_manifest_is_refused_or_read_and_never_both(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..12_usize, 0..PIECES.len()), 1..6),
    ) {
        let mut text: Vec<char> = FLIGHTS.chars().collect();
        for (at, length, piece) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, PIECES[piece].chars());
        }
        let text: String = text.into_iter().collect();
        let inspected = inspect_manifest(&text);
        prop_assert!(inspected.job.is_some() || !inspected.problems.is_empty());
        let pipeline = inspected.job.as_ref().map_or(&[][..], |job| &job.spec.pipeline);
        prop_assert_eq!(inspected.steps.len(), pipeline.len());
        prop_assert!(pipeline.iter().all(|step| step.verb().is_some()));
        prop_assert!(inspected.problems.iter().all(|problem| !problem.path.is_empty()));
        if inspected.problems.is_empty() {
            let job = inspected.job.unwrap();
            let again = serde_json::to_string(&job).unwrap();
            prop_assert_eq!(read_manifest(&again), Ok(job));
        }
    }
}
