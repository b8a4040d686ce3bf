//! URLs that the user names may carry secrets: a user name, a password, a query. Those go with requests and nowhere else;
//! what is shown and stored is the rest.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use url::Url;

/// A URL or a path as the user named it.
#[derive(Debug, Clone)]
pub struct Address {
    text: String,
    secret: Option<Box<Secret>>,
}

/// What a URL carried besides its place; requests to this place and below it carry it too.
#[derive(Clone)]
pub struct Secret {
    below: Url,
    user: String,
    password: Option<String>,
    query: Option<String>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret(of {})", self.below)
    }
}

impl FromStr for Address {
    type Err = Infallible;

    /// What is no URL of a server is taken as it is, but for what may be a password.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match Secret::split(text) {
            Some((text, secret)) => Self {
                text,
                secret: Some(Box::new(secret)),
            },
            None => Self {
                text: shown(text),
                secret: None,
            },
        })
    }
}

impl Address {
    /// Without secrets.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The secrets, if there are any.
    pub fn secret(&self) -> Option<&Secret> {
        self.secret.as_deref()
    }
}

impl Secret {
    fn split(text: &str) -> Option<(String, Self)> {
        let whole = Url::parse(text).ok().filter(|url| url.has_host())?;
        let mut below = whole.clone();
        // It has a host: neither fails.
        below
            .set_username("")
            .and_then(|()| below.set_password(None))
            .ok()?;
        below.set_query(None);
        below.set_fragment(None);
        if below == whole {
            return None;
        }
        let secret = Self {
            user: whole.username().to_owned(),
            password: whole.password().map(str::to_owned),
            query: whole.query().map(str::to_owned),
            below: below.clone(),
        };
        Some((String::from(below).trim_end_matches('/').to_owned(), secret))
    }

    /// Adds the secret to a request that is for its place.
    pub(super) fn join(&self, url: &mut Url) {
        let is_below = url.path().starts_with(self.below.path().trim_end_matches('/'));
        if url.origin() != self.below.origin() || !is_below {
            return;
        }
        // They come from a URL of the same scheme and host, and are encoded already: neither fails.
        let named = url.set_username(&self.user);
        let _joined = named.and_then(|()| url.set_password(self.password.as_deref()));
        if self.query.is_some() {
            url.set_query(self.query.as_deref());
        }
    }
}

/// A URL for people, also where it is none: without user name, password, query and fragment.
pub fn shown(text: &str) -> String {
    if let Some((text, _)) = Secret::split(text) {
        return text;
    }
    // Of a path nothing is a secret.
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    // A password may have any sign in it, a host none of these.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        for (text, wanted) in [
            ("http://host", "http://host"),
            ("http://host/", "http://host/"),
            ("http://user:s3cret@host/a/", "http://host/a"),
            (
                "https://s3cret@host:8443/a?token=s3cret#s3cret",
                "https://host:8443/a",
            ),
            ("https://host/a?token=s3cret", "https://host/a"),
            ("http://user:s3c/re@t@host/a", "http://host/a"),
            ("http://user:s3cret@ho st/a?s3cret", "http://ho st/a"),
            ("http://user:s3cret@", "http://"),
            ("foo://user:s3cret@host", "foo://host"),
            ("dir/a@b?c", "dir/a@b?c"),
        ] {
            assert_eq!(shown(text), wanted);
            let address: Address = text.parse().expect("infallible");
            assert_eq!(address.as_str(), wanted);
            assert!(!format!("{address:?}").contains("s3c"), "{address:?}");
        }
    }

    #[test]
    fn a_secret_goes_to_its_own_place_only() {
        let address: Address = "https://u%40:p@host/base?t=1".parse().expect("infallible");
        let secret = address.secret().expect("secret");
        for (url, wanted) in [
            (
                "https://host/base/3/a.deb",
                "https://u%40:p@host/base/3/a.deb?t=1",
            ),
            ("https://host/base.sig", "https://u%40:p@host/base.sig?t=1"),
            ("https://host/other", "https://host/other"),
            ("https://host:444/base", "https://host:444/base"),
            ("http://host/base", "http://host/base"),
            ("https://host.evil.example/base", "https://host.evil.example/base"),
        ] {
            let mut joined = Url::parse(url).expect("URL");
            secret.join(&mut joined);
            assert_eq!(joined.as_str(), wanted);
        }
    }
}
