//! Files without some of their lines. Bytes: a comment in a key file may be in any encoding.

use regex::bytes::{Regex, RegexBuilder};
use ssmbake_manifests::{SealAction, SealRule};

/// The text without what `rule` drops.
pub(super) fn without(text: &[u8], rule: &SealRule) -> Vec<u8> {
    // Patterns are the catalog's, and a test compiles them.
    let Some(pattern) = rule.pattern.as_deref().and_then(compile) else {
        return text.to_vec();
    };
    let except = rule.except.as_deref().and_then(compile);
    let is_hit = |line: &[u8]| {
        let line = line.trim_ascii_end();
        pattern.is_match(line) && !except.as_ref().is_some_and(|except| except.is_match(line))
    };
    let parts = match rule.action {
        SealAction::DropSections => sections(text),
        _ => text
            .split_inclusive(|byte| *byte == b'\n')
            .map(|line| vec![line])
            .collect(),
    };
    let kept = parts
        .into_iter()
        .filter(|lines| !lines.iter().any(|line| is_hit(line)));
    kept.flatten().collect::<Vec<_>>().concat()
}

fn compile(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).unicode(false).build().ok()
}

/// Lines by section; what stands before the first is one too.
fn sections(text: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut sections = vec![Vec::new()];
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        if line.trim_ascii_start().starts_with(b"[") {
            sections.push(Vec::new());
        }
        sections
            .last_mut()
            .into_iter()
            .for_each(|section| section.push(line));
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the rule of `class` for `path` leaves of a text.
    fn left(class: &str, path: &str, text: &[u8]) -> Vec<u8> {
        let rules = ssmbake_manifests::catalog().seal().iter();
        let mut fits = rules.filter(|rule| rule.class == class && rule.paths.iter().any(|own| own == path));
        without(text, fits.next().expect(class))
    }

    #[test]
    fn every_pattern_compiles() {
        for rule in ssmbake_manifests::catalog().seal() {
            for pattern in rule.pattern.iter().chain(&rule.except) {
                assert!(compile(pattern).is_some(), "{pattern}");
            }
        }
    }

    #[test]
    fn only_packer_s_key_goes_whatever_the_encoding() {
        let key = b"ssh-rsa BBB packer_6123abcd-0000-1111-2222-333344445555\n";
        let own = b"ssh-rsa AAA J\xfcrgen@home\r\n# packer_ alone\n";
        let keys = [own.as_slice(), key, own].concat();
        assert_eq!(
            left("packer-key", "/root/.ssh/authorized_keys", &keys),
            own.repeat(2)
        );
        assert_eq!(left("packer-key", "/root/.ssh/authorized_keys", own), own);
    }

    #[test]
    fn names_go_unless_they_are_nobody_s() {
        for (name, stays) in [
            ("localhost", true),
            ("localhost.localdomain", true),
            ("# comment", true),
            ("", true),
            ("lock01", false),
            ("localhost2", false),
            ("local", false),
            ("l", false),
        ] {
            for (path, line) in [
                ("/etc/hostname", format!("{name}\n")),
                (
                    "/etc/sysconfig/network",
                    format!("NETWORKING=yes\nHOSTNAME={name}\n"),
                ),
                ("/etc/sysconfig/network", format!("HOSTNAME=\"{name}\"\n")),
            ] {
                if name.starts_with('#') && path != "/etc/hostname" {
                    continue;
                }
                let same = left("hostname", path, line.as_bytes()) == line.as_bytes();
                assert_eq!(same, stays, "{line}");
            }
        }
        assert_eq!(left("hostname", "/etc/hostname", b"b\xfcro\n\xfcber\n"), b"");
    }

    #[test]
    fn only_sections_of_the_agent_go() {
        let own = "# mine\n[own]\naws_access_key_id = AKIA1\naws_secret_access_key = x\n\n";
        let agent = "[default]\naws_access_key_id     = ASIA1\naws_secret_access_key = y\naws_session_token     = z\n";
        let left = |text: &str| left("agent-credentials", "/root/.aws/credentials", text.as_bytes());
        assert_eq!(
            left(&format!("{own}{agent}[also]\nrole_arn = r\n")),
            format!("{own}[also]\nrole_arn = r\n").into_bytes()
        );
        assert_eq!(left(own), own.as_bytes());
        assert_eq!(left(agent), b"");
    }
}
