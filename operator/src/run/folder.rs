//! The folder of one job under `weir run`: state, logs, cache, who owns it and who holds it now.
//!
//! `DIR/<job>/{state,logs,cache}`, `DIR/<job>/owner` (a random id that stays), `DIR/<job>/base` (the
//! folder of the manifest that was run last, for `weir state gc`) and `DIR/<job>/lock` (locked while a
//! `weir run` lives; the operating system lets go of it with the process, however it ends). Holding the
//! lock proves that every earlier owner of this folder is gone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use weir_runtime::random;

/// A job's folder, held until dropped.
#[derive(Debug)]
pub(crate) struct JobFolder {
    root: PathBuf,
    /// Who owns the job's state: the same at every run in this folder.
    pub(crate) owner: String,
    /// Folders that were made for it, the outermost last.
    made: Vec<PathBuf>,
    _lock: File,
}

/// Why a job's folder can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// Another `weir run` holds it.
    #[error(
        "{folder} is in use by process {pid}: one `weir run` at a time works on it; stop that \
         process, or give this one another folder with --data"
    )]
    Held {
        /// The folder.
        folder: PathBuf,
        /// Who holds it.
        pid: String,
    },
    /// The operating system refuses.
    #[error("cannot use {path}; --data names another place for state and logs")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Cause.
        #[source]
        cause: std::io::Error,
    },
}

impl JobFolder {
    /// Makes and locks the folder of `job` below `data`.
    pub(crate) fn hold(data: &Path, job: &str) -> Result<Self, FolderError> {
        let root = data.join(job);
        let new = [root.as_path(), data].into_iter().filter(|folder| !folder.exists());
        let made = new.map(Path::to_owned).collect();
        create_folder(&root)?;
        let root = root.canonicalize().map_err(io(&root))?;
        let lock = lock(&root)?;
        for name in ["state", "logs", "cache"] {
            create_folder(&root.join(name))?;
        }
        let owner = owner(&root)?;
        Ok(Self { root, owner, made, _lock: lock })
    }

    /// Removes what was made for a job that was refused, if nothing was there before. A folder with
    /// something else in it stays.
    pub(crate) fn undo(self) {
        if self.made.is_empty() {
            return;
        }
        let remove = |name: &str, how: fn(PathBuf) -> std::io::Result<()>| {
            // What is not there, or not empty, is not to be removed.
            let _ = how(self.root.join(name));
        };
        remove("state", fs::remove_dir);
        if self.root.join("state").exists() {
            return;
        }
        remove("logs/coordinator.log", fs::remove_file);
        for folder in ["logs", "cache"] {
            remove(folder, fs::remove_dir);
        }
        // The lock goes last: whoever takes the next one finds an empty folder.
        for file in ["base", "owner", "lock"] {
            remove(file, fs::remove_file);
        }
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }

    /// Holds the folder that `state` lies in, if that is a job's folder; nothing is made. `None`: it is
    /// not, so nothing is known of who runs the job.
    pub(crate) fn around(state: &Path) -> Result<Option<Self>, FolderError> {
        let Some(root) = state.parent() else { return Ok(None) };
        let is_state = state.file_name().is_some_and(|name| name == "state");
        if !(is_state && root.join("lock").exists() && root.join("owner").exists()) {
            return Ok(None);
        }
        let lock = lock(root)?;
        let owner = owner(root)?;
        Ok(Some(Self { root: root.to_owned(), owner, made: Vec::new(), _lock: lock }))
    }

    /// Notes the folder of the manifest that is run.
    pub(crate) fn note_base(&self, base: &Path) -> Result<(), FolderError> {
        let path = self.root.join("base");
        fs::write(&path, base.as_os_str().as_bytes()).map_err(io(&path))
    }

    /// The folder of the manifest that was run last with its state at `state`.
    pub(crate) fn base_beside(state: &Path) -> Option<PathBuf> {
        let text = fs::read(state.parent()?.join("base")).ok()?;
        Some(PathBuf::from(OsString::from_vec(text)))
    }

    /// Where the state lies unless `--state` says otherwise.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where logs lie.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError {
    let path = path.to_owned();
    move |cause| FolderError::Io { path, cause }
}

fn create_folder(path: &Path) -> Result<(), FolderError> {
    fs::create_dir_all(path).map_err(io(path))
}

fn lock(root: &Path) -> Result<File, FolderError> {
    let path = root.join("lock");
    // Not truncated at opening: until the lock is ours, the text is the holder's.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // A holder that has not written its number yet is a holder all the same.
            let _ = file.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid };
            return Err(FolderError::Held { folder: root.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(cause)) => return Err(FolderError::Io { path, cause }),
    }
    let mut write = || {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(io(&path))?;
    Ok(file)
}

/// The folder's owner id, made at its first use.
fn owner(root: &Path) -> Result<String, FolderError> {
    let path = root.join("owner");
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().to_owned()),
        Ok(_) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {}
        Err(cause) => return Err(FolderError::Io { path, cause }),
    }
    let id = format!("local-{}", random::id());
    let write = || {
        let mut file = File::create(&path)?;
        writeln!(file, "{id}")?;
        file.sync_all()
    };
    write().map_err(io(&path))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_at_a_time_and_the_owner_stays() {
        let data = tempfile::tempdir().unwrap();
        let first = JobFolder::hold(data.path(), "job").unwrap();
        let owner = first.owner.clone();
        let refused = JobFolder::hold(data.path(), "job").unwrap_err().to_string();
        let pid = std::process::id();
        assert!(refused.contains(&format!("is in use by process {pid}")), "{refused}");
        drop(first);
        assert_eq!(JobFolder::hold(data.path(), "job").unwrap().owner, owner);
        let other = JobFolder::hold(data.path(), "other").unwrap();
        assert_ne!(other.owner, owner);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("file");
        fs::write(&file, "x").unwrap();
        let refused = JobFolder::hold(&file, "job").unwrap_err();
        assert!(refused.to_string().contains("file/job"), "{refused}");
    }
}
