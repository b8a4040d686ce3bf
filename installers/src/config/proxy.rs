//! The agent's proxy lives in its service's environment: a systemd drop-in or an upstart override.

use serde::{Deserialize, Serialize};
use ssmbake_manifests::ServiceManager;

use super::{SettingError, wrong};
use crate::error::IoError;
use crate::root::{Root, RootPath};
use crate::service::{InstallChannel, environment, upstart};

/// Without it the agent asks the proxy for its credentials and gets none.
const IMDS: &str = "169.254.169.254";
/// systemd ignores the `.override` that AWS's page names; drop-ins end in `.conf`.
const DROP_IN: &str = "/etc/systemd/system/amazon-ssm-agent.service.d/10-ssmbake-proxy.conf";
const SNAP_DROP_IN: &str =
    "/etc/systemd/system/snap.amazon-ssm-agent.amazon-ssm-agent.service.d/10-ssmbake-proxy.conf";

/// What the agent reads from its environment.
const VARIABLES: [&str; 3] = ["http_proxy", "https_proxy", "no_proxy"];

/// A checked proxy setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// `http://proxy.example:3128`.
    pub url: String,
    /// Hosts to reach directly; always with the metadata service.
    pub no_proxy: Vec<String>,
}

impl Proxy {
    /// Checks a URL and a comma-separated list; the warning is for a password, which the agent logs in clear.
    pub fn parse(url: &str, no_proxy: &str) -> Result<(Self, Option<String>), SettingError> {
        let hint = "give http://HOST:PORT or https://HOST:PORT";
        let parsed =
            url::Url::parse(url).map_err(|error| wrong(format!("the proxy is no URL: {error}"), hint))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(wrong("the proxy is no http or https URL", hint));
        }
        let is_plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"\"'\\`$<>".contains(&byte))
        };
        let mut hosts: Vec<String> = no_proxy.split(',').map(str::trim).map(str::to_owned).collect();
        hosts.retain(|host| !host.is_empty());
        if !is_plain(url) || !hosts.iter().all(|host| is_plain(host)) {
            return Err(wrong(
                "the proxy settings hold quotes, blanks or signs that a service file cannot carry",
                hint,
            ));
        }
        if !hosts.iter().any(|host| host == IMDS) {
            hosts.push(IMDS.to_owned());
        }
        let warning = parsed
            .password()
            .map(|_| "the agent logs the proxy's password in clear".to_owned());
        Ok((
            Self {
                url: url.to_owned(),
                no_proxy: hosts,
            },
            warning,
        ))
    }

    /// The file's text.
    pub fn render(&self, manager: ServiceManager) -> String {
        let hosts = self.no_proxy.join(",");
        // http_proxy alone is bypassed by the agent.
        let pairs = VARIABLES.into_iter().zip([&self.url, &self.url, &hosts]);
        let line = |(name, value): (&str, &String)| match manager {
            // A percent sign begins a specifier in a unit file.
            ServiceManager::Systemd => format!("Environment=\"{name}={}\"\n", value.replace('%', "%%")),
            ServiceManager::Upstart | ServiceManager::Sysvinit | ServiceManager::Scm => {
                format!("env {name}={value}\n")
            }
        };
        let head = if manager == ServiceManager::Systemd {
            "[Service]\n"
        } else {
            ""
        };
        format!("{head}{}", pairs.map(line).collect::<String>())
    }

    /// The file's new text. An upstart override may hold more than our lines: those stay.
    pub fn merge(&self, manager: ServiceManager, old: &str) -> String {
        let is_ours = |line: &&str| {
            VARIABLES
                .iter()
                .any(|name| line.trim_start().starts_with(&format!("env {name}=")))
        };
        let mut text = String::new();
        if manager != ServiceManager::Systemd {
            for line in old.lines().filter(|line| !is_ours(line)) {
                text.push_str(line);
                text.push('\n');
            }
        }
        text + &self.render(manager)
    }
}

/// The URL and the exceptions that the agent's service has in `root`, whoever wrote them.
pub fn in_force(
    root: &Root,
    manager: ServiceManager,
    channel: InstallChannel,
) -> Result<Option<(String, String)>, IoError> {
    environment::read(root, manager, channel).map(chosen)
}

/// The URL and the exceptions that count among variables by their lower-case names: the last of each.
pub(crate) fn chosen(settings: Vec<(String, String)>) -> Option<(String, String)> {
    let mut url = None;
    let mut hosts = String::new();
    for (name, value) in settings {
        match name.as_str() {
            "https_proxy" => url = Some(value),
            "no_proxy" => hosts = value,
            _ => {}
        }
    }
    url.filter(|url| !url.is_empty()).map(|url| (url, hosts))
}

/// Where the text belongs.
pub fn place(manager: ServiceManager, channel: InstallChannel) -> RootPath {
    match manager {
        ServiceManager::Systemd if channel == InstallChannel::Snap => RootPath::fixed(SNAP_DROP_IN),
        ServiceManager::Systemd => RootPath::fixed(DROP_IN),
        ServiceManager::Upstart | ServiceManager::Sysvinit | ServiceManager::Scm => {
            RootPath::fixed(upstart::OVERRIDE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_for_both_managers() {
        let (proxy, warning) = Proxy::parse("http://u:p%40w@proxy:3128", "a.example, b").expect("valid");
        assert!(warning.is_some());
        let text = proxy.render(ServiceManager::Systemd);
        assert!(
            text.contains("\"https_proxy=http://u:p%%40w@proxy:3128\""),
            "{text}"
        );
        assert!(text.contains("no_proxy=a.example,b,169.254.169.254"), "{text}");
        assert!(
            proxy
                .render(ServiceManager::Upstart)
                .starts_with("env http_proxy=http://u:p%40w@")
        );
        let (other, _) = Proxy::parse("http://other:1", "").expect("valid");
        let merged = proxy.merge(
            ServiceManager::Upstart,
            &format!("nice 5\n{}", other.render(ServiceManager::Upstart)),
        );
        assert_eq!(
            merged,
            format!("nice 5\n{}", proxy.render(ServiceManager::Upstart))
        );
        for url in [
            "proxy:3128",
            "ftp://x",
            "http://",
            "http://a b",
            "http://a/\"\nX=1",
        ] {
            assert!(Proxy::parse(url, "").is_err(), "{url}");
        }
    }
}
