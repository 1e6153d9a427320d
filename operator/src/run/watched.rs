//! The manifest of a running job, watched by content: what is edited is applied while it runs.
//!
//! A change counts once the file has had the same content at two looks in a row, so that a file
//! that is being saved is left alone. What cannot be applied is said once and changes nothing: the
//! job goes on as it is. `suspend: true` pauses it whatever else was changed: what it goes on with is
//! the file as it is then.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch::Sender;
use weir_engine::coordinator::run::{Target, Wanted};
use weir_engine::pipeline::spec::JobSpec;
use weir_runtime::clock;

use crate::exit::say;
use crate::manifest::Manifest;
use crate::translate::Beginning;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Steers a job by its file until nobody runs it any more, or the file suspends it.
pub(crate) async fn watch(
    file: PathBuf,
    spec: JobSpec,
    steer: Sender<Target>,
    wish: Sender<Wanted>,
) {
    // What was edited since the manifest was read is seen too.
    let mut watched = Watched { spec, looks: Looks::default() };
    while !steer.is_closed() {
        clock::sleep(LOOK_EVERY).await;
        let Some(text) = watched.looks.settled(read(&file)) else { continue };
        let problems = match spec_of(&text) {
            Ok((_, true)) => {
                say(&format!(
                    "{}: taken over: suspend; a last checkpoint is taken",
                    file.display()
                ));
                // Nobody runs any more: then there is nothing to suspend.
                let _ = wish.send(Wanted::Suspend);
                return;
            }
            Ok((spec, false)) => watched.compare(&spec),
            Err(problems) => Err(problems),
        };
        match problems {
            Ok(Some(target)) => {
                say(&format!("{}: taken over: {}", file.display(), shown(&steer, target)));
                steer.send_replace(target);
            }
            Ok(None) => {}
            Err(problems) => {
                for problem in problems {
                    say(&format!("{}: {problem}", file.display()));
                }
                say(&format!("{}: not taken over, the job goes on as it is", file.display()));
            }
        }
    }
}

/// Waits until the file no longer suspends the job `name`; gives the manifest then. What is wrong
/// with it is told, and the next edit waited for. Cancel safe.
pub(crate) async fn resumed(file: &Path, name: &str, judged: Option<String>) -> Resumed {
    let mut looks = Looks { text: judged, looked: None };
    loop {
        clock::sleep(LOOK_EVERY).await;
        let Some(text) = looks.settled(read(file)) else { continue };
        let problems = match spec_of(&text) {
            Ok((_, true)) => continue,
            Ok((spec, false)) if spec.name == name => {
                let Manifest { beginning, .. } = Manifest::of(PathBuf::new(), &text);
                return Resumed { spec, beginning, text };
            }
            Ok((spec, false)) => vec![format!(
                "metadata.name: this `weir run` holds job {name}; stop it (Ctrl-C) to run {}",
                spec.name
            )],
            Err(problems) => problems,
        };
        for problem in problems {
            say(&format!("{}: {problem}", file.display()));
        }
        say(&format!("{}: not taken over, the job stays suspended", file.display()));
    }
}

/// A manifest that goes on with a suspended job.
pub(crate) struct Resumed {
    /// The job.
    pub(crate) spec: JobSpec,
    /// What counts when it begins.
    pub(crate) beginning: Beginning,
    /// Its text; another one is another edit.
    pub(crate) text: String,
}

/// None: the file is not there, or cannot be read; an editor may be replacing it.
fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}

/// The job that a text describes and whether it is suspended, or all that is wrong with it.
fn spec_of(text: &str) -> Result<(JobSpec, bool), Vec<String>> {
    let manifest = Manifest::of(PathBuf::new(), text);
    match manifest.spec {
        Some(spec) if manifest.problems.is_empty() => Ok((spec, manifest.suspend)),
        _ => Err(manifest.problems),
    }
}

/// What the target changes, in words.
fn shown(steer: &Sender<Target>, target: Target) -> String {
    let before = *steer.borrow();
    let mut changes = Vec::new();
    if before.replicas != target.replicas {
        changes.push(format!("replicas {} instead of {}", target.replicas, before.replicas));
    }
    if before.slots != target.slots {
        changes.push(format!("slots {} instead of {}", target.slots, before.slots));
    }
    if before.checkpoint != target.checkpoint {
        changes.push("another checkpoint policy".to_owned());
    }
    if before.rescale != target.rescale {
        changes.push("another rescale policy".to_owned());
    }
    if before.compaction != target.compaction {
        changes.push("another compaction policy".to_owned());
    }
    if changes.is_empty() { "what it was before".to_owned() } else { changes.join(", ") }
}

/// What is known of a running job's file.
struct Watched {
    /// The job as it runs, but for what can be changed.
    spec: JobSpec,
    looks: Looks,
}

/// What was seen of a file.
#[derive(Default)]
struct Looks {
    /// The content that was judged last.
    text: Option<String>,
    /// What the last look saw, if that was something else.
    looked: Option<String>,
}

impl Looks {
    /// A new content, once it has been there at two looks.
    fn settled(&mut self, now: Option<String>) -> Option<String> {
        let now = now.filter(|now| Some(now) != self.text.as_ref());
        if now.is_some() && now == self.looked {
            self.text.clone_from(&now);
            self.looked = None;
            return now;
        }
        self.looked = now;
        None
    }
}

impl Watched {
    /// The new target, if it is another one; or why the change cannot be applied now.
    fn compare(&mut self, now: &JobSpec) -> Result<Option<Target>, Vec<String>> {
        let target = Target::of(now);
        let mut same = self.spec.clone();
        target.put_into(&mut same);
        if same == *now {
            let changed = target != Target::of(&self.spec);
            self.spec = same;
            return Ok(changed.then_some(target));
        }
        let fields = [
            ("metadata.name", same.name != now.name),
            ("spec.state", same.key_groups != now.key_groups),
            ("spec.state.memory", same.state_memory_bytes != now.state_memory_bytes),
            ("spec.failover", same.failover != now.failover),
            ("spec.pipeline", same.pipeline != now.pipeline),
        ];
        let changed = fields.iter().filter(|(_, changed)| *changed);
        let refused = changed.map(|(field, _)| {
            format!(
                "{field}: a running job takes over replicas, slots, checkpoint, rescale and \
                 compaction only; stop it (Ctrl-C) and run it again for the rest"
            )
        });
        Err(refused.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {name: j}\nspec:\n  \
                       replicas: 2\n  pipeline:\n    - id: s\n      source: {generate: {keys: {distinct: \
                       5}}}\n    - id: out\n      from: s\n      sink: {blackhole: {}}\n";

    fn spec(text: &str) -> JobSpec {
        spec_of(text).unwrap().0
    }

    fn watched() -> Watched {
        Watched { spec: spec(JOB), looks: Looks { text: Some(JOB.to_owned()), looked: None } }
    }

    #[test]
    fn a_content_counts_at_its_second_look() {
        let mut watched = watched().looks;
        let look = |watched: &mut Looks, text: &str| watched.settled(Some(text.to_owned()));
        assert_eq!(look(&mut watched, JOB), None, "nothing changed");
        assert_eq!(look(&mut watched, "half"), None);
        assert_eq!(look(&mut watched, "half saved"), None, "still being written");
        assert_eq!(watched.settled(None), None, "being replaced");
        assert_eq!(look(&mut watched, "whole"), None);
        assert_eq!(look(&mut watched, "whole").as_deref(), Some("whole"));
        assert_eq!(look(&mut watched, "whole"), None, "once");
    }

    #[test]
    fn replicas_slots_and_checkpoint_are_taken_over_and_going_back_is_a_change_too() {
        let mut watched = watched();
        let wider = spec(&JOB.replace("replicas: 2", "replicas: 4\n  slots: 3"));
        let target = watched.compare(&wider).unwrap().expect("a new target");
        assert_eq!((target.replicas, target.slots), (4, 3));
        assert_eq!(watched.compare(&wider), Ok(None));
        assert_eq!(watched.compare(&spec(JOB)).unwrap().map(|target| target.replicas), Some(2));
        let slower = spec(&JOB.replace("replicas: 2", "checkpoint: {interval: 7s}\n  replicas: 2"));
        let target = watched.compare(&slower).unwrap().expect("a new target");
        assert_eq!(target.checkpoint.interval_ms, 7_000);
    }

    #[test]
    fn what_cannot_be_taken_over_is_named_and_takes_the_rest_with_it() {
        let mut watched = watched();
        let other = spec(&JOB.replace("distinct: 5", "distinct: 6").replace("name: j", "name: k"));
        let refused = watched.compare(&JobSpec { replicas: 9, ..other }).unwrap_err();
        assert!(refused[0].starts_with("metadata.name: "), "{refused:?}");
        assert!(refused[1].starts_with("spec.pipeline: "), "{refused:?}");
        assert_eq!(watched.spec.replicas, 2);
    }

    #[test]
    fn a_width_beyond_the_key_groups_is_refused_with_the_numbers() {
        let wide = JOB.replace("replicas: 2", "replicas: 200");
        let refused = spec_of(&wide).unwrap_err();
        assert!(refused[0].contains("200") && refused[0].contains("128"), "{refused:?}");
    }
}
