//! `regions`: what is known of them, and which is the nearest.

use std::time::Duration;

use serde_json::{Value, json};
use ssmbake_installers::reach::Outcome;
use ssmbake_installers::reach::nearest::{self, Nearest};
use ssmbake_manifests::{HostVariant, Service};

use super::Session;
use crate::args::RegionsArgs;
use crate::exit::{self, Failure};
use crate::request;

impl Session<'_> {
    pub(super) fn regions(&self, args: &RegionsArgs) -> Result<u8, Failure> {
        if args.systems {
            return self.systems();
        }
        if args.nearest {
            return self.nearest(args);
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

    fn nearest(&self, args: &RegionsArgs) -> Result<u8, Failure> {
        let all = self.catalog.regions();
        if !all.partitions().iter().any(|one| one.id == args.partition) {
            let known: Vec<&str> = all.partitions().iter().map(|one| one.id.as_str()).collect();
            let what = format!("there is no partition `{}`", args.partition);
            return Err(Failure::new(
                exit::USAGE,
                what,
                format!("one of {}", known.join(", ")),
            ));
        }
        let hosts: Vec<(String, String)> = all
            .all()
            .iter()
            .filter(|region| region.partition == args.partition)
            .filter_map(|region| {
                Some((
                    region.id.clone(),
                    all.host(region, Service::Ssm, HostVariant::Standard)?,
                ))
            })
            .collect();
        let network = super::network::roots_der(self, &[])?;
        let Nearest { measured, failure } = nearest::measure(
            &hosts,
            network,
            Duration::from_secs(args.patience.connect_timeout),
        )?;
        let near: Vec<(&str, u64)> = measured
            .iter()
            .filter_map(|one| Some((one.region.as_str(), one.milliseconds?)))
            .collect();
        if near.is_empty() {
            return Err(none_answers(&args.partition, failure));
        }
        let mut text = String::new();
        for (region, milliseconds) in near {
            text.push_str(&format!("{region:<16} {milliseconds:>5} ms\n"));
        }
        let far = measured.iter().filter(|one| one.milliseconds.is_none());
        let names: Vec<&str> = far.map(|one| one.region.as_str()).collect();
        if !names.is_empty() {
            self.console.warn(&format!("no answer from {}", names.join(", ")));
        }
        self.finish(&text, &measured)?;
        Ok(exit::OK)
    }
}

fn none_answers(partition: &str, failure: Option<Outcome>) -> Failure {
    let (why, hint) = match failure {
        Some(Outcome::NoTls(why)) => (why, "trust the CA of the proxy that opens TLS: SSL_CERT_FILE"),
        Some(Outcome::NotNow(why)) => (
            why,
            "set this machine's clock: by it, the certificates are not valid",
        ),
        Some(Outcome::NoName(why)) => (
            why,
            "give the machine a resolver; `ssmbake regions` needs no network",
        ),
        Some(Outcome::NoConnection(why) | Outcome::NoProxy(why) | Outcome::NoAnswer(why)) => {
            (why, "check network and firewall; `ssmbake regions` needs none")
        }
        Some(Outcome::Answered(_)) | None => {
            return Failure::new(exit::INTERNAL, "no region was asked", "please report this");
        }
    };
    let what = format!("no region of {partition} answers: {why}");
    Failure::new(exit::NETWORK, what, hint)
}
