//! One function a verb. They connect the phases; the phases do the work.

use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::CommandFactory;
use serde_json::{Value, json};
use ssmbake_installers::acquire::{
    self, FetchRequest, KeyRing, ProxySettings, Transport, TransportOptions, Verified, Voucher,
};
use ssmbake_installers::apply::{ApplyError, Host};
use ssmbake_installers::error::IoError;
use ssmbake_installers::packages::rpm::program::host_backend;
use ssmbake_installers::plan::{Plan, Request, Step, VersionSpec};
use ssmbake_installers::probe::{CallerHints, Facts, RootChoice, probe};
use ssmbake_installers::root::Root;
use ssmbake_installers::trust::x509::pem_blocks;
use ssmbake_installers::txn::{self, Settled};
use ssmbake_installers::{apply, audit, export, plan, revert};
use ssmbake_manifests::{
    AgentVersion, Arch, Catalog, Channel, HostVariant, PackageFormat, Service, catalog, hex,
};

use crate::Environment;
use crate::args::{ApplyArgs, Cli, Command, ExportArgs, RegionsArgs, Wanted};
use crate::console::Console;
use crate::exit::{self, Failure};
use crate::render::{self, Detail};
use crate::{host, request};

/// Between two looks at a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Runs one verb; the exit code.
pub(crate) fn run(cli: &Cli, environment: &Environment, console: &Console) -> Result<u8, Failure> {
    let session = Session {
        cli,
        environment,
        console,
        catalog: catalog(),
    };
    match &cli.command {
        Command::Detect => session.detect(),
        Command::Plan(wanted) => session.plan(wanted),
        Command::Apply(args) => session.apply(args),
        Command::Audit => session.audit(),
        Command::Revert => session.revert(),
        Command::Export(args) => session.export(args),
        Command::Regions(args) => session.regions(args),
        Command::Completions { shell } => {
            let mut bytes = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "ssmbake", &mut bytes);
            console.raw(&String::from_utf8_lossy(&bytes));
            Ok(exit::OK)
        }
        Command::Man { verb } => session.man(verb.as_deref()),
    }
}

struct Session<'a> {
    cli: &'a Cli,
    environment: &'a Environment,
    console: &'a Console,
    catalog: &'static Catalog,
}

impl Session<'_> {
    /// Opens the root; whatever an interrupted run has left there is settled first.
    fn open(&self) -> Result<Root, Failure> {
        let path = self.cli.common.root.clone().unwrap_or_else(|| PathBuf::from("/"));
        let root = Root::open(&path)?;
        match txn::recover(&root)? {
            Some(Settled::RolledBack) => self.console.warn("an interrupted run was rolled back"),
            Some(Settled::Finished) => self.console.warn("the traces of an interrupted run were removed"),
            None => {}
        }
        Ok(root)
    }

    /// Whether the root is this process's own.
    fn is_own(&self) -> bool {
        let named = self.cli.common.root.as_deref();
        named.is_none_or(|path| path == Path::new("/"))
    }

    fn facts(&self, root: &Root) -> Result<Facts, Failure> {
        let hints = CallerHints {
            root: if self.is_own() {
                RootChoice::Own
            } else {
                RootChoice::Elsewhere
            },
            claimed_os: self.cli.common.as_os.clone(),
            packer_builder: self.environment.get("PACKER_BUILDER_TYPE").cloned(),
        };
        Ok(probe(root, self.catalog, &hints)?)
    }

    /// With what this machine's rpm can do for the tree.
    fn facts_for_plan(&self, root: &Root) -> Result<Facts, Failure> {
        let mut facts = self.facts(root)?;
        if facts.rpm_database.is_some() {
            facts.environment.host_rpm = host_backend();
        }
        Ok(facts)
    }

    fn temp_dir(&self) -> PathBuf {
        let named = self.environment.get("TMPDIR");
        named.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    }

    fn epoch(&self) -> Result<Option<i64>, Failure> {
        let Some(text) = self.environment.get("SOURCE_DATE_EPOCH") else {
            return Ok(None);
        };
        let seconds = text.parse().map_err(|_| {
            Failure::new(
                exit::USAGE,
                format!("SOURCE_DATE_EPOCH is `{text}`"),
                "give seconds since 1970",
            )
        })?;
        Ok(Some(seconds))
    }

    /// Prints and, where asked, stores the result.
    fn finish(&self, text: &str, document: &impl serde::Serialize) -> Result<(), Failure> {
        let document: Value = serde_json::to_value(document)
            .map_err(|error| Failure::new(exit::INTERNAL, error, "please report this"))?;
        if let Some(path) = &self.cli.common.report {
            host::write(path, format!("{document:#}\n").as_bytes())?;
        }
        self.console.result(text, &document);
        Ok(())
    }

    fn detect(&self) -> Result<u8, Failure> {
        let facts = self.facts(&self.open()?)?;
        let detail = if self.cli.common.verbose {
            Detail::Evidence
        } else {
            Detail::Answers
        };
        self.finish(&render::facts(&facts, detail), &facts)?;
        Ok(exit::OK)
    }

    fn plan(&self, wanted: &Wanted) -> Result<u8, Failure> {
        let facts = self.facts_for_plan(&self.open()?)?;
        let request = self.request(wanted)?;
        let plan = plan::plan(&request, &facts, self.catalog)?;
        self.note(&plan);
        self.finish(&render::plan(&plan), &plan)?;
        Ok(exit::OK)
    }

    fn request(&self, wanted: &Wanted) -> Result<Request, Failure> {
        let (request, warnings) = request::build(wanted, self.environment, self.catalog)?;
        warnings.iter().for_each(|warning| self.console.warn(warning));
        Ok(request)
    }

    fn note(&self, plan: &Plan) {
        plan.notes.iter().for_each(|note| self.console.warn(note));
    }

    fn apply(&self, args: &ApplyArgs) -> Result<u8, Failure> {
        let root = self.open()?;
        // From before the look at the system until after the change: what was seen holds.
        let _locks = self.lock(&root, Duration::from_secs(args.lock_timeout))?;
        let facts = self.facts_for_plan(&root)?;
        let mut request = match &args.plan {
            Some(path) => self.stored_request(path, &facts)?,
            None => self.request(&args.wanted)?,
        };
        // A first plan finds conflicts without the network, and whether the network is needed at all.
        let draft = plan::plan(&request, &facts, self.catalog)?;
        let network = Network {
            session: self,
            args,
            client: OnceCell::new(),
        };
        let plan = self.resolved(draft, &mut request, &facts, &network)?;
        self.note(&plan);
        for step in &plan.steps {
            self.console.event("step", &format!("{step}"), json!(step));
        }
        let verified = network.fetch(&plan, &|| txn::unnamed_file(&root))?;
        let host = Host {
            epoch: self.epoch()?,
            now: host::now(),
            temp_dir: self.temp_dir(),
        };
        let outcome = apply::apply(&root, &plan, verified.as_ref(), &host, &|_| Ok(()))?;
        for kept in &outcome.kept {
            self.console.warn(&format!(
                "`{}` was kept as you changed it; the package's is `{}`",
                kept.path, kept.offered
            ));
        }
        let text = match outcome.changed.len() {
            0 => "nothing changed: all is as wanted\n".to_owned(),
            count => format!("changed {count} paths in {}\n", root.host_path().display()),
        };
        let document = json!({ "schema": 1, "facts": facts, "plan": plan, "changed": outcome.changed, "receipt": outcome.receipt });
        self.finish(&text, &document)?;
        let changed = !outcome.changed.is_empty() && args.detailed_exitcode;
        Ok(if changed { exit::CHANGED } else { exit::OK })
    }

    /// The package managers' locks, waited for where such programs run beside this one.
    fn lock(&self, root: &Root, timeout: Duration) -> Result<Vec<OwnedFd>, Failure> {
        if !self.is_own() {
            return Ok(Vec::new());
        }
        let deadline = Instant::now() + timeout;
        let mut is_said = false;
        loop {
            match apply::lock_live(root) {
                Err(ApplyError::Locked { path }) if Instant::now() < deadline => {
                    if !is_said {
                        let text = format!("waiting for the package manager that holds `{path}`");
                        self.console.event("waiting", &text, json!({ "path": path }));
                        is_said = true;
                    }
                    std::thread::sleep(LOCK_PAUSE);
                }
                other => return Ok(other?),
            }
        }
    }

    /// The plan with the version that `latest` stands for.
    fn resolved(
        &self,
        draft: Plan,
        request: &mut Request,
        facts: &Facts,
        network: &Network<'_>,
    ) -> Result<Plan, Failure> {
        let version = network.resolve(&draft, request.version)?;
        if version == request.version {
            return Ok(draft);
        }
        request.version = version;
        Ok(plan::plan(request, facts, self.catalog)?)
    }

    fn export(&self, args: &ExportArgs) -> Result<u8, Failure> {
        let facts = match (&args.os, &args.arch) {
            (Some(os), Some(arch)) => self.untouched(os, arch)?,
            _ => self.facts(&self.open()?)?,
        };
        let mut request = self.request(&args.apply.wanted)?;
        let network = Network {
            session: self,
            args: &args.apply,
            client: OnceCell::new(),
        };
        let draft = plan::plan(&request, &facts, self.catalog)?;
        let plan = self.resolved(draft, &mut request, &facts, &network)?;
        self.note(&plan);
        let Some((version, base_url, folder, format, arch)) = package_of(&plan) else {
            let hint = "name the system with --os and --arch instead of --root";
            return Err(Failure::new(
                exit::CONFLICT,
                "the tree has this agent already",
                hint,
            ));
        };
        let digest = match &request.sha256 {
            Some(named) => Some(named.clone()),
            None => network
                .fetch(&plan, &no_target)?
                .map(|verified| verified.sha256()),
        };
        let path = self.catalog.agent().package_path(version, folder, format);
        let os = self.catalog.os(&facts.os.value.id);
        let (Some(digest), Some(os)) = (digest, os) else {
            return Err(Failure::new(
                exit::INTERNAL,
                "nothing to export",
                "please report this",
            ));
        };
        let script = export::sh::render(&plan, os, arch, &format!("{base_url}/{path}"), &digest);
        let document = json!({ "schema": 1, "os": os.id, "plan": plan, "sha256": digest, "script": script });
        match &args.out {
            Some(path) => {
                host::write(path, script.as_bytes())?;
                self.finish(&format!("wrote {}\n", path.display()), &document)?;
            }
            None => self.finish(&script, &document)?,
        }
        Ok(exit::OK)
    }

    /// The facts of a machine that is only named.
    fn untouched(&self, os: &str, arch: &str) -> Result<Facts, Failure> {
        let arch = arch.parse().map_err(|error: ssmbake_manifests::UnknownWord| {
            Failure::new(exit::USAGE, error, "one of amd64, arm64, armhf, i386")
        })?;
        let found = self.catalog.os(os).ok_or_else(|| {
            let known: Vec<&str> = self.catalog.oses().iter().map(|os| os.id.as_str()).collect();
            Failure::new(
                exit::USAGE,
                format!("no system `{os}` is known"),
                format!("one of {}", known.join(", ")),
            )
        })?;
        Ok(Facts::untouched(found, arch))
    }

    fn stored_request(&self, path: &Path, facts: &Facts) -> Result<Request, Failure> {
        let plan: Plan = serde_json::from_slice(&host::read(path)?).map_err(|error| {
            Failure::new(
                exit::USAGE,
                format!("`{}` is no plan: {error}", path.display()),
                "make it with `plan --report`",
            )
        })?;
        if plan.facts != facts.digest() {
            let hint = "look at the tree and make a new plan";
            return Err(Failure::new(
                exit::CONFLICT,
                "the tree has changed since the plan was made",
                hint,
            ));
        }
        Ok(plan.request)
    }

    fn audit(&self) -> Result<u8, Failure> {
        let root = self.open()?;
        let facts = self.facts(&root)?;
        if facts.windows.is_some() {
            let hint = "`detect` works there";
            return Err(Failure::new(
                exit::UNSUPPORTED,
                "this version audits no Windows trees",
                hint,
            ));
        }
        let report = audit::audit(&root, &facts, self.catalog)?;
        self.finish(&render::report(&report), &report)?;
        Ok(if report.has_failures() {
            exit::AUDIT
        } else {
            exit::OK
        })
    }

    fn revert(&self) -> Result<u8, Failure> {
        let root = self.open()?;
        let receipt = revert::revert(&root, self.epoch()?, &|_| Ok(()))?;
        let text = match &receipt {
            Some(receipt) => format!("took back {} paths\n", receipt.entries.len()),
            None => "nothing to take back: there is no receipt\n".to_owned(),
        };
        self.finish(&text, &receipt)?;
        Ok(exit::OK)
    }

    fn regions(&self, args: &RegionsArgs) -> Result<u8, Failure> {
        if args.systems {
            return self.systems();
        }
        let mut warnings = Vec::new();
        let regions = match &args.region {
            Some(id) => vec![request::find_region(id, self.catalog, &mut warnings)?],
            None => self.catalog.regions().all().to_vec(),
        };
        warnings.iter().for_each(|warning| self.console.warn(warning));
        let services = [
            Service::Ssm,
            Service::Ssmmessages,
            Service::Ec2messages,
            Service::S3,
            Service::Kms,
            Service::Logs,
        ];
        let mut text = String::new();
        let mut rows = Vec::new();
        for region in &regions {
            let host = |service, variant| self.catalog.regions().host(region, service, variant);
            let fips = host(Service::Ssm, HostVariant::Fips).map_or("", |_| " fips");
            text.push_str(&format!(
                "{:<16} {:<12} {}{fips}\n",
                region.id, region.partition, region.description
            ));
            let hosts = |variant| -> Value {
                services
                    .iter()
                    .map(|one| (one.to_string(), json!(host(*one, variant))))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            };
            if args.region.is_some() {
                services
                    .iter()
                    .filter_map(|one| host(*one, HostVariant::Standard))
                    .for_each(|host| {
                        text.push_str(&format!("  {host}\n"));
                    });
            }
            rows.push(json!({ "id": region.id, "partition": region.partition, "description": region.description,
                "hosts": hosts(HostVariant::Standard), "fips": hosts(HostVariant::Fips), "dual-stack": hosts(HostVariant::DualStack) }));
        }
        self.finish(&text, &rows)?;
        Ok(exit::OK)
    }

    fn systems(&self) -> Result<u8, Failure> {
        let oses = self.catalog.oses();
        let rows: Vec<Value> = oses
            .iter()
            .map(|os| {
                json!({ "id": os.id, "name": os.name, "family": os.family, "capabilities": os.capabilities })
            })
            .collect();
        self.finish(&render::systems(oses), &rows)?;
        Ok(exit::OK)
    }

    fn man(&self, verb: Option<&str>) -> Result<u8, Failure> {
        let mut whole = Cli::command();
        whole.build();
        let command = match verb {
            None => whole,
            Some(verb) => {
                let found = whole.find_subcommand(verb).cloned();
                let unknown = || {
                    Failure::new(
                        exit::USAGE,
                        format!("there is no verb `{verb}`"),
                        "see `ssmbake --help`",
                    )
                };
                found.ok_or_else(unknown)?
            }
        };
        let mut bytes = Vec::new();
        clap_mangen::Man::new(command)
            .render(&mut bytes)
            .map_err(|error| Failure::new(exit::INTERNAL, error, "please report this"))?;
        self.console.raw(&String::from_utf8_lossy(&bytes));
        Ok(exit::OK)
    }
}

/// Version, base URL, folder, format and architecture of the package that `plan` installs.
fn package_of(plan: &Plan) -> Option<(&AgentVersion, &str, &str, PackageFormat, Arch)> {
    plan.steps.iter().find_map(|step| match step {
        Step::InstallPackage {
            version: VersionSpec::Exact(version),
            base_url,
            folder,
            format,
            arch,
            ..
        } => Some((version, base_url.as_str(), folder.as_str(), *format, *arch)),
        _ => None,
    })
}

/// An export has no target to unpack into; the caller falls back to private files.
fn no_target() -> Result<File, IoError> {
    Err(IoError::new(
        "unpack into",
        "no target",
        std::io::ErrorKind::Unsupported,
    ))
}

/// The network, set up only when a plan needs it.
struct Network<'a> {
    session: &'a Session<'a>,
    args: &'a ApplyArgs,
    client: OnceCell<Transport>,
}

impl Network<'_> {
    fn resolve(&self, draft: &Plan, version: VersionSpec) -> Result<VersionSpec, Failure> {
        let channel = match version {
            VersionSpec::Exact(_) => return Ok(version),
            VersionSpec::Latest => Channel::Latest,
            VersionSpec::Stable => Channel::Stable,
        };
        // A system with a last agent of its own has an exact version already.
        let base = draft.steps.iter().find_map(|step| match step {
            Step::InstallPackage {
                version: VersionSpec::Exact(_),
                ..
            } => None,
            Step::InstallPackage { base_url, .. } => Some(base_url),
            _ => None,
        });
        let Some(base) = base else { return Ok(version) };
        let agent = self.session.catalog.agent();
        let resolved = acquire::resolve(self.transport()?, agent, base, channel)?;
        self.session.console.event(
            "resolved",
            &format!("{channel} is {resolved}"),
            json!({ "version": resolved }),
        );
        Ok(VersionSpec::Exact(resolved))
    }

    /// The package of the plan, unpacked into files that `unpack_into` makes.
    fn fetch(
        &self,
        plan: &Plan,
        unpack_into: &dyn Fn() -> Result<File, IoError>,
    ) -> Result<Option<Verified>, Failure> {
        let Some((version, base_url, folder, format, arch)) = package_of(plan) else {
            return Ok(None);
        };
        let mut ring = KeyRing::embedded(self.session.catalog)?;
        for path in &self.args.keyring {
            for fingerprint in ring.add_certificates(&host::read(path)?)? {
                self.session
                    .console
                    .warn(&format!("packages signed by {fingerprint} are accepted as well"));
            }
        }
        let request = FetchRequest {
            base_url: base_url.to_owned(),
            version: *version,
            folder: folder.to_owned(),
            format,
            arch,
            pin: plan.request.sha256.as_deref().and_then(hex::digest),
            cache: self.args.cache_dir.clone(),
            temp_dir: self.session.temp_dir(),
        };
        let verified = acquire::fetch(
            self.transport()?,
            &ring,
            self.session.catalog.agent(),
            &request,
            unpack_into,
            self.session.console,
        )?;
        let text = match verified.voucher() {
            Voucher::Signature(by) => format!("verified {} with key {}", verified.sha256(), by.fingerprint),
            Voucher::PinnedDigest => format!("verified {} as named; it has no signature", verified.sha256()),
        };
        self.session.console.event(
            "verified",
            &text,
            json!({ "sha256": verified.sha256(), "voucher": verified.voucher() }),
        );
        Ok(Some(verified))
    }

    fn transport(&self) -> Result<&Transport, Failure> {
        if self.client.get().is_none() {
            // It was empty a line ago, and there is one thread.
            drop(self.client.set(self.connect()?));
        }
        self.client
            .get()
            .ok_or_else(|| Failure::new(exit::INTERNAL, "no network client", "please report this"))
    }

    fn connect(&self) -> Result<Transport, Failure> {
        let environment = self.session.environment;
        let variable = |names: [&str; 2]| names.iter().find_map(|name| environment.get(*name).cloned());
        let mut roots_der: Vec<Vec<u8>> = self
            .session
            .catalog
            .anchors()
            .iter()
            .map(|anchor| anchor.der())
            .collect();
        let named = variable(["AWS_CA_BUNDLE", "SSL_CERT_FILE"]).map(PathBuf::from);
        let bundle = named
            .and_then(|path| host::read(&path).ok())
            .or_else(host::ca_bundle);
        let files = self
            .args
            .ca_file
            .iter()
            .map(|path| host::read(path))
            .collect::<Result<Vec<_>, _>>()?;
        for bytes in files.iter().chain(&bundle) {
            roots_der.extend(
                pem_blocks(bytes)
                    .into_iter()
                    .map(|certificate| certificate.der().to_vec()),
            );
        }
        let flag = self.args.download_proxy.clone();
        let proxy = ProxySettings {
            https: flag.clone().or_else(|| variable(["HTTPS_PROXY", "https_proxy"])),
            http: flag.or_else(|| variable(["HTTP_PROXY", "http_proxy"])),
            no_proxy: variable(["NO_PROXY", "no_proxy"]),
        };
        let timeout = Duration::from_secs(self.args.timeout);
        Ok(Transport::new(&TransportOptions {
            roots_der,
            proxy,
            timeout,
            retries: self.args.retries,
        })?)
    }
}
