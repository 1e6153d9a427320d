//! Which of the objects in a folder a sweep condemns. Pure.

use std::collections::BTreeSet;
use std::fmt;

use weir_runtime::sim::planted::{Planted, planted};

use crate::ids::Generation;
use crate::journal::{Doomed, JobState};
use crate::names::{self, ObjectName, SinkFile};

/// What happens to an object, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// It stays.
    Stays(Why),
    /// It goes.
    Goes(Why),
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// A held checkpoint or an unconfirmed piece names it.
    Named,
    /// The living generation wrote it and may name it yet.
    Living,
    /// A later generation than the journal knows wrote it.
    Later,
    /// It is not one of this job's.
    Foreign,
    /// A dead generation wrote it and no record names it.
    Unnamed,
    /// It is a put that a crash cut off.
    Leftover,
    /// It belongs to an incarnation that is dead.
    DeadRun,
    /// A record gave it up: no kept checkpoint needs it.
    GivenUp,
    /// It belongs to an incarnation of which somebody holds a snapshot.
    Pinned,
    /// A newer base or snapshot has replaced it.
    Replaced,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Named => "named by the journal",
            Self::Living => "of the living generation",
            Self::Later => "of a later generation",
            Self::Foreign => "not this job's",
            Self::Unnamed => "named by no record",
            Self::Leftover => "cut-off write",
            Self::DeadRun => "of an earlier run",
            Self::GivenUp => "needed by no kept checkpoint",
            Self::Pinned => "held by a snapshot, a reader or a fork",
            Self::Replaced => "replaced by a newer one",
        })
    }
}

/// What the journal says about names, put so that it can be asked for many.
#[derive(Debug)]
pub(super) struct Verdict<'a> {
    /// The incarnation's id.
    run: &'a str,
    /// Ids of the job's dead incarnations.
    dead_runs: &'a BTreeSet<String>,
    named: BTreeSet<&'a str>,
    staged: BTreeSet<(&'a str, &'a str)>,
    /// What records gave up; empty unless that is asked for.
    given_up: BTreeSet<&'a Doomed>,
    last: Generation,
    living: Option<Generation>,
}

impl<'a> Verdict<'a> {
    pub(super) fn new(state: &'a JobState, run: &'a str, dead_runs: &'a BTreeSet<String>) -> Self {
        Self {
            run,
            dead_runs,
            named: state.named_objects(),
            staged: state.staged_pieces(),
            given_up: BTreeSet::new(),
            last: state.generation_number(),
            living: state.living_generation(),
        }
    }

    /// As it is for whoever also deletes what records gave up. (A sweep leaves that to
    /// [`super::delete_condemned`], which needs no listing.) `none_lives`: the last generation is
    /// dead too.
    pub(super) fn thorough(self, state: &'a JobState, none_lives: bool) -> Self {
        let living = self.living.filter(|_| !none_lives);
        Self { given_up: state.condemned.values().flatten().collect(), living, ..self }
    }

    /// The fate of the object with this bare name below `objects/`.
    pub(super) fn object(&self, name: &str) -> Fate {
        match ObjectName::parse(name) {
            _ if self.named.contains(name) => Fate::Stays(Why::Named),
            _ if self.is_given_up(Doomed::Object(name.to_owned())) => Fate::Goes(Why::GivenUp),
            Some(parsed) => self.unnamed(parsed.generation, Why::Unnamed),
            None => Fate::Stays(Why::Foreign),
        }
    }

    /// The fate of what lies at `name` below the `_weir/` of the sink folder `folder`.
    pub(super) fn staged(&self, folder: &str, name: &str) -> Fate {
        match names::staged_by(name) {
            _ if self.staged.contains(&(folder, name)) => Fate::Stays(Why::Named),
            _ if self.is_given_up(Doomed::Staged { folder: folder.into(), name: name.into() }) => {
                Fate::Goes(Why::GivenUp)
            }
            Some((run, generation)) if run == self.run => self.unnamed(generation, Why::Unnamed),
            Some((run, _)) if self.dead_runs.contains(run) => Fate::Goes(Why::DeadRun),
            _ => Fate::Stays(Why::Foreign),
        }
    }

    /// The fate of the temporary file of a local put of a state object.
    pub(super) fn leftover_object(&self, name: &str) -> Fate {
        match ObjectName::parse(name) {
            Some(parsed) => self.unnamed(parsed.generation, Why::Leftover),
            None => Fate::Stays(Why::Foreign),
        }
    }

    /// The fate of the temporary file of a local put or copy in a sink folder.
    pub(super) fn leftover_in_sink(&self, name: &str) -> Fate {
        let staged = names::staged_by(name);
        let committed = || SinkFile::parse(name);
        let by = match &staged {
            Some((run, generation)) => Some(((*run).to_owned(), *generation)),
            None => committed().map(|file| (file.run, file.generation)),
        };
        match by {
            Some((run, generation)) if run == self.run => self.unnamed(generation, Why::Leftover),
            Some((run, _)) if self.dead_runs.contains(&run) => Fate::Goes(Why::DeadRun),
            _ => Fate::Stays(Why::Foreign),
        }
    }

    fn is_given_up(&self, doomed: Doomed) -> bool {
        !self.given_up.is_empty() && self.given_up.contains(&doomed)
    }

    fn unnamed(&self, generation: Generation, why: Why) -> Fate {
        if generation > self.last {
            Fate::Stays(Why::Later)
        } else if Some(generation) == self.living && !planted(Planted::LivingSwept) {
            Fate::Stays(Why::Living)
        } else {
            Fate::Goes(why)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::CheckpointId;
    use crate::journal::record::{NewGeneration, Piece};
    use crate::names::ObjectNamer;

    fn state(generation: u64) -> JobState {
        let number = generation;
        let generation = NewGeneration { number, ..NewGeneration::default() };
        JobState { generation: Some(Arc::new(generation)), ..JobState::default() }
    }

    fn name(generation: u64) -> String {
        ObjectNamer::new(Generation(generation), "w").name("sst")
    }

    #[test]
    fn absence_condemns_only_what_dead_generations_left() {
        let (state, none) = (state(5), BTreeSet::new());
        let verdict = Verdict::new(&state, "run", &none);
        assert_eq!(verdict.object(&name(4)), Fate::Goes(Why::Unnamed));
        assert_eq!(verdict.object(&name(5)), Fate::Stays(Why::Living));
        assert_eq!(verdict.object(&name(6)), Fate::Stays(Why::Later));
        assert_eq!(verdict.object("notes.txt"), Fate::Stays(Why::Foreign));
        assert_eq!(verdict.leftover_object(&name(4)), Fate::Goes(Why::Leftover));
        assert_eq!(verdict.leftover_object(&name(5)), Fate::Stays(Why::Living));
    }

    #[test]
    fn after_the_end_the_last_generation_is_dead_but_a_later_one_is_not() {
        let none = BTreeSet::new();
        for state in [
            JobState { finished: Some(Default::default()), ..state(5) },
            JobState { released: true, ..state(5) },
        ] {
            let verdict = Verdict::new(&state, "run", &none);
            assert_eq!(verdict.object(&name(5)), Fate::Goes(Why::Unnamed));
            assert_eq!(verdict.object(&name(6)), Fate::Stays(Why::Later));
        }
    }

    #[test]
    fn staged_pieces_stay_until_they_are_confirmed() {
        let staged = "_weir/run/g4/a.staged";
        let piece = Piece { folder: "out".into(), staged: staged.into(), ..Piece::default() };
        let unconfirmed = [(CheckpointId(1), vec![piece])].into();
        let state = JobState { unconfirmed, ..state(5) };
        let dead = BTreeSet::from(["old".to_owned()]);
        let verdict = Verdict::new(&state, "run", &dead);
        assert_eq!(verdict.staged("out", staged), Fate::Stays(Why::Named));
        assert_eq!(verdict.staged("other", staged), Fate::Goes(Why::Unnamed));
        assert_eq!(verdict.staged("out", "_weir/run/g5/b"), Fate::Stays(Why::Living));
        assert_eq!(verdict.staged("out", "_weir/old/g9/b"), Fate::Goes(Why::DeadRun));
        assert_eq!(verdict.staged("out", "_weir/stranger/g1/b"), Fate::Stays(Why::Foreign));
    }

    #[test]
    fn printed_pieces_are_named_until_they_are_confirmed() {
        let staged = name(4);
        let piece = Piece { staged: staged.clone(), ..Piece::default() };
        let state = JobState { unconfirmed: [(CheckpointId(1), vec![piece])].into(), ..state(5) };
        let none = BTreeSet::new();
        assert_eq!(Verdict::new(&state, "run", &none).object(&staged), Fate::Stays(Why::Named));
    }

    #[test]
    fn leftovers_of_a_cut_off_copy_go_with_their_generation() {
        let (state, none) = (state(5), BTreeSet::new());
        let verdict = Verdict::new(&state, "run", &none);
        let leftover = |name: &str| verdict.leftover_in_sink(name);
        let committed = "out-run-000000000001-4-0-0.ndjson";
        assert_eq!(leftover(committed), Fate::Goes(Why::Leftover));
        assert_eq!(leftover(&committed.replace("-4-", "-5-")), Fate::Stays(Why::Living));
        assert_eq!(leftover("_weir/run/g4/x.staged"), Fate::Goes(Why::Leftover));
        assert_eq!(leftover("readme"), Fate::Stays(Why::Foreign));
    }
}
