//! The workers of one generation, and who has answered the present question. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
    /// When each said something last.
    heard: BTreeMap<LinkId, Instant>,
    /// When the present question was asked.
    pub(crate) since: Instant,
}

impl Crew {
    /// A crew whose workers hang on these streams, in their order.
    pub(crate) fn new(layout: Layout, links: Vec<LinkId>, now: Instant) -> Self {
        Self { layout, links, answered: BTreeSet::new(), heard: BTreeMap::new(), since: now }
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
    pub(crate) fn member(&self, link: LinkId) -> Option<&Member> {
        self.members().find(|(its, _)| *its == link).map(|(_, member)| member)
    }

    /// Its incarnation.
    pub(crate) fn incarnation(&self, link: LinkId) -> Option<String> {
        self.member(link).map(|member| member.incarnation.clone())
    }

    /// The stream of a worker, if it belongs to this crew.
    pub(crate) fn link(&self, incarnation: &str) -> Option<LinkId> {
        let mut members = self.members();
        members.find(|(_, member)| member.incarnation == incarnation).map(|(link, _)| link)
    }

    /// A worker has said something.
    pub(crate) fn hear(&mut self, link: LinkId, now: Instant) {
        self.heard.insert(link, now);
    }

    /// Those that have said nothing for so long.
    pub(crate) fn quiet_for(
        &self,
        time: Duration,
        now: Instant,
    ) -> impl Iterator<Item = LinkId> + '_ {
        let last = |link: &LinkId| self.heard.get(link).copied().unwrap_or(self.since);
        let links = self.links.iter().copied();
        links.filter(move |link| now.saturating_duration_since(last(link)) >= time)
    }

    /// A worker hangs on another stream from now on.
    pub(crate) fn relink(&mut self, old: LinkId, new: LinkId, now: Instant) {
        for link in self.links.iter_mut().filter(|link| **link == old) {
            *link = new;
        }
        self.hear(new, now);
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
