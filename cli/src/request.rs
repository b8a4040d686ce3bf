//! Arguments → request: everything is parsed here, so that nothing below has to doubt it.

use std::path::Path;

use ssmbake_installers::acquire::Address;
use ssmbake_installers::activation;
use ssmbake_installers::config;
use ssmbake_installers::config::proxy::Proxy;
use ssmbake_installers::plan::{
    ChannelChoice, Connect, Downgrade, Endpoints, LabelChoice, RegistrationChoice, Request, Roots, Source,
    Start, TargetKind, VersionSpec,
};
use ssmbake_installers::trust::Anchor;
use ssmbake_installers::trust::x509::Certificate;
use ssmbake_manifests::{Arch, Catalog, Region, RegionMatch, UnknownWord};

use crate::Environment;
use crate::args::{ChannelArg, RegistrationArg, RootsArg, SelinuxArg, SourceArg, TargetArg, Wanted};
use crate::exit::{Failure, REGION, USAGE};
use crate::host;

/// The request and what the user should hear about it.
pub(crate) fn build(
    wanted: &Wanted,
    environment: &Environment,
    catalog: &Catalog,
) -> Result<(Request, Vec<String>), Failure> {
    let mut warnings = Vec::new();
    let region = region(
        wanted.bucket.region.as_deref(),
        environment,
        catalog,
        &mut warnings,
    )?;
    let mut settings = Vec::new();
    for text in &wanted.endpoint {
        settings.push(config::parse_endpoint(text)?);
    }
    for text in &wanted.set {
        let (edit, warning) = config::parse_set(text, catalog)?;
        settings.push(edit);
        warnings.extend(warning);
    }
    let no_proxy = wanted.no_proxy.as_deref().unwrap_or_default();
    let proxy = wanted.proxy.as_deref();
    let (proxy, warning) = proxy.map(|url| Proxy::parse(url, no_proxy)).transpose()?.unzip();
    warnings.extend(warning.flatten());
    let request = Request {
        region,
        version: version(&wanted.bucket.agent_version)?,
        sha256: wanted.sha256.as_deref().map(sha256).transpose()?,
        signer: None,
        source: source(wanted.bucket.mirror.as_ref(), wanted.bucket.source),
        channel: wanted.channel.into(),
        target: wanted.target.into(),
        downgrade: match wanted.allow_downgrade {
            true => Downgrade::Allow,
            false => Downgrade::Refuse,
        },
        roots: wanted.roots.into(),
        extra_anchors: extra_anchors(wanted)?,
        registration: wanted.registration.into(),
        labels: wanted.selinux.into(),
        endpoints: match wanted.fips {
            true => Endpoints::Fips,
            false => Endpoints::Standard,
        },
        settings,
        proxy,
        connect: match wanted.fast_connect {
            true => Connect::Fast,
            false => Connect::Standard,
        },
        start: match (wanted.start, wanted.no_start) {
            (_, true) => Start::AtBoot,
            (true, false) => Start::Now,
            (false, false) => Start::Auto,
        },
        activation: activation(wanted)?,
    };
    Ok((request, warnings))
}

/// The command line's words are this crate's, what they mean is the planner's.
macro_rules! same_words {
    ($($from:ty => $to:ty { $($word:ident),+ })+) => {
        $(impl From<$from> for $to {
            fn from(word: $from) -> Self {
                match word {
                    $(<$from>::$word => Self::$word,)+
                }
            }
        })+
    };
}

same_words! {
    ChannelArg => ChannelChoice { Auto, Package, Snap }
    TargetArg => TargetKind { Ec2, Hybrid }
    RootsArg => Roots { Default, Legacy, None }
    RegistrationArg => RegistrationChoice { Auto, HostRpm, TargetRpm, FirstBoot }
    SelinuxArg => LabelChoice { Label, Relabel, Ignore }
}

/// Each once, in the order given.
fn activation(wanted: &Wanted) -> Result<Vec<activation::Source>, Failure> {
    let mut sources = Vec::new();
    for text in &wanted.activation_source {
        let named = match text.as_str() {
            "auto" => activation::Source::auto(),
            other => vec![
                other
                    .parse()
                    .map_err(|error| Failure::new(USAGE, error, activation::SourceError::HINT))?,
            ],
        };
        sources.extend(named);
    }
    let mut seen = Vec::new();
    sources.retain(|source| {
        let is_new = !seen.contains(source);
        seen.push(source.clone());
        is_new
    });
    Ok(sources)
}

pub(crate) fn sha256(text: &str) -> Result<String, Failure> {
    let text = text.trim().to_ascii_lowercase();
    match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(text),
        false => Err(Failure::new(
            USAGE,
            format!("`{text}` is no SHA-256"),
            "give 64 hexadecimal digits, as sha256sum prints them",
        )),
    }
}

/// A name as S3 has them: 3 to 63 lower-case letters, digits, dots and hyphens.
pub(crate) fn bucket(name: &str) -> Result<(), Failure> {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let is_good =
        (3..=63).contains(&name.len()) && name.bytes().all(is_inner) && !name.starts_with(['.', '-']);
    match is_good {
        true => Ok(()),
        false => Err(Failure::new(
            USAGE,
            format!("`{name}` is no bucket name"),
            "give its name, without s3://",
        )),
    }
}

/// An http or https URL, as it was given.
pub(crate) fn web_url(text: &str) -> Result<String, Failure> {
    match text.starts_with("https://") || text.starts_with("http://") {
        true => Ok(text.to_owned()),
        false => Err(Failure::new(
            USAGE,
            format!("`{text}` is no http or https URL"),
            "give https://HOST/PATH",
        )),
    }
}

pub(crate) fn source(mirror: Option<&Address>, source: SourceArg) -> Source {
    match (mirror, source) {
        (Some(url), _) => Source::Mirror(url.as_str().to_owned()),
        (None, SourceArg::Global) => Source::Global,
        (None, SourceArg::Regional) => Source::Regional,
    }
}

/// An architecture that the agent has packages for.
pub(crate) fn arch(word: &str) -> Result<Arch, Failure> {
    word.parse()
        .map_err(|error: UnknownWord| Failure::new(USAGE, error, "one of amd64, arm64, armhf, i386"))
}

pub(crate) fn version(text: &str) -> Result<VersionSpec, Failure> {
    match text {
        "latest" => Ok(VersionSpec::Latest),
        "stable" => Ok(VersionSpec::Stable),
        other => other
            .parse()
            .map(VersionSpec::Exact)
            .map_err(|error| Failure::new(USAGE, error, "use latest, stable, or four numbers with dots")),
    }
}

/// The option, else AWS's own variables.
pub(crate) fn region(
    named: Option<&str>,
    environment: &Environment,
    catalog: &Catalog,
    warnings: &mut Vec<String>,
) -> Result<Option<Region>, Failure> {
    let variable = |name| environment.get(name).map(String::as_str);
    let named = named
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"));
    let Some(id) = named.filter(|id| !id.is_empty()) else {
        return Ok(None);
    };
    find_region(id, catalog, warnings).map(Some)
}

/// A region by its id; one that only fits a partition's pattern comes with a warning.
pub(crate) fn find_region(
    id: &str,
    catalog: &Catalog,
    warnings: &mut Vec<String>,
) -> Result<Region, Failure> {
    match catalog.regions().find(id) {
        Ok(RegionMatch::Known(region)) => Ok(region),
        Ok(RegionMatch::Assumed(region)) => {
            warnings.push(format!(
                "`{}` is no region that this ssmbake knows; it fits partition {}",
                region.id, region.partition
            ));
            Ok(region)
        }
        Err(error) => {
            let hint = match error.nearest.is_empty() {
                true => "`ssmbake regions` lists them".to_owned(),
                false => format!("did you mean {}?", error.nearest.join(", ")),
            };
            Err(Failure::new(REGION, error, hint))
        }
    }
}

fn extra_anchors(wanted: &Wanted) -> Result<Vec<Anchor>, Failure> {
    let mut anchors: Vec<Anchor> = Vec::new();
    for path in &wanted.extra_ca {
        let certificates = Certificate::read_ca_file(&host::read(path)?).map_err(|error| {
            Failure::new(
                USAGE,
                format!("`{}`: {error}", path.display()),
                "give a CA certificate as PEM or DER",
            )
        })?;
        for (number, certificate) in certificates.iter().enumerate() {
            let suffix = if certificates.len() > 1 {
                format!("-{}", number + 1)
            } else {
                String::new()
            };
            anchors.push(Anchor {
                name: format!("{}{suffix}", stem(path)),
                label: certificate.label(),
                sha256: certificate.sha256(),
                pem: certificate.to_pem(),
            });
        }
    }
    Ok(anchors)
}

/// A name that every trust store takes.
fn stem(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain = |sign: char| {
        if sign.is_ascii_alphanumeric() || "-_.".contains(sign) {
            sign
        } else {
            '_'
        }
    };
    let name: String = stem.chars().map(plain).take(100).collect();
    if name.trim_matches(['.', '_']).is_empty() {
        "extra-ca".to_owned()
    } else {
        name
    }
}
