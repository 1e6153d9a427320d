//! Verbs, what is not built yet, and how steps read each other.

use super::*;

#[test]
fn whose_state_and_whose_names_are_told() {
    let discard = |fingerprint: &str| {
        format!("upgrade: {{discard: [{{step: sums, fingerprint: {fingerprint}}}]}}")
    };
    check_spec(&discard("fp-0123456789abcdef"), &[]);
    check_spec(
        &discard("fp-12"),
        &[
            "spec.upgrade.discard[0].fingerprint: `fp-12`: is fp- and 16 hexadecimal digits, as the \
           refusal names it",
        ],
    );
    let begins = "spec.restoreFrom: what to begin from";
    for (fields, said) in [
        ("takeOver: c/n/j/u", vec![]),
        ("takeOver: c/n/j/u, uri: s3://b/x", vec![]),
        ("store: {}", vec![format!("{begins} is missing; write one of: snapshotRef, uri")]),
        (
            "takeOver: u, uri: s3://b/x, snapshotRef: {name: a}",
            vec![format!("{begins} has to be exactly one, found snapshotRef and uri")],
        ),
        (
            "takeOver: u, store: {}",
            vec![
                "spec.restoreFrom.store: stands beside `uri`; a JobSnapshot knows its store"
                    .to_owned(),
            ],
        ),
    ] {
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        check_spec(&format!("restoreFrom: {{{fields}}}"), &said);
    }
    let metadata = "spec.worker.podTemplate.metadata";
    check_spec(
        "worker: {podTemplate: {metadata: {labels: {weir.dev/job: x, team: blue}, annotations: {weir.dev/x: blue}}}}",
        &[
            &format!("{metadata}.labels: weir.dev/job is Weir's own; take another name"),
            &format!("{metadata}.annotations: weir.dev/x is Weir's own; take another name"),
        ],
    );
    check_spec(
        "worker: {podTemplate: {metadata: {name: x}}}",
        &[&format!("{metadata}.name: unknown field `name`")],
    );
}

#[test]
fn what_is_not_built_yet_is_refused_with_that_word() {
    let later =
        |path: &str, what: &str| format!("spec{path}: {what} is not built yet; it comes later");
    let spec = ["image: x", "args: [a]", "sql: select 1"];
    for field in spec {
        let name = field.split(':').next().unwrap();
        check_spec(field, &[&later(&format!(".{name}"), &format!("`{name}`"))]);
    }
    check_spec("compaction: {mode: Remote, minReplicas: 0, maxReplicas: 3}", &[]);
    check_spec(
        "compaction: {mode: Remote, maxReplicas: 0}",
        &["spec.compaction.maxReplicas: 0 is less than minReplicas, 1"],
    );
    check_spec("upgrade: {mode: Rolling}", &[&later(".upgrade.mode", "`mode`")]);
    check_spec("state: {disk: {size: 1Gi}}", &[&later(".state.disk", "`disk`")]);
    for verb in [
        "unnest: tags",
        "dedup: {key: [a]}",
        "topN: {limit: 3}",
        "join: {with: x}",
        "process: {name: p}",
    ] {
        let name = verb.split(':').next().unwrap();
        check_filter(verb, &[&later(&format!(".pipeline[1].{name}"), &format!("`{name}`"))]);
    }
    let files = |field: &str| format!("{{files: {{uri: a, {field}}}}}");
    let source = ".pipeline[0].source";
    for (written, path, what) in [
        (files("follow: true"), ".files.follow", "`follow`"),
        (files("csv: {header: true}"), ".files.csv", "`csv`"),
        (files("format: csv"), ".files.format", "`csv`"),
        (files("onError: skip"), ".files.onError", "`skip`"),
        (files("onError: {deadLetter: x}"), ".files.onError", "`deadLetter`"),
        ("{kafka: {topic: t}}".to_owned(), ".kafka", "`kafka`"),
        ("{files: {uri: data.csv}}".to_owned(), ".files.uri", "`csv`"),
        ("{files: {uri: \"data/*.csv.gz\"}}".to_owned(), ".files.uri", "`csv`"),
        ("{files: {uri: gs://bucket/a.parquet}}".to_owned(), ".files.uri", "`gs://`"),
        (
            "{files: {uri: a}, eventTime: {column: t, idleAfter: 1s}}".to_owned(),
            ".eventTime.idleAfter",
            "`idleAfter`",
        ),
        (
            "{files: {uri: a}, eventTime: {column: t, maxAhead: 1s}}".to_owned(),
            ".eventTime.maxAhead",
            "`maxAhead`",
        ),
    ] {
        check_source(&written, &[&later(&format!("{source}{path}"), what)]);
    }
    for uri in ["a.ndjson", "a.jsonl.zst", "\"a/*.ndjson\"", "a, format: ndjson"] {
        let message = later(".pipeline[0].source.files.schema", "ndjson without `schema`");
        check_source(
            &format!("{{files: {{uri: {uri}}}}}"),
            &[&format!("{message}; name columns and types")],
        );
    }
    let aggregate = ".pipeline[2].aggregate";
    check_aggregate(
        "{window: {tumble: 1s}, values: [count(*) as n], deadLetter: x}",
        &[&later(&format!("{aggregate}.deadLetter"), "`deadLetter`")],
    );
    let sink = ".pipeline[3].sink";
    check_sink("{kafka: {}}", &[&later(&format!("{sink}.kafka"), "`kafka`")]);
    for field in ["roll", "columns", "compression", "partitionBy"] {
        check_sink(
            &format!("{{files: {{uri: a, {field}: x}}}}"),
            &[&later(&format!("{sink}.files.{field}"), &format!("`{field}`"))],
        );
    }
    for (kind, rest) in [("files", ""), ("table", ", key: [k]")] {
        check_sink(
            &format!("{{{kind}: {{uri: a, format: csv{rest}}}}}"),
            &[&later(&format!("{sink}.{kind}.format"), "`csv`")],
        );
    }
}

#[test]
fn a_job_of_another_kind_misses_no_pipeline() {
    let text = FLIGHTS[..FLIGHTS.find("  pipeline:").unwrap()].to_owned() + "  image: mine:1\n";
    assert_eq!(problems(&text), ["spec.image: `image` is not built yet; it comes later"]);
}

#[test]
fn verbs_and_kinds_are_exactly_one() {
    let step = "spec.pipeline[1]: the verb";
    check_filter(
        "",
        &[&format!(
            "{step} is missing; write one of: source, filter, select, union, aggregate, sink"
        )],
    );
    check_filter(
        "filter: a\n      select: [a]",
        &[&format!("{step} has to be exactly one, found filter and select")],
    );
    check_filter(
        "filter: a\n      join: {}",
        &[
            "spec.pipeline[1].join: `join` is not built yet; it comes later",
            &format!("{step} has to be exactly one, found filter and join"),
        ],
    );
    let source = "spec.pipeline[0].source: the kind of source";
    check_source("{}", &[&format!("{source} is missing; write one of: files, generate")]);
    check_source(
        "{files: {uri: a}, generate: {keys: {}}}",
        &[&format!("{source} has to be exactly one, found files and generate")],
    );
    let sink = "spec.pipeline[3].sink: the kind of sink";
    check_sink(
        "{}",
        &[&format!("{sink} is missing; write one of: files, table, blackhole, print")],
    );
    check_sink(
        "{print: {}, blackhole: {}}",
        &[&format!("{sink} has to be exactly one, found blackhole and print")],
    );
    check_aggregate(
        "{window: {}, values: [count(*) as n]}",
        &[
            "spec.pipeline[2].aggregate.window: the kind of window is missing; write one of: tumble, \
           hop, session",
        ],
    );
    check_aggregate("{window: {tumble: 1s}}", &["spec.pipeline[2].aggregate.values: is missing"]);
    check_aggregate(
        "{window: {tumble: 1s}, values: []}",
        &["spec.pipeline[2].aggregate.values: is empty; at least one entry is needed"],
    );
    check_aggregate(
        "{key: [a, b, a], window: {tumble: 1s}, values: [count(*) as n]}",
        &["spec.pipeline[2].aggregate.key[2]: column `a` is named twice"],
    );
}

#[test]
fn event_time_fits_its_source() {
    check_source(
        "{files: {uri: a}, eventTime: {delay: 1s}}",
        &["spec.pipeline[0].source.eventTime.column: is missing; name a timestamp column"],
    );
    check_source(
        "{generate: {keys: {}}, eventTime: {column: time}}",
        &[
            "spec.pipeline[0].source.eventTime.column: generated rows have their own event time; only `delay` can be set",
        ],
    );
}

#[test]
fn ids_are_there_well_formed_and_unique() {
    let unread = "spec.pipeline[1]: nobody reads step";
    check(
        "id: flown\n      from",
        "from",
        &["spec.pipeline[1].id: is missing", "spec.pipeline[2].from: there is no step `flown`"],
    );
    for wrong in ["1a", "_a", "aB", "a-b", "ä"] {
        let bad = "is not an id: a letter, then lower-case letters, digits and _";
        check(
            "id: out",
            &format!("id: {wrong}"),
            &[&format!("spec.pipeline[3].id: `{wrong}` {bad}")],
        );
    }
    check("id: out", &format!("id: {}", "a".repeat(40)), &[]);
    check(
        "id: out",
        &format!("id: {}", "a".repeat(41)),
        &["spec.pipeline[3].id: has 41 characters; an id has at most 40"],
    );
    check(
        "id: flown",
        "id: flights",
        &[
            "spec.pipeline[1].id: `flights` is already the id of spec.pipeline[0]",
            "spec.pipeline[2].from: there is no step `flown`",
            &format!("{unread} `flights`; read it or remove it"),
        ],
    );
}

#[test]
fn a_step_reads_only_steps_above_it() {
    let from = "spec.pipeline[1].from";
    let at_flights = "spec.pipeline[0]: nobody reads step `flights`; read it or remove it";
    check(
        "from: flights",
        "from: delays",
        &[&format!("{from}: step `delays` is below; a step reads only steps above it"), at_flights],
    );
    check(
        "from: flights",
        "from: flown",
        &[&format!("{from}: step `flown` reads itself"), at_flights],
    );
    check(
        "from: flights",
        "from: flihgts",
        &[&format!("{from}: there is no step `flihgts`; did you mean `flights`?")],
    );
    check(
        "from: flights",
        "from: other",
        &[&format!("{from}: there is no step `other`"), at_flights],
    );
    check(
        "from: flights",
        "from: [flights, flights]",
        &[
            &format!("{from}: only a union reads several steps"),
            &format!("{from}[1]: step `flights` is read twice"),
        ],
    );
    check(
        "      from: flights\n",
        "",
        &[&format!("{from}: is missing; name the step that this one reads"), at_flights],
    );
    check(
        "from: flights",
        "from: []",
        &[&format!("{from}: is empty; name the step that this one reads"), at_flights],
    );
    check(
        "from: flights",
        "from: {a: b}",
        &[&format!("{from}: expected a text, found a mapping"), at_flights],
    );
    check(
        "source:",
        "from: out\n      source:",
        &[
            "spec.pipeline[0].from: a source reads no step; remove `from`",
            "spec.pipeline[0].from: step `out` is below; a step reads only steps above it",
        ],
    );
    check(
        "    - id: out\n      from: delays",
        "    - {id: first, from: delays, sink: {blackhole: {}}}\n    - id: out\n      from: first",
        &["spec.pipeline[4].from: step `first` is a sink; nothing comes out of it"],
    );
    check_filter("union: {}", &[&format!("{from}: a union reads at least two steps")]);
}

/// The streams of a source that gives several, and of those that do not.
#[test]
fn a_stream_is_read_by_source_and_name() {
    let manifest = |source: &str, from: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StatefulJob\nmetadata: {{name: bids}}\nspec:\n  \
             pipeline:\n    - id: nexmark\n      source: {source}\n    - {{id: out, from: {from}, \
             sink: {{blackhole: {{}}}}}}\n"
        )
    };
    let nexmark = "{generate: {nexmark: {events: 100, outOfOrder: 4s}, rate: 5}}";
    for from in ["nexmark.bid", "nexmark.auction", "nexmark.person"] {
        accepted(&manifest(nexmark, from));
    }
    let refused = |source: &str, from: &str, message: &str| {
        let expected = format!("spec.pipeline[1].from: {message}");
        assert_eq!(problems(&manifest(source, from)), [expected]);
    };
    let all = "`nexmark.bid`, `nexmark.auction`, `nexmark.person`";
    let several = format!("step `nexmark` gives several streams; read one of {all}");
    refused(nexmark, "nexmark", &several);
    let near = "step `nexmark` has no stream `bids`; did you mean `nexmark.bid`?";
    refused(nexmark, "nexmark.bids", near);
    let far = format!("step `nexmark` has no stream `offers`; it has {all}");
    refused(nexmark, "nexmark.offers", &far);
    let one = "step `nexmark` gives one stream; read it as `nexmark`";
    refused("{generate: {sequence: {count: 5, every: 1s}}}", "nexmark.bid", one);
    let unknown = "there is no step `nexmrak.bid`; did you mean `nexmark`?";
    refused(nexmark, "nexmrak.bid", unknown);

    let union =
        manifest(nexmark, "nexmark.bid").replace("from: nexmark.bid, sink", "from: both, sink");
    let union = |inputs: &str| {
        union.replace(
            "    - {id: out",
            &format!("    - {{id: both, from: {inputs}, union: {{}}}}\n    - {{id: out"),
        )
    };
    accepted(&union("[nexmark.bid, nexmark.auction]"));
    assert_eq!(
        problems(&union("[nexmark.bid, nexmark.bid]")),
        ["spec.pipeline[1].from[1]: step `nexmark.bid` is read twice"]
    );
}

#[test]
fn what_is_generated_is_exactly_one() {
    let place = "spec.pipeline[0].source.generate";
    check_source(
        "{generate: {rate: 5}}",
        &[&format!(
            "{place}: the kind of generated rows is missing; write one of: keys, sequence, nexmark"
        )],
    );
    check_source(
        "{generate: {keys: {}, sequence: {}}}",
        &[&format!(
            "{place}: the kind of generated rows has to be exactly one, found keys and sequence"
        )],
    );
    check_source(
        "{generate: {sequence: {every: 0ms}}}",
        &[&format!("{place}.sequence.every: 0ms is too small; the least is 1ms")],
    );
}

#[test]
fn every_step_is_read_and_something_is_written() {
    check(
        "from: flown",
        "from: flights",
        &["spec.pipeline[1]: nobody reads step `flown`; read it or remove it"],
    );
    let end = FLIGHTS.find("    - id: out").unwrap();
    assert_eq!(
        problems(&FLIGHTS[..end]),
        [
            "spec.pipeline[2]: nobody reads step `delays`; read it or remove it",
            "spec.pipeline: there is no sink; without one nothing is written",
        ]
    );
}

#[test]
fn all_problems_come_at_once_and_the_sound_part_is_kept() {
    let text = FLIGHTS
        .replace("name: flights\n", "name: Flights\n")
        .replace(
            "replicas: 2",
            "replicas: 0\n  checkpoint: {interval: 1s, nothing: 1}\n  failover: {timeout: x}",
        )
        .replace("{tumble: 1h}", "{hop: {size: 1h}}")
        .replace(
            "    - id: out",
            "    - {id: seen, from: flown, color: red, sink: {print: {}}}\n    - id: out",
        );
    let Inspected { job, steps, problems } = inspect_manifest(&text);
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "metadata.name",
            "spec.replicas",
            "spec.checkpoint.nothing",
            "spec.failover.timeout",
            "spec.pipeline[2].aggregate.window.hop.every",
            "spec.pipeline[3].color",
        ]
    );
    let job = job.unwrap();
    assert_eq!(steps, [0, 1, 3], "without the aggregate and what reads it");
    let ids: Vec<&str> = job.spec.pipeline.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["flights", "flown", "seen"]);
    assert_eq!(job.spec.replicas, 1, "the default");
    assert_eq!(job.spec.checkpoint.interval.as_millis(), 1_000, "what is right is kept");
    assert_eq!(job.spec.failover.timeout.as_millis(), 5_000);
    assert!(read_manifest(&text).is_err());
}

#[test]
fn windows_of_every_kind_and_none_are_read() {
    let values = "values: [count(*) as n]";
    for aggregate in [
        "{window: {tumble: 1h, offset: 59m}, VALUES, emit: onUpdate, lateness: 1m}",
        "{window: {hop: {size: 1h, every: 10m}, offset: 9m}, VALUES, emit: onClose}",
        "{window: {hop: {size: 1h, every: 1h}}, VALUES}",
        "{window: {session: 30m, offset: 2h}, VALUES}",
        "{key: [origin], VALUES, ttl: 7d, lateness: 0s}",
        "{VALUES, emit: onUpdate}",
    ] {
        check_aggregate(&aggregate.replace("VALUES", values), &[]);
    }
    let order = FLIGHTS.replace("replicas: 2", "replicas: 2\n  state: {order: Strict}");
    assert_eq!(accepted(&order).spec.state.order, Some(crate::Order::Strict));
}

#[test]
fn windows_that_make_no_sense_are_refused() {
    let step = "spec.pipeline[2].aggregate";
    let check = |aggregate: &str, expected: &str| {
        let written = aggregate.replace("VALUES", "values: [count(*) as n]");
        check_aggregate(&written, &[&format!("{step}{expected}")]);
    };
    check(
        "{window: {}, VALUES}",
        ".window: the kind of window is missing; write one of: tumble, hop, session",
    );
    check(
        "{window: {tumble: 1s, session: 1s}, VALUES}",
        ".window: the kind of window has to be exactly one, found tumble and session",
    );
    check(
        "{window: {hop: {size: 1m, every: 61s}}, VALUES}",
        ".window.hop.every: 61s is longer than the window, 1m, so that rows between windows would \
         be lost; make it at most `size`",
    );
    check(
        "{window: {hop: {size: 1m, every: 10s}, offset: 10s}, VALUES}",
        ".window.offset: 10s is not shorter than `every`, 10s",
    );
    check("{window: {session: 0s}, VALUES}", ".window.session: 0s is too small; the least is 1ms");
    check(
        "{VALUES, emit: onClose}",
        ".emit: without a window nothing closes, so the only choice is `onUpdate`",
    );
    check(
        "{VALUES, lateness: 1s}",
        ".lateness: says how long a window stays, and there is no window",
    );
    check(
        "{window: {tumble: 1s}, VALUES, ttl: 1s}",
        ".ttl: a window's state ends with the window; `ttl` is for aggregates without one",
    );
    check("{VALUES, ttl: 0s}", ".ttl: 0s is too small; the least is 1ms");
}
