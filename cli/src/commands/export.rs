//! `export`: plans and snippets for places where somebody else runs them.

use std::fs::File;

use serde_json::{Value, json};
use ssmbake_installers::error::IoError;
use ssmbake_installers::export::account::{self, Account, NoAccount};
use ssmbake_installers::export::powershell;
use ssmbake_installers::export::snippet::{self, Binary, Snippet};
use ssmbake_installers::plan::Carrier;
use ssmbake_installers::probe::Facts;
use ssmbake_installers::{export, plan};
use ssmbake_manifests::{PackageFormat, Region};

use super::Session;
use super::network::{Network, package_of};
use super::supply::Pins;
use crate::args::{ExportArgs, FormatArg, Told, Wanted};
use crate::exit::{self, Failure};
use crate::{host, request};

impl Session<'_> {
    pub(super) fn export(&self, args: &ExportArgs, told: &Told) -> Result<u8, Failure> {
        if let Some(option) = &told.misplaced {
            let what = format!("{option} has no place in this format");
            let hint = "leave it out: `ssmbake export --help` says what each option is for";
            return Err(Failure::new(exit::USAGE, what, hint));
        }
        if matches!(args.format, FormatArg::Iam | FormatArg::Cloudformation) {
            return self.account(args);
        }
        if !self.secrets.is_empty() {
            self.console
                .warn("user name, password and query of a URL are not exported: let the other machine have them by itself");
        }
        match snippet_of(args.format) {
            Some(snippet) => self.snippet(snippet, args, &told.words),
            None => self.script(args),
        }
    }

    fn snippet(&self, snippet: Snippet, args: &ExportArgs, told: &[String]) -> Result<u8, Failure> {
        // What could not be applied is found now, but for files: those are the other machine's.
        let wanted = Wanted {
            extra_ca: Vec::new(),
            ..args.apply.wanted.clone()
        };
        let request = self.request(&wanted)?;
        if let Some(odd) = told.iter().find(|word| word.chars().any(char::is_control)) {
            let what = format!("{odd:?} holds control characters");
            return Err(Failure::new(exit::USAGE, what, "snippets carry plain text only"));
        }
        let mut flags = told.to_vec();
        let region = request.region.as_ref().map(|region| region.id.as_str());
        if let Some(region) = region.filter(|_| wanted.bucket.region.is_none()) {
            // It came from AWS_REGION, which the other machine need not have.
            flags.splice(0..0, ["--region".to_owned(), region.to_owned()]);
        }
        let binary = match (&args.binary_url, &args.binary_sha256) {
            (Some(url), Some(sha256)) => Some(Binary {
                url: request::web_url(url)?,
                sha256: request::sha256(sha256)?,
            }),
            _ => None,
        };
        let values = snippet::Values {
            flags: &flags,
            region,
            binary: binary.as_ref(),
        };
        let text = snippet::render(snippet, &values).map_err(|missing| match missing {
            snippet::Missing::Binary => Failure::new(
                exit::USAGE,
                "the machine must get ssmbake from somewhere",
                "give --binary-url URL and --binary-sha256 HEX",
            ),
            snippet::Missing::Region => Failure::new(
                exit::USAGE,
                "a region is needed",
                "use --region eu-west-1 (or yours)",
            ),
        })?;
        self.put_out(args, &text, &json!({ "schema": 1, "text": text }))
    }

    /// What the account needs.
    fn account(&self, args: &ExportArgs) -> Result<u8, Failure> {
        let usage = |what: String, hint: &str| Failure::new(exit::USAGE, what, hint);
        let request = self.request(&args.apply.wanted)?;
        let mut regions: Vec<Region> = request.region.into_iter().collect();
        let mut warnings = Vec::new();
        for id in &args.also_region {
            regions.push(request::find_region(id, self.catalog, &mut warnings)?);
        }
        warnings.iter().for_each(|warning| self.console.warn(warning));
        let Some(first) = regions.first() else {
            return Err(usage(
                "a region is needed".to_owned(),
                "use --region eu-west-1 (or yours)",
            ));
        };
        if let Some(other) = regions.iter().find(|region| region.partition != first.partition) {
            let what = format!("{} and {} are in different partitions", first.id, other.id);
            return Err(usage(
                what,
                "an account is in one partition: export once for each",
            ));
        }
        if args.format == FormatArg::Cloudformation && regions.len() > 1 {
            let hint = "the template names no region: make a stack of it in each";
            return Err(usage("a stack is in one region".to_owned(), hint));
        }
        let partition = self.catalog.regions().partition_of(first).ok_or_else(|| {
            Failure::new(
                exit::INTERNAL,
                "a region without a partition",
                "please report this",
            )
        })?;
        let is_number = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(odd) = args.account.as_deref().filter(|text| !is_number(text)) {
            return Err(usage(
                format!("`{odd}` is no account number"),
                "give its twelve digits",
            ));
        }
        if let Some(name) = args.output_bucket.as_deref() {
            request::bucket(name)?;
        }
        let account = Account {
            target: request.target,
            regions: &regions,
            partition,
            account: args.account.as_deref(),
            output_bucket: args.output_bucket.as_deref(),
        };
        let access = self.catalog.access();
        let document = match args.format {
            FormatArg::Cloudformation => account::cloudformation(&account, access),
            _ => account::iam(&account, access).map_err(|NoAccount| {
                let what = "the role of hybrid machines is for the activations of one account".to_owned();
                usage(what, "give --account NUMBER")
            })?,
        };
        self.put_out(args, &format!("{document:#}\n"), &document)
    }

    fn script(&self, args: &ExportArgs) -> Result<u8, Failure> {
        let facts = match (&args.os, &args.arch) {
            (Some(os), Some(arch)) => self.untouched(os, arch)?,
            _ => self.facts(&self.open()?)?,
        };
        let mut request = self.request(&args.apply.wanted)?;
        let pins = Pins::read(self, &args.apply.wanted)?;
        if pins.bundle.is_some() {
            let what = "a script downloads from a server, and a bundle is none";
            let hint = "make the script without --bundle, with --lock for the same packages";
            return Err(Failure::new(exit::USAGE, what, hint));
        }
        pins.take(&mut request, &args.apply.wanted, &facts)?;
        let network = Network::new(self, &args.apply.download).or_bundle(pins.bundle);
        let os = self
            .catalog
            .os(&facts.os.value.id)
            .ok_or_else(|| Failure::new(exit::INTERNAL, "a system that is none", "please report this"))?;
        let is_for_windows = matches!(args.format, FormatArg::Powershell | FormatArg::Autounattend);
        if is_for_windows != (os.package == PackageFormat::Exe) {
            let what = format!("no such script runs on {}", os.name);
            let hint = "use --format powershell or autounattend for Windows, sh for all others";
            return Err(Failure::new(exit::USAGE, what, hint));
        }
        let draft = plan::plan(&request, &facts, self.catalog, Carrier::Script)?;
        let plan = self.resolved(draft, &mut request, &facts, &network, Carrier::Script)?;
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
            // Windows judges the package's signature itself.
            None if is_for_windows => None,
            None => network
                .fetch(&plan, &no_target)?
                .map(|verified| verified.sha256()),
        };
        let agent = self.catalog.agent();
        let url = format!("{base_url}/{}", agent.package_path(version, folder, format));
        let script = match (args.format, &digest) {
            (FormatArg::Powershell, digest) => {
                powershell::render(&plan, os, arch, agent, &url, digest.as_deref())
            }
            (FormatArg::Autounattend, digest) => {
                let script = powershell::render(&plan, os, arch, agent, &url, digest.as_deref());
                powershell::answer_file(&script, arch)
            }
            (_, Some(digest)) => export::sh::render(&plan, os, arch, &url, digest),
            (_, None) => {
                let what = "nothing to export";
                return Err(Failure::new(exit::INTERNAL, what, "please report this"));
            }
        };
        let document = json!({ "schema": 1, "os": os.id, "plan": plan, "sha256": digest, "script": script });
        self.put_out(args, &script, &document)
    }

    fn put_out(&self, args: &ExportArgs, text: &str, document: &Value) -> Result<u8, Failure> {
        match &args.out {
            Some(path) => {
                host::write(path, text.as_bytes())?;
                self.finish(&format!("wrote {}\n", path.display()), document)?;
            }
            None => self.finish(text, document)?,
        }
        Ok(exit::OK)
    }

    /// The facts of a machine that is only named.
    fn untouched(&self, os: &str, arch: &str) -> Result<Facts, Failure> {
        let arch = request::arch(arch)?;
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
}

fn snippet_of(format: FormatArg) -> Option<Snippet> {
    Some(match format {
        FormatArg::Sh
        | FormatArg::Powershell
        | FormatArg::Autounattend
        | FormatArg::Iam
        | FormatArg::Cloudformation => return None,
        FormatArg::Packer => Snippet::Packer,
        FormatArg::PackerSurrogate => Snippet::PackerSurrogate,
        FormatArg::PackerChroot => Snippet::PackerChroot,
        FormatArg::PackerQemu => Snippet::PackerQemu,
        FormatArg::PackerSsh => Snippet::PackerSsh,
        FormatArg::PackerTree => Snippet::PackerTree,
        FormatArg::Vagrant => Snippet::Vagrant,
        FormatArg::CloudInit => Snippet::CloudInit,
        FormatArg::Imagebuilder => Snippet::ImageBuilder,
        FormatArg::Kickstart => Snippet::Kickstart,
        FormatArg::Preseed => Snippet::Preseed,
        FormatArg::Autoinstall => Snippet::Autoinstall,
        FormatArg::Mkosi => Snippet::Mkosi,
        FormatArg::Debos => Snippet::Debos,
        FormatArg::Dockerfile => Snippet::Dockerfile,
        FormatArg::Ansible => Snippet::Ansible,
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
