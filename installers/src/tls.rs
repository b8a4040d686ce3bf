//! TLS for every client here: ring, and only the roots that are given.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// Trusts `roots_der` (DER) and nothing else.
pub(crate) fn config(roots_der: &[Vec<u8>]) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(roots_der.iter().map(|der| der.clone().into()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
