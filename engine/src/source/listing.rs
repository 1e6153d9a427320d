//! Which objects a `uri` means: one file, those below a folder, or those that a glob matches.
//!
//! In a glob `*` and `?` stand for characters of one name, `[a-c]` and `[!a-c]` for one of a set or
//! outside of it, and `**` as a whole name for any folders. A name that begins with `.` or `_` is
//! hidden (our own staging among them), unless the glob's name begins with that character too.
//! Objects come in the order of their names, byte by byte.

use std::collections::BTreeMap;

use object_store::path::Path;
use object_store::{Error, ListResult, ObjectMeta};

use crate::objects::Location;
use crate::objects::retry::retry;
use crate::source::SourceError;
use crate::source::object::PinnedObject;
use crate::source::plan::object_error;

/// Objects of one source; their numbers stand in the origins of rows.
pub(crate) const OBJECTS_MAX: usize = 1 << 16;

const WILD: [char; 3] = ['*', '?', '['];
const ANY_FOLDERS: &str = "**";

/// A folder and what is looked for below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// What a URI of the folder is.
    pub(crate) folder: String,
    /// What stands before an object's path below the folder in its name.
    prefix: String,
    /// A name or a pattern of one for each level.
    names: Vec<String>,
}

impl Pattern {
    /// The glob that `uri` is; `None`: it has nothing to be matched.
    ///
    /// Errors: the store itself would have to be matched.
    pub(crate) fn of_glob(uri: &str) -> Result<Option<Self>, String> {
        let Some(wild) = uri.find(WILD) else { return Ok(None) };
        let path_at = uri.find("://").map_or(0, |at| at + "://".len());
        let slash = uri[..wild].rfind('/').map_or(0, |at| at + 1);
        let host_ends = uri[path_at..].find('/').map_or(uri.len(), |at| path_at + at);
        if path_at > 0 && wild < host_ends {
            return Err("a glob begins behind the bucket".to_owned());
        }
        let (prefix, names) = uri.split_at(slash);
        let folder = match prefix {
            "" => ".",
            root if root.trim_end_matches('/').is_empty() || root.ends_with(":///") => root,
            folder => folder.trim_end_matches('/'),
        };
        let mut names: Vec<String> =
            names.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        if names.last().is_some_and(|name| name == ANY_FOLDERS) {
            names.push("*".to_owned());
        }
        Ok(Some(Self { folder: folder.to_owned(), prefix: prefix.to_owned(), names }))
    }

    /// Everything below the folder `uri`, however deep.
    pub(crate) fn of_folder(uri: &str) -> Self {
        let prefix = if uri.ends_with('/') { uri.to_owned() } else { format!("{uri}/") };
        let names = vec![ANY_FOLDERS.to_owned(), "*".to_owned()];
        Self { folder: uri.to_owned(), prefix, names }
    }

    /// Where the object called `name` lies, `folder` being where the folder does.
    pub(crate) fn locate(&self, folder: &Location, name: &str) -> Option<Location> {
        let below = name.strip_prefix(&self.prefix)?;
        let path = match folder.path.as_ref() {
            "" => below.to_owned(),
            parent => format!("{parent}/{below}"),
        };
        let store = std::sync::Arc::clone(&folder.store);
        Some(Location { store, path: Path::parse(path).ok()? })
    }

    /// The objects below `folder` that match, as they are now.
    pub(crate) async fn find(
        &self,
        step: &str,
        folder: &Location,
    ) -> Result<Vec<PinnedObject>, SourceError> {
        let mut found = BTreeMap::new();
        let mut open = vec![(folder.path.clone(), &self.names[..])];
        while let Some((path, names)) = open.pop() {
            let Some((name, rest)) = names.split_first() else { continue };
            if !rest.is_empty() && !name.contains(WILD) {
                open.push((path.join(name.as_str()), rest));
                continue;
            }
            if name == ANY_FOLDERS {
                open.push((path.clone(), rest));
            }
            let Some(listed) = self.list(step, folder, &path).await? else { continue };
            if rest.is_empty() {
                found.extend(listed.objects.into_iter().filter_map(|meta| {
                    let fits = matches(name, meta.location.filename()?);
                    fits.then(|| (self.name_of(&folder.path, &meta.location), meta))
                }));
                if found.len() > OBJECTS_MAX {
                    let what = format!("holds more than {OBJECTS_MAX} files; take a glob of fewer");
                    return Err(object_error(step, &self.folder, &what));
                }
                continue;
            }
            let rest = if name == ANY_FOLDERS { names } else { rest };
            let pattern = if name == ANY_FOLDERS { "*" } else { name.as_str() };
            let fits = |path: &Path| path.filename().is_some_and(|name| matches(pattern, name));
            let folders = listed.common_prefixes.into_iter().filter(fits);
            open.extend(folders.map(|path| (path, rest)));
        }
        let pinned =
            |(name, meta): (String, ObjectMeta)| PinnedObject::listed(step, &name, &meta, folder);
        Ok(found.into_iter().map(pinned).collect())
    }

    fn name_of(&self, folder: &Path, object: &Path) -> String {
        let below = object.as_ref().strip_prefix(folder.as_ref()).unwrap_or(object.as_ref());
        format!("{}{}", self.prefix, below.trim_start_matches('/'))
    }

    async fn list(
        &self,
        step: &str,
        folder: &Location,
        path: &Path,
    ) -> Result<Option<ListResult>, SourceError> {
        match retry(|| folder.store.list_with_delimiter(Some(path))).await {
            Ok(listed) => Ok(Some(listed)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(cause) => {
                let (step, object) = (step.to_owned(), self.folder.clone());
                Err(SourceError::Unreachable { step, object, cause })
            }
        }
    }
}

/// Whether a name is what a pattern of one name means.
fn matches(pattern: &str, name: &str) -> bool {
    let hidden = name.chars().next().filter(|first| ['.', '_'].contains(first));
    if hidden.is_some_and(|first| !pattern.starts_with(first)) {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    // The last `*` and where its rest was tried: enough, since an earlier one need take no more.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
            continue;
        }
        match one(&pattern[p..], name[n]) {
            Some(taken) => (p, n) = (p + taken, n + 1),
            None => match star {
                Some((behind, tried)) => {
                    star = Some((behind, tried + 1));
                    (p, n) = (behind, tried + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

/// How much of the pattern stands for the character, if it does.
fn one(pattern: &[char], character: char) -> Option<usize> {
    match pattern.first()? {
        '?' => Some(1),
        '[' => match set(pattern) {
            Some((inside, length)) => inside(character).then_some(length),
            None => (character == '[').then_some(1),
        },
        literal => (*literal == character).then_some(1),
    }
}

/// `[a-c]`, `[!a-c]`: what is in the set, and how long its text is; `None`: it has no end.
fn set(pattern: &[char]) -> Option<(impl Fn(char) -> bool, usize)> {
    let negated = pattern.get(1) == Some(&'!');
    let first = if negated { 2 } else { 1 };
    // A `]` in the first place is one of the set.
    let end = (first + 1..pattern.len()).find(|&at| pattern[at] == ']')?;
    let members = pattern[first..end].to_vec();
    let inside = move |character: char| {
        let mut at = 0;
        while at < members.len() {
            let to = match members.get(at + 1..at + 3) {
                Some(['-', to]) => Some(*to),
                _ => None,
            };
            if (members[at]..=to.unwrap_or(members[at])).contains(&character) {
                return !negated;
            }
            at += if to.is_some() { 3 } else { 1 };
        }
        negated
    };
    Some((inside, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_a_shell() {
        for (pattern, yes, no) in [
            ("*", &["a", "a.b"][..], &[".a", "_a"][..]),
            ("*.parquet", &["a.parquet", "a.b.parquet"], &["a.csv", "a.parquet.gz", ".x.parquet"]),
            ("a?c", &["abc", "aéc"], &["ac", "abbc"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[!a-c]x", &["dx"], &["ax"]),
            ("[]x]", &["]", "x"], &["a"]),
            ("[a", &["[a"], &["a"]),
            ("a*b*c", &["abc", "aXbYbc"], &["abcd", "acb"]),
            ("_*", &["_a"], &["a"]),
            (".*", &[".a"], &["_a"]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern} {name}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn a_glob_has_a_folder_and_names_below_it() {
        let glob = |uri: &str| {
            let glob = Pattern::of_glob(uri).unwrap().unwrap();
            (glob.folder, glob.prefix, glob.names.join(" "))
        };
        let is = |folder: &str, prefix: &str, names: &str| {
            (folder.to_owned(), prefix.to_owned(), names.to_owned())
        };
        assert_eq!(glob("data/*.csv"), is("data", "data/", "*.csv"));
        assert_eq!(glob("*.csv"), is(".", "", "*.csv"));
        assert_eq!(glob("/*"), is("/", "/", "*"));
        assert_eq!(glob("s3://b/a/x?/**"), is("s3://b/a", "s3://b/a/", "x? ** *"));
        assert_eq!(glob("file:///*/a"), is("file:///", "file:///", "* a"));
        assert_eq!(Pattern::of_glob("s3://b/a.csv"), Ok(None));
        assert!(Pattern::of_glob("s3://b*/a").is_err());
    }
}
