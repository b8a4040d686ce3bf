//! Windows trees: what the hives and a few files say. Names are compared without regard to case, as Windows does.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};
use ssmbake_manifests::{Arch, Catalog, Os, OsIdentity, ServiceManager, hex};

use super::environment;
use super::facts::{Evidence, Facts, Found, OsFacts, SCHEMA, TrustFacts};
use super::os::{Kind as TreeKind, claimed};
use super::registry::{Registry, System, Whose, software};
use super::{CallerHints, ProbeError, RootChoice, windows_agent};
use crate::error::IoError;
use crate::positioned::read_exact_at;
use crate::root::{Kind, Last, Root, RootPath};
use crate::trust::AnchorState;

/// Where Windows stood on a disk in one of its generations.
const SYSTEM_ROOTS: [&str; 4] = ["windows", "winnt", "win32", "win"];
const SETUP_STATE: &str = r"Microsoft\Windows\CurrentVersion\Setup\State";
const CURRENT_VERSION: &str = r"Microsoft\Windows NT\CurrentVersion";
const STORES: [&str; 2] = ["ROOT", "AuthRoot"];
const LAUNCHERS: [(&str, &str); 3] = [
    ("EC2Launch v2", "Program Files/Amazon/EC2Launch/EC2Launch.exe"),
    (
        "EC2Launch v1",
        "ProgramData/Amazon/EC2-Windows/Launch/Module/Ec2Launch.psd1",
    ),
    ("EC2Config", "Program Files/Amazon/Ec2ConfigService/Ec2Config.exe"),
];

/// What only Windows has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowsFacts {
    /// As Windows calls itself: `Windows Server 2019 Datacenter`.
    pub product: String,
    /// `ServerDatacenter`; Server 2003 has none.
    pub edition: Option<String>,
    /// `Server`, `Server Core`, `Nano Server`; Server 2003 has none.
    pub installation: Option<String>,
    /// Build and update: `17763.1158`.
    pub build: String,
    /// Of the engine that Windows brings; the agent needs 3.0.
    pub powershell: Option<String>,
    /// What prepares an EC2 instance at its first boot.
    pub launch_agent: Option<String>,
    /// How far Windows' own setup has come; the agent waits for `IMAGE_STATE_COMPLETE`.
    #[serde(default)]
    pub image_state: Option<String>,
    /// The environment of the agent's service, which may hold a proxy's password.
    #[serde(skip)]
    pub service_environment: Vec<String>,
}

/// The directory with the hives, or none: then it is no Windows.
pub(super) fn config_dir(root: &Root, hints: &CallerHints) -> Result<Option<RootPath>, IoError> {
    if whose(hints) == Whose::Running {
        return Ok(Some(RootPath::fixed("/Windows/System32/config")));
    }
    for system in SYSTEM_ROOTS {
        if let Some(path) = fold(root, &format!("{system}/system32/config"))?
            && root
                .meta(&path, Last::Follow)?
                .is_some_and(|meta| meta.kind == Kind::Dir)
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whose registry tells of the root.
fn whose(hints: &CallerHints) -> Whose {
    match hints.root {
        RootChoice::Own if cfg!(windows) => Whose::Running,
        _ => Whose::Tree,
    }
}

/// The path that differs from `wanted` in case only.
pub(crate) fn fold(root: &Root, wanted: &str) -> Result<Option<RootPath>, IoError> {
    let mut path = RootPath::top();
    for part in wanted.split('/').filter(|part| !part.is_empty()) {
        let entries = match root.read_dir(&path) {
            Ok(entries) => entries.unwrap_or_default(),
            Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(part));
        match found.and_then(|entry| path.join(&entry.name).ok()) {
            Some(next) => path = next,
            None => return Ok(None),
        }
    }
    Ok(Some(path))
}

/// Looks at a Windows tree whose hives are in `config`.
pub(super) fn probe(
    root: &Root,
    catalog: &Catalog,
    hints: &CallerHints,
    config: &RootPath,
) -> Result<Facts, ProbeError> {
    let whose = whose(hints);
    let software = software(root, config, whose)?;
    let system = System::open(root, config, whose)?;
    let windows = windows_facts(root, &software, system.as_ref())?;
    let (os, os_found) = identify(catalog, hints, &software, system.as_ref(), &windows)?;
    let arch = architecture(root, config, &software, system.as_ref())?;
    let (agent, config_text) = windows_agent::look(root, &software, system.as_ref(), catalog)?;
    let hives = system.as_ref().map_or(software.path(), System::path);
    Ok(Facts {
        schema: SCHEMA,
        os: os_found,
        arch,
        service_manager: Found {
            value: ServiceManager::Scm,
            evidence: vec![Evidence::path(hives.as_str(), "Windows")],
        },
        rpm_database: None,
        selinux: None,
        package_manager: Found {
            value: "none".to_owned(),
            evidence: Vec::new(),
        },
        trust: trust(catalog, os, &software)?,
        agent,
        environment: environment::look(root, hints)?,
        clock: Some("the Windows Time service".to_owned()),
        capabilities: os.capabilities,
        windows: Some(windows),
        config_text,
    })
}

fn windows_facts(
    root: &Root,
    software: &Registry,
    system: Option<&System>,
) -> Result<WindowsFacts, ProbeError> {
    let current = software.key(CURRENT_VERSION)?;
    let value = |name| software.value(current.as_ref(), name);
    // On XP and 2003 CurrentBuild holds something else.
    let build = match value("CurrentBuildNumber")? {
        Some(number) => number,
        None => value("CurrentBuild")?.unwrap_or_default(),
    };
    let update = value("UBR")?
        .map(|number| format!(".{number}"))
        .unwrap_or_default();
    let engine = |key| {
        software.text(
            &format!(r"Microsoft\PowerShell\{key}\PowerShellEngine"),
            "PowerShellVersion",
        )
    };
    // Key 1 keeps saying 2.0 beside a newer one.
    let powershell = match engine("3")? {
        Some(version) => Some(version),
        None => engine("1")?,
    };
    let mut launch_agent = None;
    for (name, path) in LAUNCHERS {
        if fold(root, path)?.is_some() {
            launch_agent = Some(name.to_owned());
            break;
        }
    }
    Ok(WindowsFacts {
        product: value("ProductName")?.unwrap_or_default().replace("(R) ", ""),
        edition: value("EditionID")?,
        installation: value("InstallationType")?,
        build: format!("{build}{update}"),
        powershell,
        launch_agent,
        image_state: software.text(SETUP_STATE, "ImageState")?,
        service_environment: match system {
            Some(system) => system.list(windows_agent::SERVICE, "Environment")?,
            None => Vec::new(),
        },
    })
}

fn identify<'c>(
    catalog: &'c Catalog,
    hints: &CallerHints,
    software: &Registry,
    system: Option<&System>,
    windows: &WindowsFacts,
) -> Result<(&'c Os, Found<OsFacts>), ProbeError> {
    let mut evidence = vec![
        Evidence::path(
            software.path().as_str(),
            format!("ProductName {}", windows.product),
        ),
        Evidence::path(software.path().as_str(), format!("build {}", windows.build)),
    ];
    let unsupported = || ProbeError::Unsupported {
        what: format!("{} (build {})", windows.product, windows.build),
        id: "windows".to_owned(),
        like: None,
        evidence: evidence.clone(),
    };
    let os = if let Some(id) = &hints.claimed_os {
        let os = claimed(catalog, id, TreeKind::Windows)?;
        evidence.insert(0, Evidence::path("--as", id));
        os
    } else if is_server(system, windows)? {
        let seen = OsIdentity {
            id: "windows-server",
            version: windows.build.split('.').next().unwrap_or_default(),
            name: Some(&windows.product),
            title: None,
            variant: None,
        };
        catalog.os_for(&seen).ok_or_else(unsupported)?
    } else {
        return Err(unsupported());
    };
    let variant = match windows.installation.as_deref() {
        Some("Server Core") => Some("server-core"),
        Some("Nano Server") => Some("nano"),
        _ => windows.product.contains("2003 R2").then_some("r2"),
    };
    let value = OsFacts::new(
        os,
        "windows-server".to_owned(),
        windows.build.clone(),
        variant.map(str::to_owned),
    );
    Ok((os, Found { value, evidence }))
}

fn is_server(system: Option<&System>, windows: &WindowsFacts) -> Result<bool, ProbeError> {
    if windows.installation.as_deref() == Some("Nano Server") {
        return Ok(true);
    }
    let starts = |text: &Option<String>| text.as_deref().map(|text| text.starts_with("Server"));
    if let Some(answer) = starts(&windows.installation).or(starts(&windows.edition)) {
        return Ok(answer);
    }
    // Server 2003 has neither.
    let product_type = match system {
        Some(system) => system.text(r"Control\ProductOptions", "ProductType")?,
        None => None,
    };
    Ok(match product_type.as_deref() {
        Some(kind) => matches!(kind, "ServerNT" | "LanmanNT"),
        None => windows.product.contains("Server"),
    })
}

/// cmd.exe, the registry and the name of the build: the majority decides, and the program where they are at odds.
fn architecture(
    root: &Root,
    config: &RootPath,
    software: &Registry,
    system: Option<&System>,
) -> Result<Found<Arch>, ProbeError> {
    let mut votes = Vec::new();
    let program = format!("{}/cmd.exe", config.parent().unwrap_or_else(RootPath::top));
    if let Some(path) = fold(root, &program)?
        && let Some(file) = root.open_file(&path)?
        && let Some(arch) = portable_executable(&file).map_err(|error| IoError::new("read", &path, error))?
    {
        votes.push((
            arch,
            Evidence::path(path.as_str(), format!("PE header of {arch}")),
        ));
    }
    if let Some(system) = system
        && let Some(says) = system.text(r"Control\Session Manager\Environment", "PROCESSOR_ARCHITECTURE")?
        && let Some(arch) = of_word(&says)
    {
        let says = format!("PROCESSOR_ARCHITECTURE={says}");
        votes.push((arch, Evidence::path(system.path().as_str(), says)));
    }
    // `17763.1.amd64fre.rs5_release.180914-1434`
    if let Some(lab) = software.text(CURRENT_VERSION, "BuildLabEx")?
        && let Some(arch) = lab.split('.').find_map(|part| of_word(part.strip_suffix("fre")?))
    {
        votes.push((
            arch,
            Evidence::path(software.path().as_str(), format!("BuildLabEx={lab}")),
        ));
    }
    let count = |arch: Arch| votes.iter().filter(|vote| vote.0 == arch).count();
    // Of equals the last wins: turned round, it is the first.
    let winner = votes.iter().rev().max_by_key(|vote| count(vote.0));
    Ok(Found {
        value: winner.map_or(Arch::Unknown, |vote| vote.0),
        evidence: votes.into_iter().map(|vote| vote.1).collect(),
    })
}

/// An architecture by Windows' name.
fn of_word(word: &str) -> Option<Arch> {
    Some(match word.to_ascii_lowercase().as_str() {
        "amd64" => Arch::Amd64,
        "x86" => Arch::I386,
        "arm64" => Arch::Arm64,
        "ia64" => Arch::Ia64,
        _ => return None,
    })
}

/// The machine field of a PE file's header.
fn portable_executable(mut file: &std::fs::File) -> std::io::Result<Option<Arch>> {
    let mut head = Vec::new();
    file.by_ref().take(64).read_to_end(&mut head)?;
    if head.len() < 64 || !head.starts_with(b"MZ") {
        return Ok(None);
    }
    let at = u32::from_le_bytes([head[0x3c], head[0x3d], head[0x3e], head[0x3f]]);
    let mut header = [0; 6];
    if read_exact_at(file, &mut header, u64::from(at)).is_err() || &header[..4] != b"PE\0\0" {
        return Ok(None);
    }
    Ok(match u16::from_le_bytes([header[4], header[5]]) {
        0x14c => Some(Arch::I386),
        0x8664 => Some(Arch::Amd64),
        0xaa64 => Some(Arch::Arm64),
        0x200 => Some(Arch::Ia64),
        _ => None,
    })
}

/// Certificates stand in the registry by their SHA-1.
fn trust(catalog: &Catalog, os: &Os, software: &Registry) -> Result<Found<TrustFacts>, ProbeError> {
    let mut anchors = BTreeMap::new();
    for anchor in catalog.anchors() {
        let thumbprint = hex::encode(&Sha1::digest(anchor.der())).to_uppercase();
        let mut state = AnchorState::Missing;
        for store in STORES {
            let path = format!(r"Microsoft\SystemCertificates\{store}\Certificates\{thumbprint}");
            if software.key(&path)?.is_some() {
                state = AnchorState::Trusted;
            }
        }
        anchors.insert(anchor.id.clone(), state);
    }
    let value = TrustFacts {
        store: os.trust,
        bundle_size: None,
        anchors,
        hooks: Vec::new(),
        digests: BTreeSet::new(),
    };
    let evidence = vec![Evidence::path(
        software.path().as_str(),
        r"SystemCertificates\ROOT and AuthRoot",
    )];
    Ok(Found { value, evidence })
}
