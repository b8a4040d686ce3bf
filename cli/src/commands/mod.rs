//! One function a verb. They connect the phases; the phases do the work.

mod audit;
mod catalog;
mod export;
mod keys;
mod network;
mod regions;
mod seal;
mod supply;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{ArgMatches, CommandFactory};
use serde_json::{Value, json};
use ssmbake_installers::acquire::{Secret, address};
use ssmbake_installers::apply::{ApplyError, Host};
use ssmbake_installers::attest::{self, Sbom, Subject};
use ssmbake_installers::error::IoError;
use ssmbake_installers::interrupt::Interrupt;
use ssmbake_installers::locks::{self, Locks};
use ssmbake_installers::packages::rpm::program::host_backend;
use ssmbake_installers::plan::{Carrier, Plan, Request, Source};
use ssmbake_installers::probe::{CallerHints, Facts, RootChoice, probe};
use ssmbake_installers::root::Root;
use ssmbake_installers::supply::bundle::SignedCatalog;
use ssmbake_installers::txn::{self, Settled};
use ssmbake_installers::{apply, plan, receipt, revert};
use ssmbake_manifests::{Catalog, install};

use self::network::Network;
use self::supply::Pins;
use crate::Environment;
use crate::args::{ApplyArgs, Cli, Command, MirrorCommand, PlanOf, Wanted, secrets, told};
use crate::console::Console;
use crate::exit::{self, Failure};
use crate::render::{self, Detail};
use crate::{host, request, signals};

/// The root that this process runs in.
const OWN_ROOT: &str = if cfg!(windows) { "C:\\" } else { "/" };

/// Between two looks at a lock.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Runs one verb; the exit code. `matches` is what `cli` was made of.
pub(crate) fn run(
    cli: &Cli,
    matches: &ArgMatches,
    environment: &Environment,
    console: &Console,
) -> Result<u8, Failure> {
    let changes = matches!(
        cli.command,
        Command::Apply(_) | Command::Seal(_) | Command::Revert
    );
    if changes && !cfg!(unix) {
        return Err(Failure::new(
            exit::UNSUPPORTED,
            "trees are changed on Linux only",
            "this program looks at them here: detect, plan, audit; export renders scripts for elsewhere",
        ));
    }
    // Only what changes something has something to take back.
    let is_heard = changes || cli.writes();
    let interrupt = match is_heard {
        true => signals::listen()?,
        false => Interrupt::new(),
    };
    let mut session = Session {
        cli,
        interrupt: interrupt.clone(),
        is_heard,
        secrets: secrets(matches),
        environment,
        console,
        catalog: ssmbake_manifests::catalog(),
        signed: None,
    };
    let result = session.verb(matches);
    let hint = match &cli.command {
        Command::Mirror { .. } => "all that is offered in the mirror is whole; run it again",
        _ => "nothing is left changed; run it again",
    };
    result.map_err(|failure| signals::explain(failure, &interrupt, hint))
}

struct Session<'a> {
    cli: &'a Cli,
    environment: &'a Environment,
    console: &'a Console,
    catalog: &'static Catalog,
    /// What the catalog was read from, where it is none that is built in.
    signed: Option<SignedCatalog>,
    interrupt: Interrupt,
    /// Whether signals wait.
    is_heard: bool,
    /// Of the URLs on the command line.
    secrets: Vec<Secret>,
}

impl Session<'_> {
    fn verb(&mut self, matches: &ArgMatches) -> Result<u8, Failure> {
        if let Some((catalog, signed)) = self.signed_catalog()? {
            self.catalog = install(catalog);
            self.signed = Some(signed);
        }
        match &self.cli.command {
            Command::Detect => self.detect(),
            Command::Plan(args) => match &args.of {
                Some(PlanOf::Seal { profile }) => self.plan_seal(*profile),
                None => self.plan(&args.wanted),
            },
            Command::Seal(args) => self.seal(args),
            Command::Apply(args) => self.apply(args),
            Command::Audit(args) => self.audit(args),
            Command::Revert => self.revert(),
            Command::Export(args) => self.export(args, &told(matches, args.format)),
            Command::Lock(args) => self.lock_file(args),
            Command::Bundle { command } => self.bundle(command),
            Command::Mirror {
                command: MirrorCommand::Sync(args),
            } => self.sync_mirror(args),
            Command::Catalog { command } => self.catalog_verb(command),
            Command::Keys { command } => self.keys(command),
            Command::Regions(args) => self.regions(args),
            Command::Activation { url } => self.activation(url),
            Command::Completions { shell } => {
                let mut bytes = Vec::new();
                clap_complete::generate(*shell, &mut Cli::command(), "ssmbake", &mut bytes);
                self.console.raw(&String::from_utf8_lossy(&bytes));
                Ok(exit::OK)
            }
            Command::Man { verb } => self.man(verb.as_deref()),
        }
    }

    /// Opens the root to look at it.
    fn open(&self) -> Result<Root, Failure> {
        let root = self.root()?;
        if txn::is_pending(&root)? {
            self.console.warn(
                "a change of this tree is under way or was interrupted: `apply`, `seal` or `revert` finishes it",
            );
        }
        Ok(root)
    }

    fn root(&self) -> Result<Root, Failure> {
        let named = self.cli.common.root.as_deref();
        Ok(Root::open(named.unwrap_or(Path::new(OWN_ROOT)))?)
    }

    /// Opens the root; whatever an interrupted run has left there is settled first.
    fn open_to_change(&self) -> Result<Root, Failure> {
        let root = self.root()?;
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
        named.is_none_or(|path| path == Path::new(OWN_ROOT))
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
        let document = self.store(document)?;
        self.console.result(text, &document);
        Ok(())
    }

    /// Before a change: `documents` and the report can be written.
    fn expect_places<'p>(&'p self, documents: impl IntoIterator<Item = &'p PathBuf>) -> Result<(), Failure> {
        for path in documents.into_iter().chain(&self.cli.common.report) {
            host::expect_place(path)?;
        }
        Ok(())
    }

    /// Where asked, stores the result.
    fn store(&self, document: &impl serde::Serialize) -> Result<Value, Failure> {
        let document: Value = serde_json::to_value(document)
            .map_err(|error| Failure::new(exit::INTERNAL, error, "please report this"))?;
        if let Some(path) = &self.cli.common.report {
            if !self.is_heard {
                // From now on it is a moment until the end.
                signals::listen()?;
            }
            host::write(path, format!("{document:#}\n").as_bytes())?;
        }
        Ok(document)
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
        let root = self.open()?;
        let mut facts = self.facts_for_plan(&root)?;
        let mut request = self.request(wanted)?;
        Pins::read(self, wanted)?.take(&mut request, wanted, &facts)?;
        if request.sha256.is_some() {
            facts.compare_programs(&root)?;
        }
        let plan = plan::plan(&request, &facts, self.catalog, Carrier::Ssmbake)?;
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
        self.expect_places(args.sbom.iter().chain(&args.provenance))?;
        let root = self.open_to_change()?;
        // From before the look at the system until after the change: what was seen holds.
        let _locks = self.lock(&root, Duration::from_secs(args.lock_timeout))?;
        let mut facts = self.facts_for_plan(&root)?;
        let mut request = match &args.plan {
            Some(path) => self.stored_request(path, &facts)?,
            None => self.request(&args.wanted)?,
        };
        let pins = Pins::read(self, &args.wanted)?;
        let locked = pins.take(&mut request, &args.wanted, &facts)?;
        if request.sha256.is_some() {
            facts.compare_programs(&root)?;
        }
        // A first plan finds conflicts without the network, and whether the network is needed at all.
        let draft = plan::plan(&request, &facts, self.catalog, Carrier::Ssmbake)?;
        let network = Network::new(self, &args.download).or_bundle(pins.bundle);
        let plan = self.resolved(draft, &mut request, &facts, &network, Carrier::Ssmbake)?;
        self.note(&plan);
        for step in &plan.steps {
            self.console.event("step", &format!("{step}"), json!(step));
        }
        let verified = network.fetch(&plan, &|| txn::unnamed_file(&root))?;
        if let (Some(locked), Some(verified)) = (&locked, &verified) {
            locked.expect(verified)?;
        }
        let host = Host {
            epoch: self.epoch()?,
            now: host::now(),
            temp_dir: self.temp_dir(),
        };
        let outcome = apply::apply(&root, &plan, verified, &host, &|_| self.interrupt.check())?;
        for kept in &outcome.kept {
            self.console.warn(&format!(
                "`{}` was kept as you changed it; the package's is `{}`",
                kept.path, kept.offered
            ));
        }
        let is_changed = !outcome.changed.is_empty();
        let late = |failure: Failure| match is_changed {
            true => failure.unreported(),
            false => failure,
        };
        self.attest(args, &root, &facts, &plan.request).map_err(late)?;
        let text = match outcome.changed.len() {
            0 => "nothing changed: all is as wanted\n".to_owned(),
            count => format!("changed {count} paths in {}\n", root.host_path().display()),
        };
        let document = json!({ "schema": 1, "facts": facts, "plan": plan, "changed": outcome.changed, "receipt": outcome.receipt });
        self.finish(&text, &document).map_err(late)?;
        Ok(if is_changed && args.detailed_exitcode {
            exit::CHANGED
        } else {
            exit::OK
        })
    }

    /// The documents that were asked for, of what is in the tree by now.
    fn attest(&self, args: &ApplyArgs, root: &Root, facts: &Facts, request: &Request) -> Result<(), Failure> {
        if args.sbom.is_empty() && args.provenance.is_none() {
            return Ok(());
        }
        let Some(receipt) = receipt::read(root)? else {
            self.console
                .warn("nothing is in this tree by ssmbake: there is nothing to write a bill of materials of");
            return Ok(());
        };
        let subject = Subject {
            facts,
            receipt: &receipt,
            request,
            epoch: self.epoch()?,
        };
        for path in &args.sbom {
            let format = match path.to_string_lossy().ends_with(".spdx.json") {
                true => Sbom::Spdx,
                false => Sbom::CycloneDx,
            };
            let document = attest::sbom(format, &subject, root)?;
            host::write(path, format!("{document:#}\n").as_bytes())?;
        }
        if let Some(path) = &args.provenance {
            let document = attest::provenance(&subject);
            host::write(path, format!("{document:#}\n").as_bytes())?;
        }
        Ok(())
    }

    /// The package managers' locks, waited for where such programs run beside this one.
    fn lock(&self, root: &Root, timeout: Duration) -> Result<Locks, Failure> {
        if !self.is_own() {
            return Ok(Locks::default());
        }
        let deadline = Instant::now() + timeout;
        let mut is_said = false;
        loop {
            match locks::lock_live(root) {
                Err(ApplyError::Locked { path }) if Instant::now() < deadline => {
                    if !is_said {
                        let text = format!("waiting for the package manager that holds `{path}`");
                        self.console.event("waiting", &text, json!({ "path": path }));
                        is_said = true;
                    }
                    std::thread::sleep(LOCK_PAUSE);
                    self.interrupt
                        .check()
                        .map_err(|error| IoError::new("wait for", "package managers", error))?;
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
        carrier: Carrier,
    ) -> Result<Plan, Failure> {
        let version = network.resolve(&draft, request.version)?;
        if version == request.version {
            return Ok(draft);
        }
        request.version = version;
        Ok(plan::plan(request, facts, self.catalog, carrier)?)
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
        let mut request = plan.request;
        if let Source::Mirror(url) = &mut request.source {
            *url = address::shown(url);
        }
        Ok(request)
    }

    fn revert(&self) -> Result<u8, Failure> {
        self.expect_places([])?;
        let root = self.open_to_change()?;
        let receipt = revert::revert(&root, self.epoch()?, &|_| self.interrupt.check())?;
        let text = match &receipt {
            Some(receipt) => format!("took back {} paths\n", receipt.entries.len()),
            None => "nothing to take back: there is no receipt\n".to_owned(),
        };
        self.finish(&text, &receipt).map_err(Failure::unreported)?;
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
