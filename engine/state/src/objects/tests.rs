//! Places on a simulated store: retries, probes, names.

use object_store::PutPayload;
use weir_runtime::sim;
use weir_runtime::sim::store::{Fault, FaultRates, Operation, Planned, SimStore, SimStoreSettings};

use super::*;

fn place(store: &SimStore) -> Place {
    let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
    Place::new(store, Path::from("a/b"), "sim://a/b")
}

async fn put(place: &Place, name: &str) {
    place.store.put(&place.path(name), PutPayload::from_static(b"x")).await.unwrap();
}

#[test]
fn names_and_paths_fit_each_other() {
    let store = SimStore::new(SimStoreSettings::instant(1));
    let place = place(&store);
    let path = place.path("c/d");
    assert_eq!(path, Path::from("a/b/c/d"));
    assert_eq!(place.name_of(&path).as_deref(), Some("c/d"));
    assert_eq!(place.display(&path), "sim://a/b/c/d");
    assert_eq!(place.folder("c").path("d"), path);
    assert_eq!(place.folder("c").display(&path), "sim://a/b/c/d");
}

#[test]
fn errors_that_may_pass_are_repeated_until_the_deadline() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let place = place(&store);
        put(&place, "x").await;
        for nth in 1..=3 {
            store.plan(Planned::nth_of(Operation::Get, nth, Fault::ErrorBefore));
        }
        assert!(place.read(&place.path("x")).await.unwrap().is_some());
        assert_eq!(store.counts()[&Operation::Get], 4);

        store.set_faults(FaultRates { error_before: 1_000, ..FaultRates::default() });
        let started = clock::now();
        let error = place.read(&place.path("x")).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot read sim://a/b/x");
        let took = started.elapsed();
        assert!(took > RETRY_MAX / 2 && took <= RETRY_MAX, "{took:?}");
    });
}

#[test]
fn a_deletion_goes_on_where_it_failed() {
    sim::run(1, async {
        let store = SimStore::new(SimStoreSettings::instant(1));
        let place = place(&store);
        let names: Vec<String> = (0..5).map(|n| format!("o{n}")).collect();
        for name in &names {
            put(&place, name).await;
        }
        store.plan(Planned::nth_of(Operation::Delete, 2, Fault::ErrorBefore));
        store.plan(Planned::nth_of(Operation::Delete, 4, Fault::LostAnswer));
        let paths: Vec<Path> = names.iter().map(|name| place.path(name)).collect();
        place.delete(&paths).await.unwrap();
        assert!(store.names().is_empty());
        assert_eq!(store.counts()[&Operation::Delete], 7);
    });
}

#[test]
fn a_store_that_ignores_create_if_absent_is_refused_by_name() {
    sim::run(1, async {
        let good = SimStore::new(SimStoreSettings::instant(1));
        probe_create_if_absent(&place(&good)).await.unwrap();
        assert!(good.names().is_empty(), "a probe leaves nothing behind");

        let settings =
            SimStoreSettings { ignores_create_if_absent: true, ..SimStoreSettings::instant(1) };
        let bad = SimStore::new(settings);
        let error = probe_create_if_absent(&place(&bad)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the store of sim://a/b does not honour create-if-absent (two creates of one name \
             must not both succeed), so it cannot hold a job's state; choose a store that does"
        );
        assert!(bad.names().is_empty());
    });
}

#[test]
fn a_faulty_store_that_honours_the_condition_is_not_refused() {
    for seed in 0..200 {
        sim::run(seed, async {
            let faults = FaultRates {
                error_before: 100,
                lost_answer: 100,
                exists_without_landing: 100,
                ..FaultRates::default()
            };
            let store =
                SimStore::new(SimStoreSettings { faults, ..SimStoreSettings::instant(seed) });
            probe_create_if_absent(&place(&store)).await.unwrap();
        });
    }
}

#[test]
fn a_full_store_is_told_from_one_that_may_recover() {
    sim::run(1, async {
        let settings = SimStoreSettings { capacity_bytes: Some(2), ..SimStoreSettings::instant(1) };
        let store = SimStore::new(settings);
        let error = probe_create_if_absent(&place(&store)).await.unwrap_err();
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        assert!(error.to_string().ends_with("no space is left; free some and run again"));
    });
}
