//! `weir`: the one binary.
//!
//! - `cli.rs` — flags. `exit.rs` — exit codes, and everything that goes to standard error.
//! - `manifest.rs` — a manifest file, or all of its problems. `translate.rs` — to the engine's types.
//! - `run.rs` — `weir run`: one job on this machine, its workers as child processes.
//! - `probes.rs`, `metrics.rs` — what a kubelet and Prometheus ask a worker or an operator.
//! - `operator.rs` — `weir operator`. `credentials.rs` — of object stores, from Kubernetes secrets.
//! - `worker.rs` — `weir worker`. `init.rs`, `validate.rs`, `plan.rs`, `state.rs` — the commands
//!   of these names.
//!
//! What must stay true: standard output is only what was asked for (rows of `print`, a definition, a
//! listing); all else goes to standard error.

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, StateCommand};
use crate::exit::Exit;

mod certificates;
mod cli;
mod credentials;
mod exit;
mod init;
mod log;
mod manifest;
mod metrics;
mod operator;
mod plan;
mod probes;
mod run;
mod schedule;
mod state;
mod translate;
mod validate;
mod worker;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            exit::report(&error);
            return Exit::Failed.into();
        }
    };
    let exit = runtime.block_on(Box::pin(command(cli.command)));
    // Blocked reads of standard input must not hold up the end.
    runtime.shutdown_background();
    exit.into()
}

async fn command(command: Command) -> Exit {
    match command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Init { file } => init::run(&file),
        Command::Operator(args) => Box::pin(operator::run(args)).await,
        Command::Release(args) => Box::pin(operator::release::run(args)).await,
        Command::Worker(args) => Box::pin(worker::run(args)).await,
        Command::Validate(args) => validate::run(args).await,
        Command::Plan(args) => Box::pin(plan::run(args)).await,
        Command::Crd { markdown: true } => {
            state::out(&weir_crds::reference(&[weir_crds::crd(), weir_crds::snapshot_crd()]))
        }
        Command::Crd { markdown: false } => state::out(&weir_crds::crd_yaml()),
        Command::State { command: StateCommand::Ls { uri } } => state::ls(&uri).await,
        Command::State { command: StateCommand::Gc(args) } => state::gc::run(args).await,
        Command::State { command: StateCommand::Show { uri } } => state::show(&uri).await,
    }
}
