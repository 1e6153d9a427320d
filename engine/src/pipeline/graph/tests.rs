//! Pipelines by the stages they are cut into.

use std::fmt::Write as _;

use super::*;
use crate::pipeline::check::check;
use crate::pipeline::check::tests::{aggregate, blackhole, filter, job, keys, select, step};
use crate::pipeline::checked::SourceSchemas;
use crate::pipeline::spec::{StepSpec, Verb};

fn graph(steps: Vec<StepSpec>) -> (CheckedJob, Graph) {
    let checked = check(&job(steps), &SourceSchemas::new()).unwrap();
    let graph = Graph::new(&checked);
    (checked, graph)
}

/// `0 k source <- [] : keep(filter > sink 0), …`
fn show(steps: Vec<StepSpec>) -> String {
    let (job, graph) = graph(steps);
    let mut text = String::new();
    for (index, stage) in graph.stages.iter().enumerate() {
        let id = &job.steps[stage.step].id;
        let outputs = nodes(&job, &stage.outputs);
        writeln!(text, "{index} {id} {:?} <- {:?}: {outputs}", stage.head, stage.inputs).unwrap();
    }
    for (index, edge) in graph.edges.iter().enumerate() {
        let columns: Vec<&str> = edge.schema.fields().iter().map(|f| f.name().as_str()).collect();
        let columns = columns.join(" ");
        writeln!(text, "edge {index} {}->{} {:?} ({columns})", edge.from, edge.to, edge.key)
            .unwrap();
    }
    text
}

fn nodes(job: &CheckedJob, outputs: &[Node]) -> String {
    let node = |node: &Node| {
        let id = &job.steps[node.step].id;
        let op = match &node.op {
            Op::Filter => format!("filter {id}"),
            Op::Select => format!("select {id}"),
            Op::Union(reorder) => format!("union {id} {reorder:?}"),
            Op::Sink { part } => format!("sink {id} part {part}"),
            Op::Edge(edge) => format!("edge {edge}"),
        };
        if node.outputs.is_empty() { op } else { format!("{op} > ({})", nodes(job, &node.outputs)) }
    };
    outputs.iter().map(node).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_chain_is_cut_at_its_aggregates() {
    let text = show(vec![
        step("k", &[], keys()),
        step("keep", &["k"], filter("seq > 1")),
        step("hours", &["keep"], aggregate(&["key"], &["count(*) as n"])),
        step("days", &["hours"], aggregate(&[], &["sum(n) as n"])),
        step("out", &["days"], blackhole()),
    ]);
    assert_eq!(
        text,
        "0 k Source <- []: filter keep > (edge 0)\n\
         1 hours Keyed <- [0]: edge 1\n\
         2 days Keyed <- [1]: sink out part 0\n\
         edge 0 0->1 [0] (key value seq time)\n\
         edge 1 1->2 [] (key window_start window_end n)\n"
    );
}

#[test]
fn one_step_can_be_read_by_many() {
    let text = show(vec![
        step("k", &[], keys()),
        step("a", &["k"], filter("seq > 1")),
        step("out", &["k"], blackhole()),
        step("n", &["a"], aggregate(&["key"], &["count(*) as n"])),
        step("out2", &["a"], blackhole()),
        step("out3", &["n"], blackhole()),
    ]);
    assert_eq!(
        text,
        "0 k Source <- []: filter a > (edge 0, sink out2 part 0), sink out part 0\n\
         1 n Keyed <- [0]: sink out3 part 0\n\
         edge 0 0->1 [0] (key value seq time)\n"
    );
}

#[test]
fn unions_vanish_and_sinks_behind_them_have_parts() {
    let text = show(vec![
        step("a", &[], keys()),
        step("b", &[], keys()),
        step("b2", &["b"], select(&["seq", "key"])),
        step("a2", &["a"], select(&["key", "seq"])),
        step("both", &["a2", "b2"], Verb::Union),
        step("keep", &["both"], filter("seq > 1")),
        step("n", &["keep"], aggregate(&["seq"], &["count(*) as n"])),
        step("out", &["keep"], blackhole()),
        step("out2", &["n"], blackhole()),
    ]);
    assert_eq!(
        text,
        "0 a Source <- []: select a2 > (union both None > (filter keep > (edge 0, sink out part 0)))\n\
         1 b Source <- []: select b2 > (union both Some([1, 0]) > (filter keep > (edge 1, sink out part 1)))\n\
         2 n Keyed <- [0, 1]: sink out2 part 0\n\
         edge 0 0->2 [1] (key seq)\n\
         edge 1 1->2 [1] (key seq)\n"
    );
}

#[test]
fn a_diamond_and_a_step_read_twice_have_a_path_each() {
    let text = show(vec![
        step("k", &[], keys()),
        step("low", &["k"], filter("seq < 5")),
        step("twice", &["low", "k", "low"], Verb::Union),
        step("n", &["twice"], aggregate(&[], &["count(*) as n"])),
        step("out", &["twice"], blackhole()),
        step("out2", &["n"], blackhole()),
    ]);
    assert_eq!(
        text,
        "0 k Source <- []: filter low > (union twice None > (edge 0, sink out part 0), \
         union twice None > (edge 1, sink out part 1)), \
         union twice None > (edge 2, sink out part 2)\n\
         1 n Keyed <- [0, 1, 2]: sink out2 part 0\n\
         edge 0 0->1 [] (key value seq time)\n\
         edge 1 0->1 [] (key value seq time)\n\
         edge 2 0->1 [] (key value seq time)\n"
    );
}

#[test]
fn a_union_of_a_source_and_an_aggregate_leads_forward() {
    let (job, graph) = graph(vec![
        step("k", &[], keys()),
        step("n", &["k"], aggregate(&["key"], &["count(*) as n"])),
        step("n2", &["n"], select(&["key", "n"])),
        step("k2", &["k"], select(&["key", "seq as n"])),
        step("both", &["n2", "k2"], Verb::Union),
        step("m", &["both"], aggregate(&["key"], &["sum(n) as n"])),
        step("out", &["m"], blackhole()),
    ]);
    assert_eq!(graph.stage_of(5), Some(2));
    assert_eq!(graph.stage_of(4), None);
    let ends: Vec<(usize, usize)> = graph.edges.iter().map(|edge| (edge.from, edge.to)).collect();
    assert_eq!(ends, [(0, 1), (0, 2), (1, 2)]);
    assert_eq!(graph.stages[2].inputs, [1, 2]);
    assert!(graph.edges.iter().all(|edge| edge.from < edge.to));
    assert_eq!(graph.edges[1].schema, job.steps[4].schema);
}
