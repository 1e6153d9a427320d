//! A crash before and after each object call, and before and after each send, of a short job to
//! which nothing else happens: one run for each.

use weir_engine::network::sim::Crash;
use weir_runtime::sim::store::{Fault, Planned};

use super::draw::Scenario;
use super::run;

/// Runs `job` with `change`, for each number up to `count`.
fn each(job: fn() -> Scenario, count: u64, change: impl Fn(&mut Scenario, u64)) {
    let mut wrong = Vec::new();
    for nth in 1..=count {
        let mut scenario = job();
        change(&mut scenario, nth);
        match run(&scenario) {
            Ok(_) => {}
            Err(what) => {
                wrong.push(format!("{:?} {:?}: {what}", scenario.planned, scenario.crash_at));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_crash_before_or_after_any_object_call_changes_no_output() {
    let calls = run(&Scenario::quiet()).expect("the quiet job is right").calls;
    assert!(calls > 50, "only {calls} object calls");
    for fault in [Fault::CrashBefore, Fault::CrashAfter] {
        each(Scenario::quiet, calls, |scenario, nth| {
            scenario.planned = vec![Planned::nth_call(nth, fault)]
        });
    }
}

#[test]
fn a_crash_before_or_after_any_send_changes_no_output() {
    let sends = run(&Scenario::quiet()).expect("the quiet job is right").sends;
    assert!(sends > 150, "only {sends} sends");
    for crash in [Crash::BeforeSend, Crash::AfterSend] {
        each(Scenario::quiet, sends, |scenario, nth| scenario.crash_at = Some((nth, crash)));
    }
}

// With compactors after each alone, since before the next one comes to nearly the same: both are shown
// above.

#[test]
fn a_crash_after_any_object_call_of_a_compaction_changes_no_output() {
    let quiet = run(&Scenario::quiet_compaction()).expect("the quiet job is right");
    assert!(quiet.reached.0["compacted elsewhere"] > 1, "nothing was compacted elsewhere");
    each(Scenario::quiet_compaction, quiet.calls, |scenario, nth| {
        scenario.planned = vec![Planned::nth_call(nth, Fault::CrashAfter)];
    });
}

#[test]
fn a_crash_after_any_send_of_a_compaction_changes_no_output() {
    let sends = run(&Scenario::quiet_compaction()).expect("the quiet job is right").sends;
    each(Scenario::quiet_compaction, sends, |scenario, nth| {
        scenario.crash_at = Some((nth, Crash::AfterSend));
    });
}
