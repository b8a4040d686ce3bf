//! Registration of hybrid machines at first boot. The activation's code is never in the image: the image knows where to
//! look for it.
//!
//! A script in POSIX sh does it, whether or not ssmbake is in the image: one reading of the sources, for every system.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::ServiceManager;

use crate::config::proxy::Proxy;
use crate::digest::sha256_hex;
use crate::error::IoError;
use crate::packages::{InstallError, conflict};
use crate::root::{Last, Root, RootPath};
use crate::service::systemd;
use crate::txn::{ChangeSet, OnLink, Want};

/// What runs at boot.
pub const SCRIPT: &str = "/usr/lib/ssmbake/first-boot";
/// By systemd.
pub const UNIT: &str = "ssmbake-first-boot.service";
/// By upstart.
pub const JOB: &str = "/etc/init/ssmbake-first-boot.conf";
/// What came of it: JSON.
pub const STATUS: &str = "/var/lib/ssmbake/first-boot.json";
/// The machine that it registered: its machine-id.
pub const STAMP: &str = "/var/lib/ssmbake/machine-id";
/// Of a machine that is registered.
pub(crate) const REGISTRATION: &str = "/var/lib/amazon/ssm/registration";
const UNIT_PATH: &str = "/etc/systemd/system/ssmbake-first-boot.service";
const UNIT_PROXY: &str = "/etc/systemd/system/ssmbake-first-boot.service.d/ssmbake-proxy.conf";
const TEXT_LIMIT: usize = 256 * 1024;
/// The label that `volume` without a label means.
const LABEL: &str = "SSM";

const SCRIPT_TEXT: &str = include_str!("first-boot.sh");
const UNIT_TEXT: &str = "\
[Unit]
Description=Register with AWS Systems Manager
Wants=network-online.target
After=local-fs.target network-online.target time-sync.target cloud-init.service
Before=amazon-ssm-agent.service snap.amazon-ssm-agent.amazon-ssm-agent.service

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=1200
PassEnvironment=SSM_ACTIVATION_ID SSM_ACTIVATION_CODE SSM_ACTIVATION_REGION SSMBAKE_FIRST_BOOT_LIMIT
ExecStart=/bin/sh /usr/lib/ssmbake/first-boot

[Install]
WantedBy=multi-user.target
";
const JOB_TEXT: &str = "\
description \"Register with AWS Systems Manager\"
start on runlevel [2345]
task
exec /bin/sh /usr/lib/ssmbake/first-boot
";

/// Where an activation is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// SSM_ACTIVATION_ID, SSM_ACTIVATION_CODE and SSM_ACTIVATION_REGION of the service manager's environment.
    Environment,
    /// The kernel's command line.
    CommandLine,
    /// QEMU's fw_cfg: `opt/com.amazonaws.ssm/activation`.
    FwCfg,
    /// An OEM string of SMBIOS.
    Smbios,
    /// The file `ssm-activation` on the volume of this label.
    Volume(String),
    /// The user data that cloud-init got.
    CloudInit,
    /// A file that is put there after the image was made.
    File(RootPath),
    /// An https URL.
    Url(String),
}

/// No source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no source of activations")]
pub struct SourceError(String);

impl SourceError {
    /// What is one.
    pub const HINT: &'static str = "auto, env, cmdline, fw-cfg, smbios, volume[:LABEL], cloud-init, file:/PATH or https://…; never the code itself";
}

impl Source {
    /// All that need no place to be named.
    pub fn auto() -> Vec<Self> {
        vec![
            Self::Environment,
            Self::CommandLine,
            Self::FwCfg,
            Self::Smbios,
            Self::Volume(LABEL.to_owned()),
            Self::CloudInit,
        ]
    }

    /// As the script spells it: the name of its reader and what that needs.
    fn in_script(&self) -> String {
        match self {
            Self::FwCfg => "fw_cfg".to_owned(),
            Self::CloudInit => "cloud_init".to_owned(),
            other => other.to_string(),
        }
    }

    fn from_script(word: &str) -> Option<Self> {
        match word {
            "fw_cfg" => Some(Self::FwCfg),
            "cloud_init" => Some(Self::CloudInit),
            other => other.parse().ok(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("env"),
            Self::CommandLine => f.write_str("cmdline"),
            Self::FwCfg => f.write_str("fw-cfg"),
            Self::Smbios => f.write_str("smbios"),
            Self::Volume(label) => write!(f, "volume:{label}"),
            Self::CloudInit => f.write_str("cloud-init"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        // It may be an activation that somebody gave in place of where it lies.
        let error = || SourceError(text.split(':').next().unwrap_or("").to_owned());
        // The script takes sources apart at blanks.
        let is_word = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !b"'\"\\".contains(&byte))
        };
        match text {
            "env" => return Ok(Self::Environment),
            "cmdline" => return Ok(Self::CommandLine),
            "fw-cfg" => return Ok(Self::FwCfg),
            "smbios" => return Ok(Self::Smbios),
            "cloud-init" => return Ok(Self::CloudInit),
            "volume" => return Ok(Self::Volume(LABEL.to_owned())),
            _ => {}
        }
        if !is_word(text) {
            return Err(error());
        }
        if text.starts_with("https://") {
            return Ok(Self::Url(text.to_owned()));
        }
        match text.split_once(':') {
            Some(("volume", label)) if !label.is_empty() => Ok(Self::Volume(label.to_owned())),
            Some(("file", path)) => RootPath::new(path).map(Self::File).map_err(|_| error()),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

/// What the image gets: sources in the order in which they are asked, and the region of activations that name none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstBoot {
    /// Sources.
    pub sources: Vec<Source>,
    /// The region.
    pub region: Option<String>,
    /// The proxy to register through.
    pub proxy: Option<Proxy>,
}

impl FirstBoot {
    /// Paths, texts and modes, in the order of [`digest`].
    pub fn files(&self, manager: ServiceManager) -> Vec<(&'static str, String, u32)> {
        let sources: Vec<String> = self.sources.iter().map(Source::in_script).collect();
        let script = SCRIPT_TEXT
            .replace("@SOURCES@", &sources.join(" "))
            .replace("@REGION@", self.region.as_deref().unwrap_or(""));
        let proxy = self.proxy.as_ref().map(|proxy| proxy.render(manager));
        // A URL with a query may be signed: who reads it has the activation.
        let is_secret = |source: &Source| matches!(source, Source::Url(url) if url.contains('?'));
        let mode = if self.sources.iter().any(is_secret) {
            0o700
        } else {
            0o755
        };
        let mut files = vec![(SCRIPT, script, mode)];
        match (manager, proxy) {
            (ServiceManager::Systemd, proxy) => {
                files.push((UNIT_PATH, UNIT_TEXT.to_owned(), 0o644));
                files.extend(proxy.map(|text| (UNIT_PROXY, text, 0o600)));
            }
            (_, Some(proxy)) => files.push((JOB, format!("{proxy}{JOB_TEXT}"), 0o600)),
            (_, None) => files.push((JOB, JOB_TEXT.to_owned(), 0o644)),
        }
        files
    }

    /// What [`digest`] says once these are in place.
    pub fn sha256(&self, manager: ServiceManager) -> String {
        let texts: Vec<String> = self.files(manager).into_iter().map(|(_, text, _)| text).collect();
        sha256_hex(texts.concat())
    }

    /// Adds files and links. An activation that lies in an image already would be every machine's.
    pub(crate) fn put(
        &self,
        root: &Root,
        manager: ServiceManager,
        is_image: bool,
        set: &mut ChangeSet,
    ) -> Result<(), InstallError> {
        for source in &self.sources {
            if let Source::File(path) = source
                && is_image
                && root.meta(path, Last::Follow)?.is_some()
            {
                return Err(conflict(
                    format!("`{path}` is in the image: every machine of it would use the same activation"),
                    "remove it; put it there when a machine is made, or name another source",
                ));
            }
        }
        for (path, text, mode) in self.files(manager) {
            let want = Want::file(text.into_bytes(), mode);
            set.put(root, &RootPath::fixed(path), OnLink::Refuse, want)?;
        }
        if manager == ServiceManager::Systemd {
            systemd::enable(root, UNIT, None, set)?;
            let proxy = RootPath::fixed(UNIT_PROXY);
            if self.proxy.is_none() && root.meta(&proxy, Last::Keep)?.is_some() {
                set.put(root, &proxy, OnLink::Refuse, Want::Absent)?;
            }
        }
        Ok(())
    }
}

/// What the script at boot reports.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// `registered`, `waiting` for an activation, or `failed`.
    pub state: String,
    /// The id that AWS gave the machine; may be empty.
    pub managed_instance: String,
    /// Tries in the last boot.
    pub attempts: u32,
    /// What is wrong; may be empty.
    pub why: String,
}

/// The last report; none before the first boot, or where it is not ours.
pub fn status(root: &Root) -> Result<Option<Status>, IoError> {
    let bytes = root.read_if_file(&RootPath::fixed(STATUS), TEXT_LIMIT)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Where the script in the tree looks; none without a script.
pub fn sources(root: &Root) -> Result<Option<Vec<Source>>, IoError> {
    let bytes = root.read_if_file(&RootPath::fixed(SCRIPT), TEXT_LIMIT)?;
    Ok(bytes.map(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        let line = text.lines().find_map(|line| line.strip_prefix("sources='"));
        let words = line.and_then(|line| line.strip_suffix('\'')).unwrap_or("");
        words.split(' ').filter_map(Source::from_script).collect()
    }))
}

/// Whether the tree is registered and nothing says as which machine: the script would take every copy for that one.
pub(crate) fn is_anybody(root: &Root) -> Result<bool, IoError> {
    let is_there = |path| {
        let meta = root.meta(&RootPath::fixed(path), Last::Keep)?;
        Ok(meta.is_some())
    };
    Ok(is_there(REGISTRATION)? && !is_there(STAMP)?)
}

/// SHA-256 of what is in place; none without a script.
pub fn digest(root: &Root) -> Result<Option<String>, IoError> {
    let Some(mut texts) = root.read_if_file(&RootPath::fixed(SCRIPT), TEXT_LIMIT)? else {
        return Ok(None);
    };
    for path in [UNIT_PATH, UNIT_PROXY, JOB] {
        texts.extend(
            root.read_if_file(&RootPath::fixed(path), TEXT_LIMIT)?
                .unwrap_or_default(),
        );
    }
    Ok(Some(sha256_hex(&texts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_as_they_are_printed() {
        for text in [
            "env",
            "cmdline",
            "fw-cfg",
            "smbios",
            "volume:SSM",
            "cloud-init",
            "file:/run/ssm",
            "https://example.com/a",
            "https://b.s3.eu-west-1.amazonaws.com/a?X-Amz-Expires=900&X-Amz-Signature=0f[*]",
        ] {
            let source: Source = text.parse().expect("source");
            assert_eq!(source.to_string(), text);
        }
        assert_eq!("volume".parse::<Source>(), Ok(Source::Volume("SSM".to_owned())));
    }

    #[test]
    fn the_script_s_sources_are_read_back() {
        let mut sources = Source::auto();
        sources.push("file:/a_b".parse().expect("source"));
        for source in sources {
            assert_eq!(Source::from_script(&source.in_script()), Some(source));
        }
    }

    #[test]
    fn what_is_no_source_is_refused_and_a_code_not_repeated() {
        for text in [
            "",
            "http://example.com",
            "file:relative",
            "volume:",
            "file:/a b",
            "file:/a'b",
            "https://example.com/$(id)'",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
        let error = "ssm-activation:11111111-2222-3333-4444-555555555555:s3cr3t"
            .parse::<Source>()
            .expect_err("a code");
        assert!(!error.to_string().contains("s3cr3t"));
    }
}
