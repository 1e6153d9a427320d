//! A worker in a pod: who it is was decided by the operator, and nobody is its parent.
//!
//! SIGTERM asks it to leave, as ever: it works until others have its work, for 25 s at most, which
//! is less than a pod's grace period. When its coordinator is away it works on.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use weir_engine::network::grpc::GrpcNetwork;
use weir_engine::network::tls::Tls;
use weir_engine::objects::{RealObjects, SecretObjects};
use weir_engine::worker::sight::Sight;
use weir_engine::worker::{OpenObjects, WorkerSettings};

use super::probes::Probes;
use crate::cli::{ProcessRole, WorkerArgs};
use crate::credentials::{FolderSecrets, SecretStore};
use crate::exit::Exit;
use crate::probes;

/// What the pod's command line says.
pub(super) struct Pod {
    listen: SocketAddr,
    tls: PathBuf,
    incarnation: String,
    stores: Option<PathBuf>,
    probes: SocketAddr,
    role: ProcessRole,
}

impl Pod {
    /// None: it is a child of `weir run`.
    pub(super) fn of(args: &WorkerArgs) -> Option<Self> {
        Some(Self {
            listen: args.listen?,
            tls: args.tls.clone()?,
            incarnation: args.incarnation.clone()?,
            stores: args.stores.clone(),
            probes: args.probes,
            role: args.role,
        })
    }

    /// Runs until the process ends.
    pub(super) async fn run(self, token: String) -> Exit {
        let (tls, _watching) = match Tls::watch_folder(&self.tls).await {
            Ok(tls) => tls,
            Err(error) => {
                crate::exit::report(&error);
                return Exit::BadInput;
            }
        };
        let sight = Sight::default();
        let name = tls.name();
        let job = format!("{}/{}", name.namespace, name.job);
        let _probes = match probes::serve(self.probes, Probes::new(sight.clone(), job)).await {
            Ok(serving) => serving,
            Err(error) => {
                crate::exit::say(&format!("cannot serve probes at {}: {error}", self.probes));
                return Exit::Failed;
            }
        };
        let incarnation = self.incarnation.clone();
        let leave = super::asked_to_leave();
        let settings = WorkerSettings { incarnation, token, leave, sight };
        let network = GrpcNetwork::secured(tls, self.listen);
        let ready = |address: &str| {
            tracing::info!(worker = self.incarnation, address, "waiting for the coordinator");
        };
        let secrets = self.stores.unwrap_or_default();
        let objects: OpenObjects = Arc::new(move |folder: &str| {
            let secrets = Arc::new(SecretStore::new(Arc::new(FolderSecrets(secrets.clone()))));
            let real = RealObjects { base_folder: folder.into() };
            Arc::new(SecretObjects { real, secrets }) as _
        });
        super::work(self.role, settings, network, objects, ready).await
    }
}
