//! The open sessions of one key: where rows go, which merge, and their bytes.
//!
//! Pure. A session that is closed for a row takes it no more, although it may still be here: the
//! watermark that closed it waits for other keys. So a row finds the same sessions whether what
//! closes is written at once or later.
//!
//! docs/design/0009-windows-and-changelogs.md has the bytes.

use weir_expr::{Aggregates, State};
use weir_runtime::sim::planted::{Planted, planted};

use super::unit::Piece;
use crate::execution::window::{SessionRules, Window};

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 8 + 8 + 4;

/// A session.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Session {
    /// Time of its first row.
    pub(super) first_ms: i64,
    /// Time of its last row.
    pub(super) last_ms: i64,
    /// What its rows add up to.
    pub(super) state: State,
}

impl Session {
    /// The session as a window.
    pub(super) fn window(&self, rules: &SessionRules) -> Window {
        rules.window(self.first_ms, self.last_ms)
    }
}

/// Where rows went.
#[derive(Debug)]
pub(super) enum Placed {
    /// They are late: their own session would be closed, and no open one takes them.
    Late,
    /// Into the session at this place, which takes the place of these, in order of time.
    Into(usize, Vec<Session>),
}

/// Puts a stretch of rows, whose neighbours are at most a gap apart, into the sessions of its key.
pub(super) fn place(
    sessions: &mut Vec<Session>,
    piece: Piece,
    rules: &SessionRules,
    aggregates: &Aggregates,
) -> Placed {
    let takes = |session: &Session| {
        !rules.is_closed(session.last_ms, piece.now_ms)
            && rules.reaches(session.last_ms, piece.first_ms)
            && rules.reaches(piece.last_ms, session.first_ms)
    };
    let (taken, mut rest): (Vec<Session>, Vec<Session>) = sessions.drain(..).partition(takes);
    if taken.is_empty() && rules.is_closed(piece.last_ms, piece.now_ms) {
        *sessions = rest;
        return Placed::Late;
    }
    let mut session = match taken.split_first() {
        Some((first, others)) => {
            let mut session = first.clone();
            for other in others {
                session.last_ms = session.last_ms.max(other.last_ms);
                if !planted(Planted::SessionLostInMerge) {
                    aggregates.merge(&mut session.state, &other.state);
                }
            }
            aggregates.merge(&mut session.state, &piece.partial);
            session
        }
        None => Session {
            first_ms: piece.first_ms,
            last_ms: piece.last_ms,
            state: piece.partial.clone(),
        },
    };
    session.first_ms = session.first_ms.min(piece.first_ms);
    session.last_ms = session.last_ms.max(piece.last_ms);
    let at = rest.partition_point(|other| other.first_ms < session.first_ms);
    rest.insert(at, session);
    *sessions = rest;
    Placed::Into(at, taken)
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(aggregates: &Aggregates, bytes: &[u8]) -> Result<Vec<Session>, String> {
    let cut = || "the sessions of a key are cut".to_owned();
    let (version, mut rest) = bytes.split_first().ok_or_else(cut)?;
    if *version != VERSION {
        return Err(format!("sessions in version {version}, this release reads {VERSION}"));
    }
    let mut sessions = Vec::new();
    while !rest.is_empty() {
        let (header, behind) = rest.split_first_chunk::<HEADER_BYTES>().ok_or_else(cut)?;
        let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _] = *header;
        let [_, _, _, _, _, _, _, _, last @ .., _, _, _, _] = *header;
        let [.., a, b, c, d] = *header;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let (state, behind) = behind.split_at_checked(length).ok_or_else(cut)?;
        sessions.push(Session {
            first_ms: i64::from_be_bytes(first),
            last_ms: i64::from_be_bytes(last),
            state: aggregates.decode(state).map_err(|error| error.to_string())?,
        });
        rest = behind;
    }
    Ok(sessions)
}

/// Appends the bytes of sessions, which are in order of time.
pub(super) fn encode(aggregates: &Aggregates, sessions: &[Session], out: &mut Vec<u8>) {
    out.push(VERSION);
    for session in sessions {
        out.extend(session.first_ms.to_be_bytes());
        out.extend(session.last_ms.to_be_bytes());
        let length = out.len();
        out.extend([0; 4]);
        aggregates.encode(&session.state, out);
        let bytes = u32::try_from(out.len() - length - 4).unwrap_or(u32::MAX);
        out[length..length + 4].copy_from_slice(&bytes.to_be_bytes());
    }
}
