//! The workers of one generation, and who has answered the present question. Pure.

use std::collections::BTreeSet;

use weir_runtime::clock::Instant;

use crate::cluster::Member;
use crate::coordinator::links::LinkId;

/// Workers in order of their ordinals, each with the control stream that it was dialled on.
#[derive(Clone, Debug)]
pub(crate) struct Crew {
    members: Vec<Member>,
    first_link: u64,
    answered: BTreeSet<LinkId>,
    /// When the present question was asked.
    pub(crate) since: Instant,
}

impl Crew {
    /// A crew whose streams have the numbers from `first_link`.
    pub(crate) fn new(members: Vec<Member>, first_link: u64, now: Instant) -> Self {
        Self { members, first_link, answered: BTreeSet::new(), since: now }
    }

    /// The same workers, none of which has answered the next question.
    pub(crate) fn ask_again(&self, now: Instant) -> Self {
        Self { answered: BTreeSet::new(), since: now, ..self.clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// All workers with their streams.
    pub(crate) fn members(&self) -> impl Iterator<Item = (LinkId, Member)> {
        let links = (self.first_link..).map(LinkId);
        links.zip(self.members.iter().cloned())
    }

    /// All streams.
    pub(crate) fn links(&self) -> impl Iterator<Item = LinkId> {
        (self.first_link..).map(LinkId).take(self.members.len())
    }

    /// The worker behind a stream, if it belongs to this crew.
    pub(crate) fn incarnation(&self, link: LinkId) -> Option<String> {
        let index = usize::try_from(link.0.checked_sub(self.first_link)?).ok()?;
        self.members.get(index).map(|member| member.incarnation.clone())
    }

    pub(crate) fn incarnations(&self) -> Vec<String> {
        self.members.iter().map(|member| member.incarnation.clone()).collect()
    }

    /// A worker answers.
    pub(crate) fn answer(&mut self, link: LinkId) {
        self.answered.insert(link);
    }

    /// Whether all have answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.links().all(|link| self.answered.contains(&link))
    }

    /// Those that have not.
    pub(crate) fn silent(&self) -> Vec<String> {
        let silent = self.members().filter(|(link, _)| !self.answered.contains(link));
        silent.map(|(_, member)| member.incarnation).collect()
    }
}
