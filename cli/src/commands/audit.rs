//! `audit`: the tree, and on a running machine what only that can answer.

use std::time::Duration;

use ssmbake_installers::audit::live::Settings;
use ssmbake_installers::audit::{self, Profile};
use ssmbake_installers::probe::Facts;
use ssmbake_installers::reach::imds;
use ssmbake_manifests::CheckFacts;

use super::Session;
use crate::args::{AuditArgs, AuditProfileArg};
use crate::exit::{self, Failure};
use crate::{formats, host, render, request};

impl Session<'_> {
    pub(super) fn audit(&self, args: &AuditArgs) -> Result<u8, Failure> {
        if let Some(id) = &args.explain {
            return self.explain(id);
        }
        for id in &args.allow {
            self.known_check(id)?;
        }
        let root = self.open()?;
        let facts = self.facts(&root)?;
        let profile = match args.profile {
            AuditProfileArg::Any => Profile::Any,
            AuditProfileArg::Ec2 => Profile::Ec2,
            AuditProfileArg::Hybrid => Profile::Hybrid,
            AuditProfileArg::Image => Profile::Image,
        };
        let mut report = audit::audit(&root, &facts, self.catalog, profile);
        if self.wants_network(args, &facts)? {
            let settings = self.settings(args)?;
            report
                .checks
                .extend(audit::live::audit(&root, &facts, self.catalog, &settings)?);
        }
        if let Some(place) = &args.lock {
            let lock = self.read_lock(place.as_str())?;
            report
                .checks
                .push(audit::locked(&root, &facts, self.catalog, &lock)?);
        }
        report.allow(&args.allow);
        match args.format {
            None => self.finish(&render::report(&report), &report)?,
            Some(format) => {
                let place = root.host_path().display().to_string();
                self.store(&report)?;
                let document = formats::render(format, &report, &place, self.catalog);
                self.console.raw(&document);
            }
        }
        Ok(if report.has_failures() {
            exit::AUDIT
        } else {
            exit::OK
        })
    }

    fn known_check(&self, id: &str) -> Result<&'static CheckFacts, Failure> {
        self.catalog.check(id).ok_or_else(|| {
            Failure::new(
                exit::USAGE,
                format!("there is no check `{id}`"),
                "`ssmbake audit` prints the ids of all",
            )
        })
    }

    fn explain(&self, id: &str) -> Result<u8, Failure> {
        let facts = self.known_check(id)?;
        self.finish(&render::explanation(facts), facts)?;
        Ok(exit::OK)
    }

    pub(super) fn refuse_windows(&self, facts: &Facts) -> Result<(), Failure> {
        match facts.windows {
            None => Ok(()),
            Some(_) => Err(Failure::new(
                exit::UNSUPPORTED,
                "Windows trees are looked at, not changed",
                "`ssmbake audit` says what is left to do; sysprep seals them",
            )),
        }
    }

    fn wants_network(&self, args: &AuditArgs, facts: &Facts) -> Result<bool, Failure> {
        let asks = args.network && !args.no_network;
        if asks && !self.is_own() {
            return Err(Failure::new(
                exit::USAGE,
                "a tree has no network",
                "leave out --network, or --root",
            ));
        }
        Ok(asks || facts.environment.is_machine() && !args.no_network)
    }

    fn settings(&self, args: &AuditArgs) -> Result<Settings, Failure> {
        let mut warnings = Vec::new();
        let region = match &args.region {
            Some(id) => Some(request::find_region(id, self.catalog, &mut warnings)?),
            None => None,
        };
        warnings.iter().for_each(|warning| self.console.warn(warning));
        if let Some(name) = args.output_bucket.as_deref() {
            request::bucket(name)?;
        }
        let named = self.environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT");
        Ok(Settings {
            region,
            imds: named.map_or(imds::ENDPOINT, String::as_str).to_owned(),
            output_bucket: args.output_bucket.clone(),
            timeout: Duration::from_secs(args.patience.connect_timeout),
            now: host::now(),
        })
    }
}
