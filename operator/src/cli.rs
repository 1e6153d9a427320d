//! Flags of the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use weir_crds::Duration;

use crate::certificates::times::Times;

/// Stateful streaming jobs whose state lives in an object store.
#[derive(Debug, Parser)]
#[command(name = "weir", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a job on this machine, without a cluster
    Run(RunArgs),
    /// Write a manifest that runs as it is, to begin with
    Init {
        /// The file to write; one that is there is left alone
        #[arg(default_value = "job.yaml")]
        file: PathBuf,
    },
    /// Report every problem of manifests, without running them
    Validate(ValidateArgs),
    /// Say what a manifest would do, before it is run or applied
    Plan(PlanArgs),
    /// Print the definition of the custom resources
    Crd {
        /// Their reference page instead
        #[arg(long)]
        markdown: bool,
    },
    /// Look at a job's state, with no job running
    State {
        #[command(subcommand)]
        command: StateCommand,
    },
    /// Run the jobs that a cluster's resources declare
    Operator(OperatorArgs),
    /// Let go of a cluster's jobs before the operator is taken away for good
    Release(ReleaseArgs),
    /// Run a job's subtasks; started by `weir run` or by the operator
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Flags of `weir run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The job's manifest
    pub(crate) file: PathBuf,
    /// Folder for state, logs and caches; each job has a folder of its own in it
    #[arg(long, value_name = "DIR", default_value = "weir-data")]
    pub(crate) data: PathBuf,
    /// Begin a new run: delete the state and the sink files of this job's earlier runs first
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Keep the state there instead of in the data folder
    #[arg(long, value_name = "URI")]
    pub(crate) state: Option<String>,
}

/// Flags of `weir operator`.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    /// Namespaces to watch, with commas between them; without it all
    #[arg(long, value_name = "NAMESPACE", env = "WEIR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub(crate) watch: Vec<String>,
    /// The operator's own namespace, where leases and authorities lie
    #[arg(long, env = "POD_NAMESPACE", default_value = "weir-system")]
    pub(crate) namespace: String,
    /// Image of the workers of jobs that name none
    #[arg(long, value_name = "IMAGE", env = "WEIR_WORKER_IMAGE")]
    pub(crate) worker_image: String,
    /// Folder of the states of jobs without state.uri: each gets NAMESPACE/NAME below it
    #[arg(long, value_name = "URI", env = "WEIR_STATE_URI")]
    pub(crate) state: Option<String>,
    /// Tells this cluster from others that share a bucket; without it the uid of kube-system does
    #[arg(long, value_name = "NAME", env = "WEIR_CLUSTER_ID")]
    pub(crate) cluster_id: Option<String>,
    /// How long a namespace's authority counts; the next one follows after two thirds of it
    #[arg(long, value_name = "DURATION", env = "WEIR_AUTHORITY_LIFETIME", default_value = "365d")]
    pub(crate) authority_lifetime: Duration,
    /// How long a certificate between operator and workers counts; renewed after two thirds of it
    #[arg(long, value_name = "DURATION", env = "WEIR_CERTIFICATE_LIFETIME", default_value = "90d")]
    pub(crate) certificate_lifetime: Duration,
    /// How often the authorities of namespaces with running jobs are looked at
    #[arg(
        long,
        value_name = "DURATION",
        env = "WEIR_CERTIFICATE_CHECK_INTERVAL",
        default_value = "10m"
    )]
    pub(crate) certificate_check_interval: Duration,
    /// Serve /healthz, /readyz and /metrics there
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7411")]
    pub(crate) probes: SocketAddr,
}

impl OperatorArgs {
    /// Errors: durations that do not fit together.
    pub(crate) fn times(&self) -> Result<Times, String> {
        let [authority, certificate, look] =
            [self.authority_lifetime, self.certificate_lifetime, self.certificate_check_interval]
                .map(|its| std::time::Duration::from_millis(its.as_millis()));
        Times::new(authority, certificate, look)
    }
}

/// Flags of `weir release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// Namespaces whose jobs are let go of, with commas between them; without it all
    #[arg(long, value_name = "NAMESPACE", env = "WEIR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub(crate) watch: Vec<String>,
    /// The operator's own namespace
    #[arg(long, env = "POD_NAMESPACE", default_value = "weir-system")]
    pub(crate) namespace: String,
    /// The operator's deployment there: scaled to nothing first, or it would take the jobs back
    #[arg(long, value_name = "NAME")]
    pub(crate) deployment: Option<String>,
    /// The operator's folder of the states of jobs without state.uri
    #[arg(long, value_name = "URI", env = "WEIR_STATE_URI")]
    pub(crate) state: Option<String>,
}

/// Flags of `weir worker`. Without `--listen` it is the child of a `weir run`.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// Its place among the job's workers or compactors
    #[arg(long, default_value_t = 0)]
    pub(crate) ordinal: u32,
    /// What it does: run a job's steps, or merge its table files for the workers
    #[arg(long, value_enum, default_value = "worker")]
    pub(crate) role: ProcessRole,
    /// Serve the coordinator and other workers there, with mutual TLS
    #[arg(long, value_name = "ADDRESS", requires = "tls", requires = "incarnation")]
    pub(crate) listen: Option<SocketAddr>,
    /// Folder with ca.crt, tls.crt and tls.key, which are read again when they change
    #[arg(long, value_name = "DIR", requires = "listen")]
    pub(crate) tls: Option<PathBuf>,
    /// Folder with a folder for each secret of a store, named as the secret
    #[arg(long, value_name = "DIR", requires = "listen")]
    pub(crate) stores: Option<PathBuf>,
    /// This process's own id, which no other process ever has
    #[arg(long, value_name = "ID", requires = "listen")]
    pub(crate) incarnation: Option<String>,
    /// Serve /healthz, /readyz and /metrics there
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7411")]
    pub(crate) probes: SocketAddr,
}

/// What a process does for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProcessRole {
    /// Runs subtasks.
    Worker,
    /// Compacts.
    Compactor,
}

impl ProcessRole {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Compactor => "compactor",
        }
    }
}

/// Flags of `weir validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// Manifests
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Look at no source: columns and types are not checked
    #[arg(long)]
    pub(crate) offline: bool,
}

/// Flags of `weir plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The manifest
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The manifest as it is now: says what each changed field does
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Folder of `weir run`: the job's state is looked for there first
    #[arg(long, value_name = "DIR", default_value = "weir-data")]
    pub(crate) data: PathBuf,
    /// The state lies there
    #[arg(long, value_name = "URI")]
    pub(crate) state: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// List the runs whose state lies there
    Ls {
        /// The job's state folder, as in weir-data/<job>/state
        uri: String,
    },
    /// Delete what is needed no more, of the state and of the sinks' staging folders
    Gc(GcArgs),
    /// Show the last run: generation, checkpoints, shards, positions
    Show {
        /// The job's state folder, as in weir-data/<job>/state
        uri: String,
    },
}

/// Flags of `weir state gc`.
#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    /// The job's state folder, as in weir-data/<job>/state
    pub(crate) uri: String,
    /// Say what would go and why; delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// What relative URIs of sinks are relative to: the manifest's folder. `weir run` notes it
    /// beside the state, so it is asked for only elsewhere
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_operator_rotates_certificates_in_time_by_itself_and_takes_no_times_that_are_too_short() {
        let times = |flags: &[&str]| {
            let all = [&["weir", "operator", "--worker-image", "i"], flags].concat();
            let Command::Operator(args) = Cli::try_parse_from(all).unwrap().command else {
                panic!("another command")
            };
            args.times()
        };
        assert_eq!(times(&[]).unwrap().look().as_secs(), 600);
        let short = ["--certificate-lifetime", "10m", "--authority-lifetime", "30m"];
        assert!(times(&short).unwrap_err().starts_with("--certificate-lifetime is at least 7200s"));
        let all = [&short[..], &["--certificate-check-interval", "10s"]].concat();
        assert_eq!(times(&all).unwrap().settles().as_secs(), 150);
    }

    #[test]
    fn a_worker_in_a_pod_needs_certificates_and_an_id() {
        let all = ["--listen", "0.0.0.0:7410", "--tls", "/tls", "--incarnation", "1-ab"];
        let parse = |flags: &[&str]| Cli::try_parse_from([&["weir", "worker"], flags].concat());
        assert!(parse(&all).is_ok());
        assert!(parse(&["--ordinal", "3"]).is_ok(), "the child of a `weir run`");
        assert!(parse(&all[..4]).is_err() && parse(&all[2..]).is_err());
    }
}
