//! Who may command this worker: one job's incarnation, the newest term, the newest generation.
//!
//! Pure. A message of an older term or generation comes from a process that was superseded and
//! does not know it yet; refusing it here is what makes such a process harmless (design rule 2).

use crate::protocol::{Hello, PROTOCOL_VERSION};

/// What this worker has seen of its job.
#[derive(Debug)]
pub(crate) struct Fence {
    token: String,
    /// The job's incarnation, bound by the first coordinator that is accepted.
    incarnation: Option<String>,
    term: u64,
    generation: u64,
}

impl Fence {
    /// Takes coordinators that know `token`.
    pub(crate) fn new(token: String) -> Self {
        Self { token, incarnation: None, term: 0, generation: 0 }
    }

    /// The job's incarnation, once a coordinator was accepted.
    pub(crate) fn incarnation(&self) -> Option<&str> {
        self.incarnation.as_deref()
    }

    /// A coordinator introduces itself. Accepted, it is the only one that is listened to.
    ///
    /// Errors: why it is refused, in words for its operator.
    pub(crate) fn hello(&mut self, term: u64, hello: &Hello) -> Result<(), String> {
        if !same_secret(&hello.token, &self.token) {
            return Err("the token is not this run's".to_owned());
        }
        if hello.protocol > PROTOCOL_VERSION {
            return Err(format!(
                "protocol {} is newer than this worker's {PROTOCOL_VERSION}: update the worker",
                hello.protocol
            ));
        }
        if let Some(ours) = self.incarnation.as_ref().filter(|ours| **ours != hello.incarnation) {
            return Err(format!(
                "this worker belongs to incarnation {ours}, not to {}",
                hello.incarnation
            ));
        }
        if term < self.term {
            return Err(superseded(term, self.term));
        }
        self.incarnation = Some(hello.incarnation.clone());
        self.term = term;
        Ok(())
    }

    /// The newest term that was accepted.
    pub(crate) fn term(&self) -> u64 {
        self.term
    }

    /// Whether a message of `term` about the running generation is to be obeyed.
    pub(crate) fn admits(&self, term: u64, generation: u64) -> bool {
        term == self.term && generation == self.generation
    }

    /// Whether a heartbeat of `term` is to be answered.
    pub(crate) fn is_term(&self, term: u64) -> bool {
        term == self.term
    }

    /// A deployment of `generation` is asked for in `term`. Gives whether it is to be done; one of
    /// the present generation is the same message again.
    pub(crate) fn deploy(&mut self, term: u64, generation: u64) -> bool {
        let newer = term == self.term && generation > self.generation;
        if newer {
            self.generation = generation;
        }
        newer
    }
}

/// Why a coordinator of an older term is refused.
pub(crate) fn superseded(older: u64, newer: u64) -> String {
    format!("term {older} was superseded by term {newer}")
}

/// Compares in a time that does not tell how much of the secret was right.
pub(crate) fn same_secret(one: &str, two: &str) -> bool {
    one.len() == two.len()
        && one.bytes().zip(two.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello { protocol: PROTOCOL_VERSION, incarnation: "1-a".into(), token: "secret".into() }
    }

    fn fence() -> Fence {
        let mut fence = Fence::new("secret".into());
        fence.hello(2, &hello()).unwrap();
        fence
    }

    #[test]
    fn strangers_are_refused_by_name() {
        let mut fence = fence();
        let other = Hello { token: "secrex".into(), ..hello() };
        assert_eq!(fence.hello(3, &other).unwrap_err(), "the token is not this run's");
        let other = Hello { incarnation: "2-b".into(), ..hello() };
        assert_eq!(
            fence.hello(3, &other).unwrap_err(),
            "this worker belongs to incarnation 1-a, not to 2-b"
        );
        let other = Hello { protocol: PROTOCOL_VERSION + 1, ..hello() };
        assert!(fence.hello(3, &other).unwrap_err().contains("update the worker"));
        assert!(fence.admits(2, 0), "a refused coordinator changes nothing");
    }

    #[test]
    fn an_older_term_is_refused_and_its_messages_are_not_obeyed() {
        let mut fence = fence();
        assert_eq!(fence.hello(1, &hello()).unwrap_err(), "term 1 was superseded by term 2");
        fence.hello(2, &hello()).unwrap();
        fence.hello(3, &hello()).unwrap();
        assert!(fence.deploy(3, 1));
        assert!(!fence.admits(2, 1));
        assert!(fence.admits(3, 1));
        assert!(!fence.deploy(2, 2));
    }

    #[test]
    fn generations_only_grow() {
        let mut fence = fence();
        assert!(fence.deploy(2, 5));
        assert!(!fence.deploy(2, 5), "the same message again");
        assert!(!fence.deploy(2, 4));
        assert!(fence.deploy(2, 6));
        assert!(!fence.admits(2, 5));
    }
}
