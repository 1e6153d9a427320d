//! The name in a certificate. Pure.

use std::fmt;

/// Names below it belong to nobody's DNS; they are only compared.
const SUFFIX: &str = ".job.weir.dev";

/// What a process does for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Coordinates: opens control streams to workers.
    Operator,
    /// Runs subtasks: serves control streams and data channels, and opens data channels.
    Worker,
    /// Compacts.
    Compactor,
}

impl Role {
    const ALL: [Self; 3] = [Self::Operator, Self::Worker, Self::Compactor];

    fn label(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Worker => "worker",
            Self::Compactor => "compactor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Who a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerName {
    /// What it does.
    pub role: Role,
    /// The job's name; may have dots in it.
    pub job: String,
    /// The job's namespace; has none.
    pub namespace: String,
}

impl PeerName {
    /// The DNS name that stands in the certificate (subject alternative name).
    pub fn dns(&self) -> String {
        format!("{}.{}.{}{SUFFIX}", self.role, self.job, self.namespace)
    }

    /// The name that a certificate's DNS name says.
    pub fn parse(dns: &str) -> Option<Self> {
        let (role, rest) = dns.strip_suffix(SUFFIX)?.split_once('.')?;
        let (job, namespace) = rest.rsplit_once('.')?;
        let role = Role::ALL.into_iter().find(|known| known.label() == role)?;
        let is_name = !job.is_empty() && !namespace.is_empty() && !rest.contains('*');
        is_name.then(|| Self { role, job: job.to_owned(), namespace: namespace.to_owned() })
    }

    /// The same job's process in another role.
    pub fn with_role(&self, role: Role) -> Self {
        Self { role, ..self.clone() }
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of job {}/{}", self.role, self.namespace, self.job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_into_a_certificate_and_back() {
        for (role, job) in [(Role::Operator, "flights"), (Role::Worker, "flights.v2")] {
            let name = PeerName { role, job: job.to_owned(), namespace: "shop".to_owned() };
            assert_eq!(PeerName::parse(&name.dns()), Some(name));
        }
        let worker = PeerName::parse("worker.flights.shop.job.weir.dev").unwrap();
        assert_eq!(worker.to_string(), "the worker of job shop/flights");
        assert_eq!(worker.with_role(Role::Operator).dns(), "operator.flights.shop.job.weir.dev");
    }

    #[test]
    fn other_names_are_nobodys() {
        for dns in [
            "worker.flights.shop.job.weir.example",
            "worker.flights.job.weir.dev",
            "owner.flights.shop.job.weir.dev",
            "worker.*.shop.job.weir.dev",
            "worker..shop.job.weir.dev",
            "*.shop.job.weir.dev",
            "",
        ] {
            assert_eq!(PeerName::parse(dns), None, "{dns}");
        }
    }
}
