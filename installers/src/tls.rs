//! TLS for every client here: ring, and only those who are named as trusted.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Whom a client trusts.
#[derive(Debug, Clone)]
pub enum Trust {
    /// These roots (DER) and nobody else.
    Only(Vec<Vec<u8>>),
    /// Whom the Windows that we run on trusts: it fetches roots that it does not have yet.
    #[cfg(windows)]
    OfWindows,
}

/// A configuration that trusts `trust`.
pub(crate) fn config(trust: &Trust) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(match trust {
        Trust::Only(roots_der) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(roots_der.iter().map(|der| der.clone().into()));
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        #[cfg(windows)]
        Trust::OfWindows => {
            use rustls_platform_verifier::BuilderVerifierExt;
            builder.with_platform_verifier()?.with_no_client_auth()
        }
    })
}
