//! What the distributions' own files in a tree say: the only identity of old systems, and the point release of newer ones.

use std::io::Read;

use ssmbake_manifests::{Grammar, Identification, VendorFile};

use super::facts::Evidence;
use super::os::Identity;
use super::{ProbeError, release_file};
use crate::root::{Root, RootPath};

/// What is read of a file: it says what it is at its beginning.
const LIMIT: u64 = 1024 * 1024;

/// The beginning of a file, or none where it is missing, dangling, a loop or no file. One that may not be read is an
/// error: it might say something else.
pub(super) fn read(root: &Root, path: &str) -> Result<Option<Vec<u8>>, ProbeError> {
    let Ok(place) = RootPath::new(path) else {
        return Ok(None);
    };
    let file = match root.open_file(&place) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(error.into()),
        Err(_) | Ok(None) => return Ok(None),
        Ok(Some(file)) => file,
    };
    let mut bytes = Vec::new();
    let read = file.take(LIMIT).read_to_end(&mut bytes);
    Ok(read.is_ok().then_some(bytes))
}

/// What one of the files says.
#[derive(Debug)]
pub(super) struct Statement<'r> {
    file: &'r VendorFile,
    identity: Identity,
    /// The version, where the file says it more precisely than os-release would.
    precise: String,
}

/// What those of the files say that say anything, the most specific first.
pub(super) fn statements<'r>(
    root: &Root,
    rules: &'r Identification,
) -> Result<Vec<Statement<'r>>, ProbeError> {
    let mut statements = Vec::new();
    for file in &rules.files {
        let Some(bytes) = read(root, &file.path)? else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let Some(said) = release_file::parse(file, &text, rules) else {
            continue;
        };
        let identity = Identity {
            evidence: vec![Evidence::line(&file.path, 1, said.line)],
            version: said.version,
            id: said.id,
            name: said.name,
            ..Identity::default()
        };
        let precise = match file.grammar {
            Grammar::Version => text.trim().to_owned(),
            _ => identity.version.clone(),
        };
        statements.push(Statement {
            file,
            identity,
            precise,
        });
    }
    Ok(statements)
}

/// The first of them.
pub(super) fn identity(statements: &[Statement<'_>]) -> Option<Identity> {
    statements.first().map(|first| first.identity.clone())
}

/// The version as precise as a file of the same distribution says it.
pub(super) fn point_release(
    statements: &[Statement<'_>],
    id: &str,
    version: &str,
    evidence: &mut Vec<Evidence>,
) -> String {
    for statement in statements.iter().filter(|one| one.identity.id == id) {
        let is_finer = match version {
            "" => statement.precise.contains('/'),
            _ => statement
                .precise
                .strip_prefix(version)
                .is_some_and(|rest| rest.starts_with('.')),
        };
        if is_finer && statement.precise.len() < 64 {
            evidence.extend(statement.identity.evidence.iter().cloned());
            return statement.precise.clone();
        }
    }
    version.to_owned()
}

/// What os-release left out, from a file of the same distribution.
pub(super) fn complete(identity: &mut Identity, statements: &[Statement<'_>]) {
    let same = statements.iter().map(|one| &one.identity);
    let mut with_version = same.filter(|one| one.id == identity.id && !one.version.is_empty());
    if identity.version.is_empty()
        && let Some(found) = with_version.next()
    {
        identity.version.clone_from(&found.version);
        identity.evidence.extend(found.evidence.iter().cloned());
    }
}

/// Systems that carry the ID of another: the tree's further files tell.
pub(super) fn disguise(
    root: &Root,
    rules: &Identification,
    statements: &[Statement<'_>],
    identity: &mut Identity,
) -> Result<(), ProbeError> {
    for witness in &rules.witnesses {
        let says = statements.iter().find(|one| one.file.path == witness.path);
        if witness.ids.contains(&identity.id)
            && let Some(other) = says.filter(|one| one.identity.id != identity.id)
        {
            unmask(
                identity,
                &other.identity.name_or_id(),
                &other.identity.evidence[0],
            );
        }
    }
    for masquerade in &rules.masquerades {
        let Some(bytes) = read(root, &masquerade.path)? else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let says = match &masquerade.contains {
            None => "exists".to_owned(),
            Some(words) if text.contains(words) => format!("contains `{words}`"),
            Some(_) => continue,
        };
        unmask(
            identity,
            &masquerade.name,
            &Evidence::path(&masquerade.path, says),
        );
    }
    flavour(root, rules, identity)
}

/// The evidence against the ID comes first: it is what a refusal shows.
fn unmask(identity: &mut Identity, name: &str, evidence: &Evidence) {
    identity.evidence.insert(0, evidence.clone());
    identity.name = Some(name.to_owned());
    identity.title = None;
}

fn flavour(root: &Root, rules: &Identification, identity: &mut Identity) -> Result<(), ProbeError> {
    for flavour in rules.flavours.iter().filter(|flavour| flavour.id == identity.id) {
        let Ok(path) = RootPath::new(&flavour.path) else {
            continue;
        };
        let target = root.read_link(&path)?.unwrap_or_default();
        if target.rsplit('/').next() == Some(&flavour.link) {
            identity.evidence.push(Evidence::path(&flavour.path, target));
            identity.id.clone_from(&flavour.becomes);
            break;
        }
    }
    Ok(())
}
