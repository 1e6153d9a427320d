//! The workers of one generation, and who has answered the present question. Pure.

use std::collections::BTreeSet;

use weir_runtime::clock::Instant;

use crate::cluster::Member;
use crate::coordinator::layout::Layout;
use crate::coordinator::links::LinkId;

/// The workers of a layout, each with the control stream that it was dialled on.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    pub(crate) layout: Layout,
    /// Index = place in the layout.
    links: Vec<LinkId>,
    answered: BTreeSet<LinkId>,
    /// When the present question was asked.
    pub(crate) since: Instant,
}

impl Crew {
    /// A crew whose workers hang on these streams, in their order.
    pub(crate) fn new(layout: Layout, links: Vec<LinkId>, now: Instant) -> Self {
        Self { layout, links, answered: BTreeSet::new(), since: now }
    }

    /// The same workers, none of which has answered the next question.
    pub(crate) fn ask_again(&self, now: Instant) -> Self {
        Self { answered: BTreeSet::new(), since: now, ..self.clone() }
    }

    /// The same, with `now` as the time of the present question.
    pub(crate) fn at(self, now: Instant) -> Self {
        Self { since: now, ..self }
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// All workers with their streams.
    pub(crate) fn members(&self) -> impl Iterator<Item = (LinkId, &Member)> {
        self.links.iter().copied().zip(&self.layout.workers)
    }

    /// All streams, in the order of the workers.
    pub(crate) fn links(&self) -> &[LinkId] {
        &self.links
    }

    /// The worker behind a stream, if it belongs to this crew.
    pub(crate) fn incarnation(&self, link: LinkId) -> Option<String> {
        let mut members = self.members();
        members.find(|(its, _)| *its == link).map(|(_, member)| member.incarnation.clone())
    }

    /// The stream of a worker, if it belongs to this crew.
    pub(crate) fn link(&self, incarnation: &str) -> Option<LinkId> {
        let mut members = self.members();
        members.find(|(_, member)| member.incarnation == incarnation).map(|(link, _)| link)
    }

    /// A worker answers.
    pub(crate) fn answer(&mut self, link: LinkId) {
        self.answered.insert(link);
    }

    /// Whether all have answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.links.iter().all(|link| self.answered.contains(link))
    }

    /// Those that have not.
    pub(crate) fn silent(&self) -> Vec<String> {
        let silent = self.members().filter(|(link, _)| !self.answered.contains(link));
        silent.map(|(_, member)| member.incarnation.clone()).collect()
    }
}
