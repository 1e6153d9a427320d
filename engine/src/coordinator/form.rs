//! The form of a deployment: what a worker's stages depend on, as a number. Pure.
//!
//! A coordinator that comes to running workers goes on with them only if they were deployed in the
//! form that it would deploy itself. What can change while they run is left out.

use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::begin::{PlannedSource, Request};
use crate::pipeline::spec::{JobSpec, StoreSpec};
use crate::protocol::Deploy;

/// What a deployment of `request` says, but for where and from which checkpoint.
pub(crate) fn deploy<'a>(
    request: &Request,
    sources: impl Iterator<Item = &'a PlannedSource>,
    key_groups: u16,
    run: &str,
) -> Deploy {
    let spec_json = serde_json::to_string(&request.spec);
    let mut deploy = Deploy {
        spec_json: spec_json.expect("a spec is plain data"),
        sources: sources.map(|source| source.plan.clone()).collect(),
        key_groups: key_groups.into(),
        state_uri: request.state_uri.clone(),
        state_store_json: store_json(&request.state_store),
        base_folder: request.base_folder.clone(),
        state_memory_bytes: request.spec.state_memory_bytes,
        run: run.to_owned(),
        ..Deploy::default()
    };
    deploy.form = form(&deploy);
    deploy
}

fn form(deploy: &Deploy) -> u64 {
    let spec = serde_json::from_str(&deploy.spec_json);
    let mut spec: serde_json::Value = spec.expect("it was made from a spec");
    if let Some(fields) = spec.as_object_mut() {
        for live in JobSpec::LIVE.iter().chain(&["failover"]) {
            fields.remove(*live);
        }
    }
    let stable = Deploy { spec_json: spec.to_string(), ..deploy.clone() };
    // 0 is what an older worker says.
    xxh3_64(&stable.encode_to_vec()).max(1)
}

/// Nothing for a store that needs nothing, as before there was the field.
fn store_json(store: &StoreSpec) -> String {
    match *store == StoreSpec::default() {
        true => String::new(),
        false => serde_json::to_string(store).expect("a store is plain data"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spec: &str, state_uri: &str) -> u64 {
        let (spec_json, state_uri) = (spec.to_owned(), state_uri.to_owned());
        form(&Deploy { spec_json, state_uri, ..Deploy::default() })
    }

    #[test]
    fn what_may_change_while_a_job_runs_is_no_other_form() {
        let one = of(r#"{"name":"a","replicas":1,"slots":1,"checkpoint":{"x":1}}"#, "s");
        assert_eq!(
            one,
            of(r#"{"replicas":2,"slots":3,"failover":{"y":1},"rescale":{},"name":"a"}"#, "s")
        );
        assert_ne!(one, of(r#"{"name":"b","replicas":1,"slots":1}"#, "s"));
        assert_ne!(one, of(r#"{"name":"a","replicas":1,"slots":1}"#, "t"));
    }
}
