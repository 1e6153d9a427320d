//! Events about jobs: one at each change of phase. Their reasons are listed in
//! docs/design/0014-operator.md.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use weir_crds::{Phase, StatefulJobStatus};

use super::conditions::holds;
use super::declared::Declared;
use super::snapshots::Snapshot;

/// Longest note; an API server takes 1024 bytes.
const NOTE_CHARS_MAX: usize = 900;

/// Publishes events.
#[derive(Clone)]
pub(crate) struct Events(Recorder);

impl Events {
    pub(crate) fn new(client: Client, instance: &str) -> Self {
        let reporter = Reporter {
            controller: "weir.dev/operator".to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self(Recorder::new(client, reporter))
    }

    /// A job has another phase.
    pub(crate) async fn phase(&self, declared: &Declared, status: &StatefulJobStatus) {
        let Some(phase) = status.phase else { return };
        let type_ = match phase {
            Phase::Failed | Phase::Recovering => EventType::Warning,
            _ if holds(&status.conditions, "Stalled") => EventType::Warning,
            _ => EventType::Normal,
        };
        let note = status.message.clone().unwrap_or_default();
        self.publish(declared, type_, &format!("{phase:?}"), &note).await;
    }

    /// Something that somebody should look at.
    pub(crate) async fn warn(&self, declared: &Declared, reason: &str, note: &str) {
        self.publish(declared, EventType::Warning, reason, note).await;
    }

    /// The same, about a snapshot.
    pub(crate) async fn warn_snapshot(&self, snapshot: &Snapshot, reason: &str, note: &str) {
        let Snapshot { name, namespace, uid, .. } = snapshot;
        let about = reference("JobSnapshot", name, namespace, uid);
        self.publish_about(about, EventType::Warning, reason, note).await;
    }

    async fn publish(&self, declared: &Declared, type_: EventType, reason: &str, note: &str) {
        let Declared { name, namespace, uid, .. } = declared;
        let about = reference("StatefulJob", name, namespace, uid);
        self.publish_about(about, type_, reason, note).await;
    }

    async fn publish_about(
        &self,
        about: ObjectReference,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(NOTE_CHARS_MAX).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.0.publish(&event, &about).await {
            // An event is a courtesy; in a namespace that ends none can be made.
            tracing::info!(about = about.name, "no event {reason}: {error}");
        }
    }
}

fn reference(kind: &str, name: &str, namespace: &str, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("weir.dev/v1alpha1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}
