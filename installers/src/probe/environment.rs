//! Where we run: outside the tree, in a chroot, in a container, on the live system.

use std::path::Path;

use super::ProbeError;
use super::facts::{Environment, Evidence, Found, Place};
use crate::root::{Last, Root, RootPath};

/// What the caller knows and the tree does not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallerHints {
    /// Whether the user named a root other than `/`.
    pub root: RootChoice,
    /// PACKER_BUILDER_TYPE.
    pub packer_builder: Option<String>,
    /// The system that the user says it is like, by its id in the catalog.
    pub claimed_os: Option<String>,
}

/// Which root is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RootChoice {
    /// A tree elsewhere.
    #[default]
    Elsewhere,
    /// The root of this very process.
    Own,
}

pub(super) fn look(root: &Root, hints: &CallerHints) -> Result<Environment, ProbeError> {
    let place = match hints.root {
        RootChoice::Elsewhere => Found {
            value: Place::OfflineRoot,
            evidence: vec![Evidence::path("--root", "was given")],
        },
        RootChoice::Own => own_place(root)?,
    };
    Ok(Environment {
        place,
        packer: hints.packer_builder.clone(),
        host_rpm: None,
    })
}

fn own_place(root: &Root) -> Result<Found<Place>, ProbeError> {
    for mark in ["/.dockerenv", "/run/.containerenv"] {
        if root.meta(&RootPath::fixed(mark), Last::Keep)?.is_some() {
            return Ok(Found {
                value: Place::Container,
                evidence: vec![Evidence::path(mark, "exists")],
            });
        }
    }
    if cfg!(windows) {
        return Ok(Found {
            value: Place::Live,
            evidence: vec![Evidence::path("/", "is of the running Windows")],
        });
    }
    // PID 1's name says nothing: chroots are made under systemd, bash and docker-init alike.
    let own = root.meta(&RootPath::top(), Last::Follow)?.map(|meta| meta.id);
    let init = Root::open(Path::new("/proc/1/root"))
        .ok()
        .and_then(|init| init.meta(&RootPath::top(), Last::Follow).ok()?)
        .map(|meta| meta.id);
    let exists = |path| Ok::<_, ProbeError>(root.meta(&RootPath::fixed(path), Last::Keep)?.is_some());
    let running = exists("/run/systemd/system")?;
    let (value, says) = match (init, running) {
        (Some(init), _) if Some(init) != own => {
            (Place::Chroot, Evidence::path("/proc/1/root", "is another root"))
        }
        (Some(_), true) => (Place::Live, Evidence::path("/run/systemd/system", "exists")),
        // Upstart leaves no mark but its own program, and no other init brings that.
        (Some(_), false) if exists("/sbin/initctl")? => {
            (Place::Live, Evidence::path("/sbin/initctl", "exists"))
        }
        // PID 1 is a shell, a build tool or a stub of a container's.
        (Some(_), false) => (
            Place::Container,
            Evidence::path("/run/systemd/system", "does not exist"),
        ),
        (None, true) => (Place::Live, Evidence::path("/run/systemd/system", "exists")),
        // A chroot without /proc, or one where we may not look at PID 1 and no init left its mark.
        (None, false) => (
            Place::Chroot,
            Evidence::path("/run/systemd/system", "does not exist"),
        ),
    };
    Ok(Found {
        value,
        evidence: vec![says],
    })
}
