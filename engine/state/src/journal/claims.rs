//! Claims: which incarnation of a job is the present one.
//!
//! `claims/<n>` is created if absent and holds the whole `Created` record, so creating the claim *is*
//! creating the incarnation: there is no moment between. The greatest claim is the present one; a
//! claim that says `deleted` means that there is none. Claims are never deleted.

use std::str::FromStr;

use prost::Message;
use weir_runtime::random;

use super::Root;
use super::envelope::{Envelope, Kind, undecodable};
use super::error::JournalError;
use super::record::{Body, Created, Record};
use crate::ids::Seq;
use crate::names::{self, Incarnation};
use crate::objects::{Backoff, Create, RETRY_MAX};

/// The content of `claims/<n>`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Claim {
    /// Id of the incarnation.
    #[prost(string, tag = "1")]
    pub(super) id: String,
    /// Id of its first record.
    #[prost(uint64, tag = "2")]
    record_id: u64,
    /// Its first record; none when the claim only says that there is no incarnation any more.
    #[prost(message, optional, tag = "3")]
    pub(super) created: Option<Created>,
}

/// The greatest claim with its number.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub(super) number: u64,
    pub(super) claim: Claim,
    /// Its object's tag, where it is known.
    pub(super) tag: Option<String>,
}

impl Present {
    /// The incarnation, unless it was deleted.
    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        let id = self.claim.id.clone();
        self.claim.created.as_ref().map(|_| Incarnation { number: self.number, id })
    }

    /// Whether this claim makes `incarnation` void: it came before.
    pub(super) fn voids(&self, incarnation: &Incarnation) -> bool {
        incarnation.number < self.number
    }

    /// The first record, with the same bytes whoever writes it.
    pub(super) fn first_record(&self) -> Option<Envelope> {
        let incarnation = self.incarnation()?.to_string();
        let body = self.claim.created.clone().map(Body::Created);
        let payload = Record { body, ..Record::default() }.encode_to_vec().into();
        let id = self.claim.record_id;
        Some(Envelope { kind: Kind::Record, number: Seq(1).0, id, incarnation, payload })
    }
}

impl Claim {
    pub(super) fn new(created: Option<Created>) -> Self {
        Self { id: short_id(), record_id: random::u64(), created }
    }
}

/// Twelve letters and digits: short enough for file names, enough not to come twice.
fn short_id() -> String {
    random::id()[..12].to_owned()
}

/// Numbers of the claims above `after`, in order.
pub(super) async fn numbers(root: &Root, after: u64) -> Result<Vec<u64>, JournalError> {
    let numbers = list(root).await?.into_iter().map(|(number, _)| number);
    Ok(numbers.filter(|number| *number > after).collect())
}

/// All claims in order, each with its object's tag.
pub(super) async fn list(root: &Root) -> Result<Vec<(u64, Option<String>)>, JournalError> {
    let listed = root.place.list(&root.place.path("claims"), None).await?;
    let claims = listed.into_iter().filter_map(|meta| {
        let number = meta.location.filename().and_then(names::number)?;
        Some((number, meta.e_tag))
    });
    let mut claims: Vec<_> = claims.collect();
    claims.sort_unstable();
    Ok(claims)
}

pub(super) async fn read(root: &Root, number: u64) -> Result<Option<Claim>, JournalError> {
    let path = root.claim_path(number);
    let Some(bytes) = root.place.read(&path).await? else { return Ok(None) };
    let object = root.place.display(&path);
    let envelope = Envelope::decode(&object, &bytes, Kind::Claim, number)?;
    Claim::decode(envelope.payload).map(Some).map_err(|error| undecodable(&object, &error))
}

/// The greatest claim, if there is any.
pub(super) async fn present(root: &Root) -> Result<Option<Present>, JournalError> {
    let Some((number, tag)) = list(root).await?.pop() else { return Ok(None) };
    // Claims are never deleted, so one that was listed is there.
    Ok(read(root, number).await?.map(|claim| Present { number, claim, tag }))
}

/// Creates claim `number`; false when another claim got the number.
pub(super) async fn create(root: &Root, number: u64, claim: &Claim) -> Result<bool, JournalError> {
    let incarnation = Incarnation { number, id: claim.id.clone() }.to_string();
    let payload = claim.encode_to_vec().into();
    let id = claim.record_id;
    let bytes = Envelope { kind: Kind::Claim, number, id, incarnation, payload }.encode();
    let path = root.claim_path(number);
    let mut backoff = Backoff::new(RETRY_MAX);
    loop {
        let failed = match root.place.create_once(&path, bytes.clone()).await {
            Ok(Create::Done) => return Ok(true),
            Ok(Create::Exists) => None,
            Err(error) if error.is_transient() => Some(error),
            Err(error) => return Err(error.into()),
        };
        if let Some(winner) = root.place.read(&path).await? {
            return Ok(winner == bytes);
        }
        if !backoff.wait().await {
            let uri = root.place.uri.clone();
            return Err(failed.map_or(JournalError::CreatedElsewhere { uri }, JournalError::Store));
        }
    }
}

/// All incarnation folders below the root, dead ones and present ones.
pub(super) async fn folders(root: &Root) -> Result<Vec<Incarnation>, JournalError> {
    let folders = root.place.folders().await?;
    let mut found: Vec<Incarnation> =
        folders.iter().filter_map(|name| Incarnation::from_str(name).ok()).collect();
    found.sort();
    Ok(found)
}
