//! Writing a journal: claims, terms, appends, bases.

use bytes::Bytes;
use object_store::ObjectMeta;
use prost::Message;
use weir_runtime::random;
use weir_runtime::sim::planted::{Planted, planted};

use super::base::BaseState;
use super::claims::{self, Claim};
use super::entry::{Entry, NewJob};
use super::envelope::{Envelope, Kind};
use super::error::JournalError;
use super::reader::{self, Read};
use super::record::{Authority, Body, Coordinator, Record};
use super::state::{Doomed, JobState};
use super::{Folder, Root};
use crate::ids::{CheckpointId, Seq, Term};
use crate::names::{self, Incarnation};
use crate::objects::{self, Backoff, Create, Place, StoreError};

/// How often a coordinator claims anew because its number went to another record.
const CLAIMS_MAX: usize = 20;

/// The journal of one incarnation, as one process sees it.
///
/// It writes only after [`Journal::claim`]. All writes go through one owner, who holds it mutably.
#[derive(Debug)]
pub struct Journal {
    root: Root,
    folder: Folder,
    read: Read,
    /// What this process claimed.
    reign: Option<Reign>,
    /// What the next record says beside its body.
    notes: Notes,
    /// A record that was sent and whose fate is not known.
    sent: Option<Sent>,
    /// Tag of the claim's object, once it was seen to be this incarnation's.
    own_claim: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Reign {
    term: Term,
    owner: String,
}

#[derive(Clone, Debug, Default)]
struct Notes {
    confirmed: Vec<CheckpointId>,
    deleted_through: Option<Seq>,
}

/// The only candidate of this process for its number.
#[derive(Clone, Debug)]
struct Sent {
    seq: Seq,
    id: u64,
    bytes: Bytes,
    /// The state if it wins.
    next: JobState,
}

/// Who got a number.
#[derive(Debug, PartialEq, Eq)]
enum Winner {
    Mine,
    Other,
}

impl Journal {
    /// Creates an incarnation after `after` (the present one, or none) and opens it.
    ///
    /// Guarantee: of all who create after the same one, one succeeds; the others get
    /// [`JournalError::CreatedElsewhere`] and open that one. `after` is void from here on: its
    /// coordinator's next append fails.
    pub async fn create(
        root: &Root,
        new: &NewJob,
        after: Option<&Incarnation>,
    ) -> Result<Self, JournalError> {
        let number = next_claim(root, after).await?;
        objects::probe_create_if_absent(&root.place).await?;
        let claim = Claim::new(Some(new.created()));
        if !claims::create(root, number, &claim).await? {
            return Err(JournalError::CreatedElsewhere { uri: root.place.uri.clone() });
        }
        Self::open_claim(root, claims::Present { number, claim, tag: None }).await
    }

    /// Opens the present incarnation; `None` when the job has none. Writes nothing but the first
    /// record, should its creator have died before it.
    pub async fn open(root: &Root) -> Result<Option<Self>, JournalError> {
        match claims::present(root).await? {
            Some(present) if present.claim.created.is_some() => {
                Self::open_claim(root, present).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Declares that the job has no incarnation any more: `last` is void from here on, and a later
    /// one can be created. What it left is then deleted with [`crate::gc::delete_incarnation`].
    pub async fn abandon(root: &Root, last: &Incarnation) -> Result<(), JournalError> {
        let number = next_claim(root, Some(last)).await?;
        match claims::create(root, number, &Claim::new(None)).await? {
            true => Ok(()),
            false => Err(JournalError::CreatedElsewhere { uri: root.place.uri.clone() }),
        }
    }

    async fn open_claim(root: &Root, present: claims::Present) -> Result<Self, JournalError> {
        let uri = || root.place.uri.clone();
        let no_job = || JournalError::NoJob { uri: uri() };
        let folder = Folder::new(root, present.incarnation().ok_or_else(no_job)?);
        let first = present.first_record().ok_or_else(no_job)?;
        let mut read = reader::read(&folder).await?;
        let mut backoff = Backoff::new(root.settle_max);
        while read.state.seq == Seq(0) {
            // Always the same bytes, so it does not matter who writes them, or how often.
            match folder.place.create_once(&folder.record(Seq(1)), first.encode()).await {
                Ok(Create::Done | Create::Exists) => {}
                Err(error) if error.is_transient() && backoff.wait().await => {}
                Err(error) => return Err(error.into()),
            }
            read = reader::read(&folder).await?;
        }
        let (root, notes) = (root.clone(), Notes::default());
        let own_claim = present.tag;
        Ok(Self { root, folder, read, reign: None, notes, sent: None, own_claim })
    }

    /// Reads the journal of an incarnation that need not be the present one; it can't be written.
    pub async fn read_only(root: &Root, incarnation: &Incarnation) -> Result<Self, JournalError> {
        let folder = Folder::new(root, incarnation.clone());
        let (read, root) = (reader::read(&folder).await?, root.clone());
        let notes = Notes::default();
        Ok(Self { root, folder, read, reign: None, notes, sent: None, own_claim: None })
    }

    /// The incarnation.
    pub fn incarnation(&self) -> &Incarnation {
        &self.folder.incarnation
    }

    /// A copy that only reads, for clean-up beside the writer.
    #[must_use]
    pub fn reader(&self) -> Self {
        let (root, folder, read) = (self.root.clone(), self.folder.clone(), self.read.clone());
        let (notes, own_claim) = (Notes::default(), self.own_claim.clone());
        Self { root, folder, read, reign: None, notes, sent: None, own_claim }
    }

    /// The incarnation's folder.
    pub fn place(&self) -> &Place {
        &self.folder.place
    }

    /// The folder of the incarnation's table files, where bare object names lie.
    pub fn objects(&self) -> Place {
        self.folder.place.folder("objects")
    }

    /// The job's state folder.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The state at the end that this process has read.
    pub fn state(&self) -> &JobState {
        &self.read.state
    }

    /// The term in which this process reigns, after [`Journal::claim`].
    pub fn term(&self) -> Option<Term> {
        self.reign.as_ref().map(|reign| reign.term)
    }

    /// Refuses when the state is another job's.
    pub fn check_job(&self, expected: &str) -> Result<(), JournalError> {
        let found = &self.read.state.job;
        if found == expected {
            return Ok(());
        }
        let uri = self.root.place.uri.clone();
        Err(JournalError::OtherJob { uri, expected: expected.to_owned(), found: found.clone() })
    }

    /// The next record will say that all pieces of `checkpoint` are published.
    pub fn note_confirmed(&mut self, checkpoint: CheckpointId) {
        let unconfirmed = self.read.state.unconfirmed.contains_key(&checkpoint);
        if unconfirmed && !self.notes.confirmed.contains(&checkpoint) {
            self.notes.confirmed.push(checkpoint);
        }
    }

    /// The next record will say that what records up to `seq` condemned is deleted.
    pub fn note_deleted(&mut self, seq: Seq) {
        self.notes.deleted_through = self.notes.deleted_through.max(Some(seq));
    }

    /// Whether a confirmation waits for the next record; it counts as a change.
    pub fn has_unrecorded_confirmation(&self) -> bool {
        !self.notes.confirmed.is_empty()
    }

    /// Reads on to the journal's end, and settles a record whose fate was unknown.
    pub async fn refresh(&mut self) -> Result<(), JournalError> {
        if self.sent.is_some() {
            self.settle().await?;
        }
        self.read = reader::read_on(&self.folder, self.read.clone()).await?;
        match reader::superseded(&self.root, &self.folder, &mut self.own_claim).await? {
            Some(claim) => Err(self.superseded_by(claim)),
            None => self.check_reigning(),
        }
    }

    /// Begins to reign for `owner`: appends `Coordinator` with the next term.
    ///
    /// Errors: [`JournalError::OwnedElsewhere`] when another owner has the job and `authority` is
    /// only [`Authority::Owner`]; [`JournalError::Finished`].
    pub async fn claim(&mut self, owner: &str, authority: Authority) -> Result<Term, JournalError> {
        self.begin_reign(owner, (authority, None), false).await
    }

    /// The same, by `authority` over `previous` and nobody else: whoever was quicker keeps it.
    pub async fn take_over(
        &mut self,
        owner: &str,
        authority: Authority,
        previous: &str,
    ) -> Result<Term, JournalError> {
        self.begin_reign(owner, (authority, Some(previous)), false).await
    }

    /// Begins to reign in the name of the present owner, of whom no coordinator runs: to name
    /// snapshots and to give them up, which can be done of a finished job too. A coordinator that runs
    /// nevertheless is fenced.
    pub async fn visit(&mut self) -> Result<Term, JournalError> {
        let owner = self.read.state.owner.clone();
        self.begin_reign(&owner, (Authority::Owner, None), true).await
    }

    async fn begin_reign(
        &mut self,
        owner: &str,
        (authority, previous): (Authority, Option<&str>),
        is_visit: bool,
    ) -> Result<Term, JournalError> {
        // What was claimed before is void: this process reigns anew or not at all.
        self.reign = None;
        for _ in 0..CLAIMS_MAX {
            if self.read.state.finished.is_some() && !is_visit {
                return Err(JournalError::Finished { job: self.read.state.job.clone() });
            }
            self.check_owner(owner, authority, previous)?;
            let term = self.read.state.term.next();
            let coordinator =
                Coordinator { term: term.0, owner: owner.to_owned(), authority: authority.into() };
            match self.write(term, Body::Coordinator(coordinator)).await {
                Ok(_) => {
                    self.write_base_when_due().await;
                    self.reign = Some(Reign { term, owner: owner.to_owned() });
                    return Ok(term);
                }
                Err(JournalError::Lost { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(JournalError::Unsettled { folder: self.folder.place.uri.clone() })
    }

    /// Appends a record; on success it is durable, and [`Journal::state`] includes it.
    ///
    /// Errors: [`JournalError::Lost`]: decide again from the new state. `Fenced`,
    /// `OwnedElsewhere`, `Superseded`: stop. `Refused`: it cannot follow; nothing was written.
    /// `Store`: the outcome is unknown until the next append or refresh, which settles it first
    /// (that append is then `Lost`).
    ///
    /// Cancel safety: dropping the future has the same meaning as an unknown outcome.
    pub async fn append(&mut self, entry: Entry) -> Result<Seq, JournalError> {
        let term = self.term().ok_or(JournalError::NotClaimed)?;
        self.check_reigning()?;
        self.check_open(&entry)?;
        let after = self.read.state.seq;
        let body = entry
            .into_body(&self.read.state)
            .map_err(|error| JournalError::Refused { after, what: error.to_string() })?;
        let seq = self.write(term, body).await?;
        self.write_base_when_due().await;
        Ok(seq)
    }

    async fn write(&mut self, term: Term, body: Body) -> Result<Seq, JournalError> {
        if self.sent.is_some() {
            // Whoever won, the caller has decided on a state that is not the last one.
            let seq = self.read.state.seq.next();
            self.settle().await?;
            self.read = reader::read_on(&self.folder, self.read.clone()).await?;
            self.check_reigning()?;
            return Err(JournalError::Lost { seq });
        }
        // Another coordinator may have recorded a confirmation meanwhile.
        self.notes.confirmed.retain(|id| self.read.state.unconfirmed.contains_key(id));
        let record = Record {
            term: term.0,
            confirmed: self.notes.confirmed.iter().map(|id| id.0).collect(),
            deleted_through: self.notes.deleted_through.unwrap_or_default().0,
            body: Some(body),
        };
        let after = self.read.state.seq;
        let next = self.read.state.with(&record).map_err(|error| {
            let what = reader::chain(&error);
            JournalError::Refused { after, what }
        })?;
        let (seq, id) = (next.seq, random::u64());
        let incarnation = self.folder.incarnation.to_string();
        let payload = record.encode_to_vec().into();
        let bytes =
            Envelope { kind: Kind::Record, number: seq.0, id, incarnation, payload }.encode();
        if planted(Planted::RetiredBeforeRecord) {
            self.delete_given_up(&next).await?;
        }
        self.sent = Some(Sent { seq, id, bytes, next });
        match self.settle().await? {
            Winner::Mine => Ok(seq),
            Winner::Other => {
                self.read = reader::read_on(&self.folder, self.read.clone()).await?;
                self.check_reigning()?;
                Err(JournalError::Lost { seq })
            }
        }
    }

    /// Finds out who got the number of the record that was sent, sending it again as needed. The
    /// state moves on when it is ours.
    async fn settle(&mut self) -> Result<Winner, JournalError> {
        let Some(sent) = self.sent.clone() else { return Ok(Winner::Other) };
        let path = self.folder.record(sent.seq);
        let mut backoff = Backoff::new(self.root.settle_max);
        loop {
            let created = self.folder.place.create_once(&path, sent.bytes.clone()).await;
            let winner = match created {
                Ok(Create::Done) => Some(Winner::Mine),
                Ok(Create::Exists) => self.winner(&sent).await?,
                Err(ref error) if error.is_transient() => self.winner(&sent).await?,
                Err(error) => return Err(error.into()),
            };
            match winner {
                Some(winner) => return self.settled(sent, winner).await,
                // "Exists" and then not found, or an error without effect: the same bytes again.
                None if backoff.wait().await => {}
                None => return Err(unknown_outcome(created, &self.folder)),
            }
        }
    }

    /// Reads whose record has the number; `None`: nobody's.
    async fn winner(&self, sent: &Sent) -> Result<Option<Winner>, JournalError> {
        let Some(bytes) = self.folder.place.read(&self.folder.record(sent.seq)).await? else {
            return Ok(None);
        };
        let (id, _) = reader::decode_record(&self.folder, sent.seq, &bytes)?;
        let mine = id == sent.id && bytes == sent.bytes;
        Ok(Some(if mine { Winner::Mine } else { Winner::Other }))
    }

    /// A number that is ours counts only above the floor and while no later claim exists.
    async fn settled(&mut self, sent: Sent, winner: Winner) -> Result<Winner, JournalError> {
        if winner == Winner::Other && !planted(Planted::LostNumberKept) {
            self.sent = None;
            return Ok(winner);
        }
        let (floor, claim) = futures::try_join!(
            reader::floor_at_or_above(&self.folder, sent.seq),
            reader::superseded(&self.root, &self.folder, &mut self.own_claim)
        )?;
        self.sent = None;
        if let Some(claim) = claim {
            return Err(self.superseded_by(claim));
        }
        if floor.is_some() {
            return Ok(Winner::Other);
        }
        self.forget_notes(&sent.next);
        self.read.state = sent.next;
        Ok(Winner::Mine)
    }

    /// Drops the notes that the journal has now.
    fn forget_notes(&mut self, state: &JobState) {
        self.notes.confirmed.retain(|id| state.unconfirmed.contains_key(id));
        self.notes.deleted_through = None;
    }

    /// Writes a base when enough records came since the last one; what fails now is done later.
    async fn write_base_when_due(&mut self) {
        let seq = self.read.state.seq;
        if seq.0 - self.read.base.0 >= self.root.base_every
            && let Err(error) = self.write_base().await
        {
            tracing::warn!(%seq, error = reader::chain(&error), "base not written yet");
        }
    }

    /// Writes the state as a base, reads it back, and deletes what lies below the base before it.
    async fn write_base(&mut self) -> Result<(), JournalError> {
        let (seq, before) = (self.read.state.seq, self.read.base);
        let path = self.folder.base(seq);
        let payload = BaseState::of(&self.read.state).encode_to_vec().into();
        let (id, incarnation) = (random::u64(), self.folder.incarnation.to_string());
        let bytes = Envelope { kind: Kind::Base, number: seq.0, id, incarnation, payload }.encode();
        let mut backoff = Backoff::new(self.root.settle_max);
        let stored = loop {
            let created = self.folder.place.create_once(&path, bytes.clone()).await;
            if let Some(stored) = self.folder.place.read(&path).await? {
                break stored;
            }
            if !backoff.wait().await {
                return Err(unknown_outcome(created, &self.folder));
            }
        };
        if reader::decode_base(&self.folder, seq, &stored)? != self.read.state {
            let what = "the base says something else than the records up to it".to_owned();
            let object = self.folder.place.display(&path);
            return Err(JournalError::Contradiction { object, what });
        }
        self.read.base = seq;
        self.delete_below(before).await
    }

    /// Deletes what lies below the floor: late puts can leave records there.
    pub(crate) async fn delete_below_floor(&self) -> Result<(), JournalError> {
        let bases = reader::numbered(&self.folder, "base", None).await?;
        // As long as the journal has one base only, the floor is the incarnation's beginning.
        match bases.len().checked_sub(2) {
            Some(before_last) => self.delete_below(bases[before_last]).await,
            None => Ok(()),
        }
    }

    /// Records and bases that [`Journal::delete_below_floor`] deletes.
    pub(crate) async fn below_floor(&self) -> Result<Vec<ObjectMeta>, JournalError> {
        let bases = reader::numbered(&self.folder, "base", None).await?;
        let Some(before_last) = bases.len().checked_sub(2) else { return Ok(Vec::new()) };
        let (floor, place) = (bases[before_last], &self.folder.place);
        let (records, bases) = (place.path("journal"), place.path("base"));
        let (records, bases) =
            futures::try_join!(place.list(&records, None), place.list(&bases, None))?;
        let number = |meta: &ObjectMeta| meta.location.filename().and_then(names::number);
        let records = records.into_iter().filter(|meta| number(meta).is_some_and(|n| n <= floor.0));
        let bases = bases.into_iter().filter(|meta| number(meta).is_some_and(|n| n < floor.0));
        Ok(records.chain(bases).collect())
    }

    /// Deletes records up to `floor` and bases below it. The floor is the base before the last one,
    /// so that a reader on the way from it is rarely disturbed.
    async fn delete_below(&self, floor: Seq) -> Result<(), JournalError> {
        let (records, bases) = futures::try_join!(
            reader::numbered(&self.folder, "journal", None),
            reader::numbered(&self.folder, "base", None)
        )?;
        let records = records.into_iter().filter(|seq| *seq <= floor);
        let bases = bases.into_iter().filter(|seq| *seq < floor);
        let records = records.map(|seq| self.folder.record(seq));
        let gone: Vec<_> = records.chain(bases.map(|seq| self.folder.base(seq))).collect();
        self.folder.place.delete(&gone).await.map_err(JournalError::from)
    }

    /// Only a planted fault does this before the record that gives the objects up.
    async fn delete_given_up(&self, next: &JobState) -> Result<(), JournalError> {
        let objects = self.objects();
        let object = |doomed: &Doomed| match doomed {
            Doomed::Object(name) => Some(objects.path(name)),
            Doomed::Staged { .. } => None,
        };
        let doomed: Vec<_> = next.condemned.values().flatten().filter_map(object).collect();
        objects.delete(&doomed).await.map_err(JournalError::from)
    }

    fn check_owner(
        &self,
        owner: &str,
        authority: Authority,
        previous: Option<&str>,
    ) -> Result<(), JournalError> {
        let state = &self.read.state;
        let is_meant = previous.is_none_or(|previous| previous == state.owner);
        if state.owner == owner || state.released || (authority != Authority::Owner && is_meant) {
            return Ok(());
        }
        Err(JournalError::OwnedElsewhere { job: state.job.clone(), owner: state.owner.clone() })
    }

    /// Whether this process, if it ever claimed, still reigns.
    fn check_reigning(&self) -> Result<(), JournalError> {
        let (state, Some(reign)) = (&self.read.state, &self.reign) else { return Ok(()) };
        if state.term == reign.term || planted(Planted::OldTermAccepted) {
            return Ok(());
        }
        if state.owner != reign.owner {
            let (job, owner) = (state.job.clone(), state.owner.clone());
            return Err(JournalError::OwnedElsewhere { job, owner });
        }
        Err(JournalError::Fenced { ours: reign.term, theirs: state.term })
    }

    /// Whether anything may follow.
    fn check_open(&self, entry: &Entry) -> Result<(), JournalError> {
        let state = &self.read.state;
        let is_visit = matches!(entry, Entry::Snapshot { .. } | Entry::DropSnapshot { .. });
        if state.finished.is_some() && !is_visit {
            return Err(JournalError::Finished { job: state.job.clone() });
        }
        if state.released { Err(JournalError::NotClaimed) } else { Ok(()) }
    }

    fn superseded_by(&self, claim: u64) -> JournalError {
        JournalError::Superseded { incarnation: self.folder.incarnation.to_string(), claim }
    }
}

/// The claim number that follows `after`, which must be the present one.
async fn next_claim(root: &Root, after: Option<&Incarnation>) -> Result<u64, JournalError> {
    let present = claims::present(root).await?;
    if present.as_ref().and_then(claims::Present::incarnation).as_ref() != after {
        return Err(JournalError::CreatedElsewhere { uri: root.place.uri.clone() });
    }
    Ok(present.map_or(0, |present| present.number) + 1)
}

fn unknown_outcome(created: Result<Create, StoreError>, folder: &Folder) -> JournalError {
    match created {
        Err(error) => error.into(),
        Ok(_) => JournalError::Unsettled { folder: folder.place.uri.clone() },
    }
}
