//! The metadata service of EC2, version 2 only: what an agent without a registration lives by.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::tls::{self, Trust};

/// Link-local; an answer takes a millisecond or never comes.
pub const ENDPOINT: &str = "http://169.254.169.254";
const TIMEOUT: Duration = Duration::from_secs(2);
const TOKEN_TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";
const TOKEN: &str = "X-aws-ec2-metadata-token";
/// As far as an answer is read.
const LIMIT: usize = 64 * 1024;

/// What the service says of access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// Nobody is there: no EC2 instance, or a container behind a hop limit.
    Silent(String),
    /// It is there and gives no token: version 2 is switched off for us.
    Refused(u16),
    /// It answered.
    Instance {
        /// `eu-west-1`.
        region: Option<String>,
        /// The ARN of the instance profile.
        profile: Option<String>,
        /// Whether the instance has an identity that default host management can use.
        has_identity: bool,
        /// Its clock, seconds since 1970.
        date: Option<i64>,
    },
}

/// Asks the service at `endpoint`.
pub async fn ask(endpoint: &str) -> Metadata {
    // It speaks plain HTTP, and the client still wants to know what it would do about TLS.
    let client = tls::config(&Trust::Only(Vec::new()))
        .map_err(|error| error.to_string())
        .and_then(|tls| {
            let builder = Client::builder().tls_backend_preconfigured(tls).no_proxy();
            builder
                .timeout(TIMEOUT)
                .build()
                .map_err(|error| error.to_string())
        });
    let client = match client {
        Ok(client) => client,
        Err(why) => return Metadata::Silent(why),
    };
    let endpoint = endpoint.trim_end_matches('/');
    let request = client
        .put(format!("{endpoint}/latest/api/token"))
        .header(TOKEN_TTL, "60");
    let (token, date) = match request.send().await {
        Err(error) => return Metadata::Silent(super::chain(&error)),
        Ok(response) if response.status() != StatusCode::OK => {
            return Metadata::Refused(response.status().as_u16());
        }
        Ok(response) => {
            let date = super::date(&response);
            (response.text().await.unwrap_or_default(), date)
        }
    };
    let get = async |path: &str| -> Option<String> {
        let url = format!("{endpoint}/latest/meta-data/{path}");
        let response = client.get(url).header(TOKEN, &token).send().await.ok()?;
        match response.status() {
            StatusCode::OK => response.text().await.ok().filter(|text| text.len() < LIMIT),
            _ => None,
        }
    };
    let profile = get("iam/info").await.and_then(|text| {
        let info: Value = serde_json::from_str(&text).ok()?;
        Some(info.get("InstanceProfileArn")?.as_str()?.to_owned())
    });
    Metadata::Instance {
        region: get("placement/region").await,
        profile,
        has_identity: get("identity-credentials/ec2/info").await.is_some(),
        date,
    }
}
