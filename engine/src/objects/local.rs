//! Files and folders of the machine, by plain path or `file://`.

use std::path::{Component, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;

use crate::objects::Location;

/// Where a path of the machine leads. What is written there is durable (fsync) once it answered.
///
/// The store begins at the deepest folder that exists, so that deleting the last file of a folder
/// of ours takes the folder along, and never one that was there before.
pub(crate) fn open(path: &std::path::Path) -> Result<Location, String> {
    let path = without_dots(&std::path::absolute(path).map_err(|cause| cause.to_string())?);
    let mut root = path.as_path();
    while !root.is_dir() {
        root = root.parent().unwrap_or(std::path::Path::new("/"));
    }
    let below = path.strip_prefix(root).map_err(|cause| cause.to_string())?;
    let parts = below.components().map(|part| part.as_os_str().to_str());
    let parts: Option<Vec<&str>> = parts.collect();
    let parts = parts.ok_or_else(|| "the path is not UTF-8".to_owned())?;
    let store = LocalFileSystem::new_with_prefix(root).map_err(|cause| cause.to_string())?;
    let store = store.with_fsync(true).with_automatic_cleanup(true);
    Ok(Location { store: Arc::new(store), path: Path::from_iter(parts) })
}

/// Whether files and folders can be made in a folder, or in the deepest above it that exists.
pub(crate) fn probe(folder: &std::path::Path) -> std::io::Result<()> {
    let folder = without_dots(&std::path::absolute(folder)?);
    let mut root = folder.as_path();
    while !root.try_exists()? {
        root = root.parent().unwrap_or(std::path::Path::new("/"));
    }
    // The name of a probe that a crash left says what it is.
    let probe = root.join(format!(".weir-probe-{}", weir_runtime::random::id()));
    std::fs::create_dir(&probe)?;
    std::fs::remove_dir(&probe)
}

/// The path that `file://` and this mean, with its `%xx` read; `None` when a host is named.
pub(crate) fn path_of_uri(rest: &str) -> Option<PathBuf> {
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let mut bytes = Vec::with_capacity(path.len());
    let mut at = path.as_bytes();
    while let [first, after @ ..] = at {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let escaped = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        at = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok().filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// The path without `.` and `..`.
fn without_dots(path: &std::path::Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut path, part| {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            part => path.push(part),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;

    use super::*;

    #[test]
    fn dots_are_taken_out() {
        let path = without_dots(std::path::Path::new("/a/./b/../c/x.parquet"));
        assert_eq!(path, std::path::Path::new("/a/c/x.parquet"));
    }

    #[test]
    fn file_uris_are_read() {
        assert_eq!(path_of_uri("/a%20b/100%"), Some("/a b/100%".into()));
        assert_eq!(path_of_uri("localhost/a"), Some("/a".into()));
        assert_eq!(path_of_uri("host/a"), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_found_out_and_nothing_is_left() {
        let base = tempfile::tempdir().unwrap();
        probe(&base.path().join("a/b")).unwrap();
        probe(base.path()).unwrap();
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
        std::fs::write(base.path().join("file"), "").unwrap();
        for folder in ["file", "file/below"] {
            let kind = probe(&base.path().join(folder)).unwrap_err().kind();
            assert_eq!(kind, std::io::ErrorKind::NotADirectory, "{folder}");
        }
        assert!(probe(std::path::Path::new("/proc/nowhere")).is_err());
    }

    #[tokio::test]
    async fn a_folder_of_ours_goes_with_its_last_file_and_no_other_does() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("out");
        std::fs::create_dir(&folder).unwrap();
        let location = open(&folder.join("new folder")).unwrap();
        let file = location.path.clone().join("_weir").join("x");
        location.store.put(&file, "text".into()).await.unwrap();
        assert_eq!(std::fs::read(folder.join("new folder/_weir/x")).unwrap(), b"text");
        location.store.delete(&file).await.unwrap();
        assert!(!folder.join("new folder").exists());
        assert!(folder.exists());
    }
}
