//! From the resource's types to the engine's: a plain function, since neither crate knows the
//! other. Everything was checked before: by the API server, or by the reader of manifests.

use weir_crds as crds;
use weir_engine::coordinator::begin::Discard;
use weir_engine::pipeline::spec;

/// What the engine needs to know of a manifest, and for each of its steps the index of the one in
/// the manifest that it comes from.
pub(crate) fn job_spec(job: &crds::StatefulJob) -> (spec::JobSpec, Vec<usize>) {
    let declared = &job.spec;
    let (mut pipeline, mut from) = (Vec::new(), Vec::new());
    for (index, step) in declared.pipeline.iter().enumerate() {
        let steps = steps(step, &declared.pipeline);
        from.extend(steps.iter().map(|_| index));
        pipeline.extend(steps);
    }
    let spec = spec::JobSpec {
        name: job.metadata.name.clone().unwrap_or_default(),
        replicas: declared.replicas,
        slots: declared.slots,
        key_groups: declared.state.key_groups,
        order: match declared.state.order {
            Some(crds::Order::Strict) => spec::Order::Strict,
            Some(crds::Order::Relaxed) | None => spec::Order::Relaxed,
        },
        state_memory_bytes: declared.state.memory.as_bytes(),
        checkpoint: checkpoint(&declared.checkpoint),
        failover: failover(&declared.failover),
        rescale: spec::RescalePolicy {
            deadline_ms: declared.rescale.deadline.as_millis(),
            cooldown_ms: declared.rescale.cooldown.as_millis(),
        },
        compaction: compaction(&declared.compaction),
        pipeline,
    };
    (spec, from)
}

/// Whose state a job begins from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RestoreFrom {
    /// A `JobSnapshot` of this name.
    Snapshot(String),
    /// The newest checkpoint in the state folder.
    Uri(String, spec::StoreSpec),
}

/// What counts when a job begins, and not while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// Whose state it begins from.
    pub(crate) restore_from: Option<RestoreFrom>,
    /// The owner whose state it may take over.
    pub(crate) take_over: Option<String>,
    /// States of its steps that may be given up.
    pub(crate) discard: Vec<Discard>,
}

/// What counts when the job begins.
pub(crate) fn beginning(job: &crds::StatefulJob) -> Beginning {
    let discard = job.spec.upgrade.iter().flat_map(|upgrade| &upgrade.discard);
    let discard =
        discard.map(|its| Discard { step: its.step.clone(), fingerprint: its.fingerprint.clone() });
    Beginning {
        restore_from: restore_from(job),
        take_over: job.spec.restore_from.as_ref().and_then(|its| its.take_over.clone()),
        discard: discard.collect(),
    }
}

/// Whose state the job begins from while it has none of its own.
fn restore_from(job: &crds::StatefulJob) -> Option<RestoreFrom> {
    let declared = job.spec.restore_from.as_ref()?;
    match (&declared.snapshot_ref, &declared.uri) {
        (Some(snapshot), _) => Some(RestoreFrom::Snapshot(snapshot.name.clone())),
        (None, uri) => Some(RestoreFrom::Uri(uri.clone()?, store(declared.store.as_ref()))),
    }
}

fn checkpoint(declared: &crds::CheckpointSpec) -> spec::CheckpointPolicy {
    spec::CheckpointPolicy {
        interval_ms: declared.interval.as_millis(),
        timeout_ms: declared.timeout.as_millis(),
        min_pause_ms: declared.min_pause.as_millis(),
        retained: declared.retained,
        tolerable_failures: declared.tolerable_failures,
    }
}

fn failover(declared: &crds::FailoverSpec) -> spec::FailoverPolicy {
    spec::FailoverPolicy {
        timeout_ms: declared.timeout.as_millis(),
        restarts: declared.restarts,
        within_ms: declared.within.as_millis(),
        min_survivors_percent: declared.min_survivors.as_u32(),
    }
}

fn compaction(declared: &crds::CompactionSpec) -> spec::CompactionPolicy {
    spec::CompactionPolicy {
        remote: declared.mode == crds::CompactionMode::Remote,
        min_replicas: declared.min_replicas,
        max_replicas: declared.max_replicas.unwrap_or(declared.min_replicas),
    }
}

/// A source with several streams is a source for each stream that is read, called as it is read.
fn steps(declared: &crds::StepSpec, all: &[crds::StepSpec]) -> Vec<spec::StepSpec> {
    let Some(step) = step(declared) else { return Vec::new() };
    let spec::Verb::Source(source) = &step.verb else { return vec![step] };
    let spec::SourceKind::Nexmark { events, events_per_second, .. } = source.kind else {
        return vec![step];
    };
    let streams = [
        ("bid", spec::NexmarkStream::Bid),
        ("auction", spec::NexmarkStream::Auction),
        ("person", spec::NexmarkStream::Person),
    ];
    let mut steps = Vec::new();
    for (name, stream) in streams {
        let id = format!("{}.{name}", step.id);
        if all.iter().any(|reader| reader.from.0.contains(&id)) {
            let kind = spec::SourceKind::Nexmark { stream, events, events_per_second };
            let verb = spec::Verb::Source(spec::SourceSpec { kind, ..source.clone() });
            steps.push(spec::StepSpec { id, from: Vec::new(), verb });
        }
    }
    steps
}

/// A step without a verb was refused before.
fn step(declared: &crds::StepSpec) -> Option<spec::StepSpec> {
    let verb = match declared.verb()? {
        crds::Verb::Source(source) => spec::Verb::Source(self::source(source)?),
        crds::Verb::Filter(predicate) => spec::Verb::Filter(predicate.to_owned()),
        crds::Verb::Select(items) => spec::Verb::Select(items.to_vec()),
        crds::Verb::Union => spec::Verb::Union,
        crds::Verb::Aggregate(aggregate) => spec::Verb::Aggregate(self::aggregate(aggregate)),
        crds::Verb::Sink(sink) => spec::Verb::Sink(self::sink(sink)?),
    };
    Some(spec::StepSpec { id: declared.id.clone(), from: declared.from.0.clone(), verb })
}

fn source(declared: &crds::SourceSpec) -> Option<spec::SourceSpec> {
    let mut event_time = declared.event_time.as_ref().map(|time| spec::EventTimeSpec {
        column: time.column.clone(),
        delay_ms: millis(time.delay),
    });
    let (kind, rate) = match (&declared.files, &declared.generate) {
        (Some(files), _) => (files_source(files), files.rate),
        (None, Some(generate)) => {
            if let Some(nexmark) = &generate.nexmark {
                let delay_ms = millis(nexmark.out_of_order);
                event_time.get_or_insert(spec::EventTimeSpec { column: None, delay_ms });
            }
            (generated(generate)?, generate.rate)
        }
        (None, None) => return None,
    };
    Some(spec::SourceSpec { kind, rate, event_time })
}

fn generated(declared: &crds::GenerateSource) -> Option<spec::SourceKind> {
    if let Some(keys) = &declared.keys {
        return Some(spec::SourceKind::Keys {
            count: keys.count,
            distinct: keys.distinct,
            value_bytes: keys.value_bytes,
            skew_milli: keys.skew_milli(),
        });
    }
    if let Some(sequence) = &declared.sequence {
        let every_ms = sequence.every.as_millis();
        return Some(spec::SourceKind::Sequence { count: sequence.count, every_ms });
    }
    declared.nexmark.as_ref().map(|nexmark| spec::SourceKind::Nexmark {
        stream: spec::NexmarkStream::Bid,
        events: nexmark.events,
        events_per_second: nexmark.events_per_second,
    })
}

fn files_source(files: &crds::FilesSource) -> spec::SourceKind {
    let columns = files.schema.as_ref().map(|columns| {
        columns.iter().map(|(name, type_)| (name.to_owned(), type_.to_owned())).collect()
    });
    let format = files.format.map(|format| match format {
        crds::SourceFormat::Parquet => spec::FileFormat::Parquet,
        crds::SourceFormat::Ndjson => spec::FileFormat::Ndjson,
    });
    // The one choice there is today; a second one has to be carried over here.
    let crds::OnError::Fail = files.on_error;
    let store = store(files.store.as_ref());
    spec::SourceKind::Files { uri: files.uri.clone(), format, schema: columns, store }
}

fn aggregate(declared: &crds::AggregateSpec) -> spec::AggregateSpec {
    spec::AggregateSpec {
        key: declared.key.clone(),
        window: declared.window.as_ref().and_then(window),
        values: declared.values.clone(),
        lateness_ms: millis(declared.lateness),
        emit: declared.emit.map(|emit| match emit {
            crds::Emit::OnClose => spec::Emit::OnClose,
            crds::Emit::OnUpdate => spec::Emit::OnUpdate,
        }),
        ttl_ms: declared.ttl.map(millis),
    }
}

/// A window without a kind was refused before.
fn window(declared: &crds::WindowSpec) -> Option<spec::WindowSpec> {
    let offset_ms = declared.offset.map_or(0, millis);
    if let Some(size) = declared.tumble {
        let tumble = spec::TumbleSpec { size_ms: millis(size), offset_ms };
        return Some(spec::WindowSpec::Tumble(tumble));
    }
    if let Some(hop) = &declared.hop {
        let (size_ms, every_ms) = (millis(hop.size), millis(hop.every));
        return Some(spec::WindowSpec::Hop { size_ms, every_ms, offset_ms });
    }
    declared.session.map(|gap| spec::WindowSpec::Session { gap_ms: millis(gap) })
}

fn sink(declared: &crds::SinkSpec) -> Option<spec::SinkSpec> {
    if let Some(files) = &declared.files {
        let format = sink_format(files.format);
        let store = store(files.store.as_ref());
        return Some(spec::SinkSpec::Files { uri: files.uri.clone(), format, store });
    }
    if let Some(table) = &declared.table {
        return Some(spec::SinkSpec::Table(spec::TableSpec {
            uri: table.uri.clone(),
            key: table.key.clone(),
            format: sink_format(table.format),
            every_ms: table.every.map(crds::Duration::as_millis),
            store: store(table.store.as_ref()),
        }));
    }
    if let Some(print) = &declared.print {
        return Some(spec::SinkSpec::Print { limit: print.limit });
    }
    declared.blackhole.as_ref().map(|_| spec::SinkSpec::Blackhole)
}

fn sink_format(declared: crds::SinkFormat) -> spec::SinkFormat {
    match declared {
        crds::SinkFormat::Ndjson => spec::SinkFormat::Ndjson,
        crds::SinkFormat::Parquet => spec::SinkFormat::Parquet,
    }
}

/// How to reach a store, as the engine takes it. `secretRef` is for the cluster: under `weir run`
/// the usual environment variables serve.
pub(crate) fn store(declared: Option<&crds::StoreSpec>) -> spec::StoreSpec {
    let Some(declared) = declared else { return spec::StoreSpec::default() };
    spec::StoreSpec {
        endpoint: declared.endpoint.clone(),
        region: declared.region.clone(),
        allow_http: declared.allow_http,
        path_style: declared.path_style,
        secret: declared.secret_ref.as_ref().map(|secret| secret.name.clone()),
    }
}

fn millis(duration: crds::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
