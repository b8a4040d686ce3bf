//! Upstart jobs: a job file with a `start on` stanza starts at boot unless an override says `manual`.

use super::Enablement;
use crate::error::IoError;
use crate::root::{Root, RootPath};

/// The agent's job.
pub const JOB: &str = "/etc/init/amazon-ssm-agent.conf";
/// Where the administrator overrides it, and where proxies belong.
pub const OVERRIDE: &str = "/etc/init/amazon-ssm-agent.override";
const JOB_LIMIT: usize = 256 * 1024;

/// Whether the agent's job starts at boot.
pub fn state(root: &Root) -> Result<Enablement, IoError> {
    let (job, over) = (RootPath::fixed(JOB), RootPath::fixed(OVERRIDE));
    // The override counts before there is a job, too: it waits for one.
    let override_bytes = root.read(&over, JOB_LIMIT)?.unwrap_or_default();
    if has_stanza(&override_bytes, "manual") {
        return Ok(Enablement::Masked(over));
    }
    let Some(bytes) = root.read(&job, JOB_LIMIT)? else {
        return Ok(Enablement::Missing);
    };
    if has_stanza(&bytes, "manual") || !has_stanza(&bytes, "start on") {
        return Ok(Enablement::Disabled);
    }
    Ok(Enablement::Enabled(job))
}

fn has_stanza(bytes: &[u8], stanza: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .any(|line| line == stanza || line.starts_with(&format!("{stanza} ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_whole_stanzas() {
        assert!(has_stanza(b"start  on runlevel [2345]\n", "start on"));
        assert!(has_stanza(b"\nmanual\n", "manual"));
        assert!(!has_stanza(b"# manual\nmanually x\n", "manual"));
    }
}
