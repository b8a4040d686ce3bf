//! Plan: request + facts + catalog → what to do. Pure: no file, network, environment or clock.

mod channel;
mod installed;
mod request;
mod step;

use serde::{Deserialize, Serialize};
use ssmbake_manifests::{
    AgentFacts, AgentVersion, AnchorSet, Arch, Catalog, HostVariant, Os, PackageFormat, Service,
    ServiceManager,
};

pub use request::{
    ChannelChoice, Connect, Downgrade, Endpoints, LabelChoice, RegistrationChoice, Request, Roots, Source,
    Start, TargetKind, VersionSpec,
};
pub use step::Step;

use crate::activation::{FirstBoot, REGISTRATION};
use crate::config::{self, Edit};
use crate::digest::sha256_hex;
use crate::packages::Registration;
use crate::packages::rpm::database::Backend;
use crate::probe::{ConfigFacts, Facts, PackageFacts};
use crate::service::{Enablement, InstallChannel};
use crate::trust;
use crate::trust::x509::Certificate;
use crate::trust::{Anchor, AnchorState};

/// The version of the plan's JSON.
pub const SCHEMA: u32 = 1;

/// What will be done, and what the user should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Version of this shape.
    pub schema: u32,
    /// What it was made for.
    pub request: Request,
    /// Digest of the facts it was made from.
    pub facts: String,
    /// In order. Empty: all is as wanted.
    pub steps: Vec<Step>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The tree's state forbids it.
    #[error("{what}")]
    Conflict {
        /// What.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The request cannot be met here.
    #[error("{what}")]
    Unsupported {
        /// What.
        what: String,
        /// What to do.
        hint: String,
    },
    /// Something is missing in the request.
    #[error("{what}")]
    Usage {
        /// What.
        what: String,
        /// What to do.
        hint: String,
    },
}

fn conflict(what: impl Into<String>, hint: impl Into<String>) -> PlanError {
    PlanError::Conflict {
        what: what.into(),
        hint: hint.into(),
    }
}

/// Why there is no agent for this architecture.
pub(crate) fn no_agent(facts: &Facts) -> String {
    match facts.arch.value {
        Arch::Unknown => {
            "the architecture is unknown: none of the tree's usual programs is an ELF file".to_owned()
        }
        arch => format!("there is no agent for {arch} on {}", facts.os.value.name),
    }
}

/// The least that the agent takes: a machine whose role comes after it is online a minute later.
const FAST_RETRY: u64 = 60;

/// The tree's system in the catalog, if this version can bake it.
fn baked<'c>(facts: &Facts, catalog: &'c Catalog, carrier: Carrier) -> Result<&'c Os, PlanError> {
    let unsupported = |what: String, hint: &str| PlanError::Unsupported {
        what,
        hint: hint.to_owned(),
    };
    let id = &facts.os.value.id;
    let Some(os) = catalog.os(id) else {
        let what = format!("`{id}` is not in this ssmbake's catalog");
        return Err(unsupported(what, "use the ssmbake that made the facts"));
    };
    if os.package_folder(facts.arch.value).is_none() {
        return Err(unsupported(
            no_agent(facts),
            "is --root the top of a complete system tree?",
        ));
    }
    if os.package == PackageFormat::Exe && carrier == Carrier::Ssmbake {
        let what = format!("{}: this version installs no {} packages", os.name, os.package);
        return Err(unsupported(
            what,
            "`ssmbake export --format powershell` (or autounattend) makes a script that does, and `audit` judges it",
        ));
    }
    Ok(os)
}

/// Who will carry a plan out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `apply`.
    Ssmbake,
    /// A script, on the machine itself.
    Script,
}

/// Decides everything.
pub fn plan(
    request: &Request,
    facts: &Facts,
    catalog: &Catalog,
    carrier: Carrier,
) -> Result<Plan, PlanError> {
    let os = baked(facts, catalog, carrier)?;
    let channel = channel::choose(request.channel, request.version, facts)?;
    let mut notes = os.notes.clone();
    let mut steps = Vec::new();
    match channel {
        InstallChannel::Package => steps.extend(package_steps(request, facts, catalog, os, &mut notes)?),
        InstallChannel::Snap if request.sha256.is_some() => {
            let hint = "leave out --sha256, or remove the snap and use --channel package";
            return Err(conflict("the agent is a snap, and no package to pin", hint));
        }
        InstallChannel::Snap => {
            notes.push("the agent is a snap: snapd installs and updates it, and not this plan".to_owned());
        }
    }
    if let Enablement::Masked(path) = &facts.agent.enablement {
        return Err(conflict(
            format!("the service is masked by `{path}`"),
            format!("unmask it if the agent shall run: remove `{path}`"),
        ));
    }
    if !matches!(facts.agent.enablement, Enablement::Enabled(_)) {
        steps.push(Step::EnableService {
            manager: os.service,
            channel,
            unit_dir: os.unit_dir.clone(),
        });
    }
    let anchors = anchors(request, facts, catalog, &mut notes);
    if !anchors.is_empty() {
        notes.extend(facts.trust.value.hooks.iter().map(|hook| {
            let tool = trust::tool(os.trust);
            format!("`{hook}` is not brought up to date: it follows at the tree's next `{tool}`")
        }));
        steps.push(Step::TrustAnchors {
            store: os.trust,
            anchors,
        });
    }
    steps.extend(config_step(request, facts, catalog, &mut notes)?);
    if let Some(proxy) = &request.proxy {
        let text = proxy.render(os.service);
        if facts.agent.proxy_sha256.as_deref() != Some(&sha256_hex(text.as_bytes())) {
            steps.push(Step::WriteProxy {
                manager: os.service,
                channel,
                proxy: proxy.clone(),
            });
        }
    }
    steps.extend(network_step(request, facts, os, channel, &mut notes));
    steps.extend(activation_step(request, facts, os)?);
    if !steps.is_empty() {
        steps.extend(label_step(request.labels, facts, &mut notes));
    }
    live_steps(request, facts, os, channel, &mut steps, &mut notes)?;
    Ok(Plan {
        schema: SCHEMA,
        request: request.clone(),
        facts: facts.digest(),
        steps,
        notes,
    })
}

/// What else a fast connection wants is in the agent's configuration.
fn network_step(
    request: &Request,
    facts: &Facts,
    os: &Os,
    channel: InstallChannel,
    notes: &mut Vec<String>,
) -> Option<Step> {
    if request.connect == Connect::Standard {
        return None;
    }
    if facts.clock.is_none() {
        notes.push(
            "nothing here keeps the clock right (chrony, systemd-timesyncd, ntpd): AWS refuses a machine that is five minutes off"
                .to_owned(),
        );
    }
    // upstart's job of the agent waits for the network by itself.
    let wants = os.service == ServiceManager::Systemd && !facts.agent.waits_for_network;
    wants.then_some(Step::WaitForNetwork { channel })
}

/// The unit of an earlier run is left alone where it is the same.
fn activation_step(request: &Request, facts: &Facts, os: &Os) -> Result<Option<Step>, PlanError> {
    if request.activation.is_empty() {
        return Ok(None);
    }
    if request.target != TargetKind::Hybrid {
        return Err(PlanError::Usage {
            what: "an instance of EC2 has its identity from EC2 and is not activated".to_owned(),
            hint: "use --target hybrid for machines elsewhere".to_owned(),
        });
    }
    let first_boot = FirstBoot {
        sources: request.activation.clone(),
        region: request.region.as_ref().map(|region| region.id.clone()),
        proxy: request.proxy.clone(),
    };
    if os.service == ServiceManager::Scm {
        return Err(PlanError::Unsupported {
            what: "the first boot of Windows registers nothing".to_owned(),
            hint: "run AmazonSSMAgentSetup.exe on the machine with CODE=, ID= and REGION=".to_owned(),
        });
    }
    let is_image = !facts.environment.is_machine();
    if is_image && facts.agent.is_anybody {
        return Err(conflict(
            format!("`{REGISTRATION}` is in the image: every machine of it would be taken for that one"),
            "run `ssmbake seal` first",
        ));
    }
    let is_there = facts.agent.first_boot_sha256.as_deref() == Some(&first_boot.sha256(os.service));
    Ok((!is_there).then_some(Step::ActivateAtFirstBoot {
        manager: os.service,
        first_boot,
        is_image,
    }))
}

/// A running manager does not look for new units by itself.
fn live_steps(
    request: &Request,
    facts: &Facts,
    os: &Os,
    channel: InstallChannel,
    steps: &mut Vec<Step>,
    notes: &mut Vec<String>,
) -> Result<(), PlanError> {
    let (is_live, manager) = (facts.environment.is_live(), os.service);
    if request.start == Start::Now && !is_live {
        return Err(PlanError::Usage {
            what: "nothing can be started in a tree that does not run".to_owned(),
            hint: "leave out --start: the agent starts at boot".to_owned(),
        });
    }
    if is_live && !steps.is_empty() {
        steps.push(Step::ReloadManager { manager });
    }
    // A machine that is no image's has nothing to wait for.
    let is_bootstrap = facts.environment.is_machine() && request.target == TargetKind::Hybrid;
    if request.start == Start::Now || request.start == Start::Auto && is_bootstrap {
        // The agent starts with an identity, or for nothing.
        let registers = |step: &Step| matches!(step, Step::ActivateAtFirstBoot { .. });
        if steps.iter().any(registers) {
            steps.push(Step::RegisterNow { manager });
        }
        steps.push(Step::StartService { manager, channel });
    } else if is_live
        && !steps.is_empty()
        && facts
            .agent
            .package
            .as_ref()
            .is_some_and(PackageFacts::is_installed)
    {
        let text = "an agent that runs already goes on as it is until it is started again: by --start, or the next boot";
        notes.push(text.to_owned());
    }
    if channel == InstallChannel::Snap && !steps.is_empty() {
        steps.insert(0, Step::HoldRefresh);
    }
    Ok(())
}

/// A file without a label is out of reach for most services once SELinux enforces.
fn label_step(wanted: LabelChoice, facts: &Facts, notes: &mut Vec<String>) -> Option<Step> {
    let selinux = facts.selinux.as_ref()?;
    match wanted {
        LabelChoice::Ignore => None,
        LabelChoice::Label if selinux.has_contexts => Some(Step::LabelFiles {
            policy: selinux.policy.clone(),
        }),
        LabelChoice::Label | LabelChoice::Relabel => {
            if wanted == LabelChoice::Label {
                let policy = &selinux.policy;
                notes.push(format!("the SELinux policy `{policy}` says nothing about files"));
            }
            notes.push(
                "SELinux labels all files at the first boot, which then takes longer and boots twice"
                    .to_owned(),
            );
            Some(Step::RequestRelabel)
        }
    }
}

fn package_steps(
    request: &Request,
    facts: &Facts,
    catalog: &Catalog,
    os: &Os,
    notes: &mut Vec<String>,
) -> Result<Vec<Step>, PlanError> {
    if let Some(why) = &facts.agent.package_unknown {
        return Err(conflict(
            format!("nobody can say whether the agent is installed: {why}"),
            "let `rpm -q rpm` run in the tree once, as root; `rpm --rebuilddb` repairs what is damaged",
        ));
    }
    let version = match (request.version, os.agent_max) {
        (VersionSpec::Latest | VersionSpec::Stable, Some(max)) => {
            notes.push(format!("{max} is the last agent that runs on {}", os.name));
            VersionSpec::Exact(max)
        }
        (version, _) => version,
    };
    if let VersionSpec::Exact(version) = version {
        check_version(version, request, catalog.agent(), os, notes)?;
        if installed::is_there(version, request, facts, notes)? {
            return Ok(Vec::new());
        }
    }
    // Architectures without a folder were refused.
    let folder = os.package_folder(facts.arch.value).unwrap_or_default().to_owned();
    let base_url = base_url(request, catalog.agent())?;
    let registration = registration(request.registration, facts, os)?;
    let mut steps = vec![Step::InstallPackage {
        version,
        base_url,
        folder,
        format: os.package,
        arch: facts.arch.value,
        registration,
    }];
    if registration == Registration::FirstBoot {
        let backend = facts
            .rpm_database
            .as_ref()
            .map_or("", |database| database.backend.name());
        notes.push(format!(
            "rpm's database is of the kind `{backend}`, which only its own rpm writes: `rpm -q` knows the package after the first boot"
        ));
        steps.push(Step::RegisterAtFirstBoot { manager: os.service });
    }
    Ok(steps)
}

/// Natively where the form of the database can be written here.
fn registration(choice: RegistrationChoice, facts: &Facts, os: &Os) -> Result<Registration, PlanError> {
    if os.package != PackageFormat::Rpm {
        return Ok(Registration::Native);
    }
    let Some(database) = &facts.rpm_database else {
        let hint = "is --root the top of a complete system tree?";
        return Err(conflict("the tree has no rpm database", hint));
    };
    let host_can = facts.environment.host_rpm == Some(database.backend);
    match choice {
        RegistrationChoice::Auto if database.backend != Backend::Bdb => Ok(Registration::Native),
        RegistrationChoice::Auto | RegistrationChoice::HostRpm if host_can => Ok(Registration::HostRpm),
        RegistrationChoice::HostRpm => Err(conflict(
            format!(
                "this machine has no rpm that writes a `{}` database",
                database.backend.name()
            ),
            "use --registration auto",
        )),
        RegistrationChoice::TargetRpm => Ok(Registration::TargetRpm),
        RegistrationChoice::Auto | RegistrationChoice::FirstBoot => Ok(Registration::FirstBoot),
    }
}

/// Whether this version can run there and be verified.
fn check_version(
    version: AgentVersion,
    request: &Request,
    agent: &AgentFacts,
    os: &Os,
    notes: &mut Vec<String>,
) -> Result<(), PlanError> {
    if let Some(max) = os.agent_max.filter(|max| version > *max) {
        return Err(PlanError::Unsupported {
            what: format!(
                "{version} does not run on {}; the last that does is {max}",
                os.name
            ),
            hint: format!("use --version {max}"),
        });
    }
    let is_signed = version >= agent.signature_since || os.package == PackageFormat::Exe;
    if !is_signed && request.sha256.is_none() {
        let advice = match os.agent_max {
            Some(_) => String::new(),
            None => format!("use {} or later, or ", agent.signature_since),
        };
        return Err(PlanError::Unsupported {
            what: format!("{version} was published without a signature"),
            hint: format!("{advice}name the SHA-256 of a package that you trust with --sha256"),
        });
    }
    if version < agent.floor {
        let floor = agent.floor;
        notes.push(format!(
            "{version} has known vulnerabilities; {floor} is the oldest that belongs in an image"
        ));
    }
    Ok(())
}

fn base_url(request: &Request, agent: &AgentFacts) -> Result<String, PlanError> {
    let base = request.source.base_url(request.region.as_ref(), agent);
    base.ok_or_else(|| PlanError::Usage {
        what: "a region is needed to download from".to_owned(),
        hint: "use --region eu-west-1 (or yours), or --source global".to_owned(),
    })
}

fn anchors(request: &Request, facts: &Facts, catalog: &Catalog, notes: &mut Vec<String>) -> Vec<Anchor> {
    let wanted = |set: AnchorSet| match request.roots {
        Roots::Default => set == AnchorSet::Default,
        Roots::Legacy => true,
        Roots::None => false,
    };
    let mut missing = Vec::new();
    for anchor in catalog.anchors().iter().filter(|anchor| wanted(anchor.set)) {
        match facts.trust.value.anchors.get(&anchor.id) {
            Some(AnchorState::Trusted) => {}
            Some(AnchorState::Blocked { path, line }) => {
                notes.push(format!(
                    "{} stays distrusted, as line {line} of `{path}` says",
                    anchor.name
                ));
            }
            Some(AnchorState::Missing) | None => {
                let certificate = Certificate::from_der(anchor.der());
                missing.push(Anchor {
                    name: format!("ssmbake-{}", anchor.id),
                    label: anchor.name.clone(),
                    sha256: certificate.sha256(),
                    pem: certificate.to_pem(),
                });
            }
        }
    }
    let extra = request
        .extra_anchors
        .iter()
        .filter(|anchor| !facts.trust.value.digests.contains(&anchor.sha256));
    missing.extend(extra.cloned());
    if !missing.is_empty() && facts.trust.value.bundle_size.is_none() {
        notes.push(
            "the tree has no CA bundle (is ca-certificates installed?): it will hold only these anchors"
                .to_owned(),
        );
    }
    missing
}

fn config_step(
    request: &Request,
    facts: &Facts,
    catalog: &Catalog,
    notes: &mut Vec<String>,
) -> Result<Option<Step>, PlanError> {
    let mut edits = match request.endpoints {
        Endpoints::Standard => Vec::new(),
        Endpoints::Fips => fips(request, catalog, notes)?,
    };
    if request.connect == Connect::Fast {
        edits.push(Edit {
            section: "Ssm".to_owned(),
            key: "CredentialRetryMaxSleepSeconds".to_owned(),
            value: FAST_RETRY.into(),
        });
    }
    edits.extend(request.settings.iter().cloned());
    for edit in &edits {
        warn_about(edit, request.target, notes);
    }
    if edits.is_empty() {
        return Ok(None);
    }
    if let ConfigFacts::Unread { why } = &facts.agent.config {
        return Err(conflict(why.clone(), "make it a readable file, or remove it"));
    }
    if let ConfigFacts::Invalid { why } = &facts.agent.config {
        return Err(conflict(
            format!("`{}` cannot be read by the agent: {why}", config::PATH),
            "repair or remove it; the agent would stop and start for ever",
        ));
    }
    let old = facts.config_text.as_deref();
    let new = config::merge(old, &edits).map_err(|error| {
        conflict(
            format!("`{}` cannot be edited: {error}", config::PATH),
            "repair or remove it",
        )
    })?;
    Ok(new.map(|_| Step::WriteConfig { edits }))
}

fn fips(request: &Request, catalog: &Catalog, notes: &mut Vec<String>) -> Result<Vec<Edit>, PlanError> {
    let region = request.region.as_ref().ok_or_else(|| PlanError::Usage {
        what: "--fips needs a region".to_owned(),
        hint: "use --region us-east-1 (or yours)".to_owned(),
    })?;
    let mut edits = Vec::new();
    for service in [
        Service::Ssm,
        Service::Ec2messages,
        Service::Ssmmessages,
        Service::S3,
        Service::Kms,
    ] {
        match catalog.regions().host(region, service, HostVariant::Fips) {
            Some(host) => edits.extend(config::endpoint(service, &host)),
            None => notes.push(format!(
                "no FIPS host of {service} is known in {}; it stays as it is",
                region.id
            )),
        }
    }
    if !edits.iter().any(|edit| edit.section == "Ssm") {
        return Err(PlanError::Unsupported {
            what: format!("ssm has no FIPS host in {}", region.id),
            hint: "`ssmbake regions` lists those that have".to_owned(),
        });
    }
    Ok(edits)
}

fn warn_about(edit: &Edit, target: TargetKind, notes: &mut Vec<String>) {
    let is = |section: &str, key: &str| edit.section == section && edit.key == key;
    if is("Agent", "Region") && target == TargetKind::Ec2 {
        notes.push(
            "Agent.Region makes AWS reject the agent's signatures on EC2 in any other region".to_owned(),
        );
    }
    let only_hybrid = edit.value == serde_json::json!(["OnPrem"]);
    if is("Identity", "ConsumptionOrder") && only_hybrid && target == TargetKind::Ec2 {
        notes.push(
            "with Identity.ConsumptionOrder OnPrem alone the agent never uses its EC2 identity".to_owned(),
        );
    }
}
