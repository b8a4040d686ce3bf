//! The place of a mirror: a directory, or a bucket of an S3-compatible server.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig, UpdateVersion, WriteMultipart,
};
use sha2::{Digest, Sha256};
use ssmbake_manifests::hex;

use super::MirrorError;
use crate::acquire::{NetworkError, Origin, Progress, Sink};
use crate::error::IoError;
use crate::tls::{self, Trust};

/// Of an upload, bytes: S3 takes no smaller ones but the last.
const PART: usize = 8 * 1024 * 1024;
/// Parts of one file under way.
const PARTS: usize = 4;
/// Two writers at the same file wait for each other so often.
pub(super) const TRIES: usize = 10;
/// Keeps two writers of a directory apart while they publish.
const WRITER: &str = ".ssmbake-writer";

/// Base URL of what is there already.
pub(super) const OWN: &str = "mirror:";

fn written(source: object_store::Error) -> MirrorError {
    disk("write", &source).unwrap_or(MirrorError::Store {
        verb: "written",
        source,
    })
}

fn read(source: object_store::Error) -> MirrorError {
    disk("read", &source).unwrap_or(MirrorError::Store { verb: "read", source })
}

/// What a directory says is this machine's own trouble, and no network's.
fn disk(verb: &'static str, error: &object_store::Error) -> Option<MirrorError> {
    let object_store::Error::Generic {
        store: "LocalFileSystem",
        source,
    } = error
    else {
        return None;
    };
    let causes = std::iter::successors(Some(&**source as &dyn std::error::Error), |error| error.source());
    let mut causes = causes.filter_map(|error| error.downcast_ref::<std::io::Error>());
    let cause = causes.next()?;
    let cause = std::io::Error::new(cause.kind(), cause.to_string());
    Some(IoError::new(verb, "the mirror", cause).into())
}

/// What drives one writer.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Where a mirror is.
#[derive(Debug)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Of a directory: held while it is published.
    writer: Option<File>,
}

/// Makes every connection to a bucket with this program's own client.
#[derive(Debug)]
struct Connector(reqwest::Client);

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

impl Bucket {
    /// `s3://BUCKET/PREFIX`, with credentials, region and endpoint from `AWS_…` variables, or a directory, which is made. A
    /// bucket is asked `retries` times again where it fails for the moment.
    #[expect(
        clippy::disallowed_methods,
        reason = "the boundary to the mirror's own directory"
    )]
    pub(super) fn open(
        place: &str,
        environment: &BTreeMap<String, String>,
        roots_der: &[Vec<u8>],
        retries: u32,
    ) -> Result<Self, MirrorError> {
        let refuse = |why: &dyn std::fmt::Display| MirrorError::Place {
            place: place.to_owned(),
            why: why.to_string(),
        };
        if let Some(rest) = place.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let bucket = s3(bucket, environment, roots_der, retries).map_err(|why| refuse(&why))?;
            return Ok(Self {
                store: Arc::new(PrefixStore::new(bucket, prefix)),
                writer: None,
            });
        }
        let dir = Path::new(place);
        let fail = |error| MirrorError::Io(IoError::new("create", dir.display(), error));
        std::fs::create_dir_all(dir).map_err(fail)?;
        let store = LocalFileSystem::new_with_prefix(dir).map_err(|why| refuse(&why))?;
        let mark = dir.join(WRITER);
        let writer = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(mark);
        Ok(Self {
            store: Arc::new(store.with_fsync(true)),
            writer: Some(writer.map_err(fail)?),
        })
    }

    /// Keeps other writers of a directory away while `work` is done; writers of a bucket see each other's changes.
    pub(super) fn alone<T>(&self, work: impl FnOnce() -> Result<T, MirrorError>) -> Result<T, MirrorError> {
        if let Some(writer) = &self.writer {
            let locked = writer.lock();
            locked.map_err(|error| IoError::new("lock", WRITER, error))?;
        }
        let done = work();
        if let Some(writer) = &self.writer {
            // The descriptor's end would do it as well.
            drop(writer.unlock());
        }
        done
    }

    /// Whether a file is there: its bytes are read, for its name proves nothing.
    pub(super) async fn has(&self, key: &Key, sha256: &str) -> Result<bool, MirrorError> {
        let size = match self.store.head(key).await {
            Ok(meta) => meta.size,
            Err(object_store::Error::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(read(error)),
        };
        let (mut hash, mut at) = (Sha256::new(), 0);
        while let Some(part) = self.part(key, at, size).await.map_err(read)? {
            hash.update(&*part);
            at += part.len() as u64;
        }
        Ok(hex::encode(&hash.finalize()) == sha256)
    }

    /// What follows `at` of a file of `size` bytes; none at its end.
    async fn part(
        &self,
        key: &Key,
        at: u64,
        size: u64,
    ) -> object_store::Result<Option<impl Deref<Target = [u8]> + use<>>> {
        match (at + PART as u64).min(size) {
            end if at < end => self.store.get_range(key, at..end).await.map(Some),
            _ => Ok(None),
        }
    }

    /// What is at a URL below [`OWN`], part by part.
    fn each_part(
        &self,
        url: &str,
        limit: u64,
        take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), NetworkError> {
        let shown = || url.to_owned();
        let fail = |error: object_store::Error| match error {
            object_store::Error::NotFound { .. } => NetworkError::NotFound {
                url: shown(),
                status: 404,
            },
            error => NetworkError::Connection {
                url: shown(),
                why: error.to_string(),
                tries: 1,
            },
        };
        let path = url.strip_prefix(OWN).ok_or_else(|| NetworkError::Url(shown()))?;
        let key = Key::from(path.trim_start_matches('/'));
        let runtime = runtime().map_err(NetworkError::Write)?;
        let size = runtime.block_on(self.store.head(&key)).map_err(fail)?.size;
        if size > limit {
            return Err(NetworkError::TooLarge { url: shown(), limit });
        }
        let mut at = 0;
        while let Some(part) = runtime.block_on(self.part(&key, at, size)).map_err(fail)? {
            take(&part).map_err(NetworkError::Write)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// A small file.
    pub(super) async fn put(&self, key: &Key, bytes: Vec<u8>) -> Result<(), MirrorError> {
        self.store.put(key, bytes.into()).await.map_err(written)?;
        Ok(())
    }

    /// A large file, from its beginning.
    pub(super) async fn upload(&self, key: &Key, mut file: &File) -> Result<(), MirrorError> {
        let upload = self.store.put_multipart(key).await.map_err(written)?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = file.read(&mut buffer);
            match count.map_err(|error| IoError::new("read", "what was fetched", error))? {
                0 => break,
                count => {
                    upload.wait_for_capacity(PARTS).await.map_err(written)?;
                    upload.write(&buffer[..count]);
                }
            }
        }
        upload.finish().await.map_err(written)?;
        Ok(())
    }

    /// Whether there is something to copy. Nothing is done where both are the same already: of a directory they are two
    /// names of one file, which the file system would not rename over each other.
    pub(super) async fn copy(&self, from: &Key, to: &Key) -> Result<bool, MirrorError> {
        let state = async |key| match self.store.head(key).await {
            Ok(meta) => Ok(Some(meta.e_tag)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(read(error)),
        };
        let Some(tag) = state(from).await? else {
            return Ok(false);
        };
        let is_same = tag.is_some() && state(to).await? == Some(tag);
        if !is_same {
            self.store.copy(from, to).await.map_err(written)?;
        }
        Ok(true)
    }

    /// A small file and its state.
    async fn get(&self, key: &Key) -> Result<Option<(Vec<u8>, UpdateVersion)>, MirrorError> {
        let got = match self.store.get_opts(key, GetOptions::default()).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        let state = UpdateVersion {
            e_tag: got.meta.e_tag.clone(),
            version: got.meta.version.clone(),
        };
        let bytes = got.bytes().await.map_err(read)?;
        Ok(Some((bytes.to_vec(), state)))
    }

    /// A small file.
    pub(super) async fn read(&self, key: &Key) -> Result<Option<Vec<u8>>, MirrorError> {
        Ok(self.get(key).await?.map(|(bytes, _)| bytes))
    }

    /// Makes of a small file what `change` makes of its bytes, also where others do the same; none leaves it as it is.
    pub(super) async fn change(
        &self,
        key: &Key,
        change: impl Fn(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> Result<(), MirrorError> {
        for _ in 0..TRIES {
            let (there, state) = self.get(key).await?.unzip();
            let Some(bytes) = change(there.as_deref()) else {
                return Ok(());
            };
            let mode = match (&self.writer, state) {
                // Nobody else writes: the lock is held.
                (Some(_), _) => PutMode::Overwrite,
                (None, Some(state)) => PutMode::Update(state),
                (None, None) => PutMode::Create,
            };
            let options = PutOptions {
                mode,
                ..PutOptions::default()
            };
            match self.store.put_opts(key, bytes.into(), options).await {
                Ok(_) => return Ok(()),
                Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {
                }
                Err(error) => return Err(written(error)),
            }
        }
        Err(MirrorError::Contended(key.to_string()))
    }
}

/// What is there already, for those who verify packages.
impl Origin for Bucket {
    fn get_small(&self, url: &str, limit: u64) -> Result<Vec<u8>, NetworkError> {
        let mut bytes = Vec::new();
        self.each_part(url, limit, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn download(
        &self,
        url: &str,
        sink: &mut dyn Sink,
        limit: u64,
        _progress: &dyn Progress,
    ) -> Result<(), NetworkError> {
        self.each_part(url, limit, &mut |part| sink.write_all(part))
    }
}

/// A bucket, as AWS's own tools are told of one.
fn s3(
    bucket: &str,
    environment: &BTreeMap<String, String>,
    roots_der: &[Vec<u8>],
    retries: u32,
) -> Result<object_store::aws::AmazonS3, String> {
    let tls = tls::config(&Trust::Only(roots_der.to_vec())).map_err(|error| error.to_string())?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("ssmbake/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())?;
    let mut builder = AmazonS3Builder::new().with_http_connector(Connector(client));
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("AWS_")) {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        .iter()
        .find_map(|name| environment.get(*name));
    if let Some(endpoint) = endpoint {
        let is_plain = endpoint.starts_with("http://");
        builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
    }
    builder
        .with_bucket_name(bucket)
        .with_retry(RetryConfig {
            max_retries: usize::try_from(retries).unwrap_or(usize::MAX),
            ..RetryConfig::default()
        })
        .build()
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_others_never_leave_alone_is_given_up() {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        let bucket = Bucket {
            store: Arc::clone(&store),
            writer: None,
        };
        let key = Key::from("latest/VERSION");
        let tries = std::cell::Cell::new(0);
        let changed = |_: Option<&[u8]>| {
            // Another writer comes between, each time.
            tries.set(tries.get() + 1);
            let (store, key) = (Arc::clone(&store), key.clone());
            let other = std::thread::spawn(move || {
                let put = store.put(&key, b"other".to_vec().into());
                runtime().expect("runtime").block_on(put).expect("put");
            });
            other.join().expect("writer");
            Some(b"ours".to_vec())
        };
        let done = runtime().expect("runtime").block_on(bucket.change(&key, changed));
        assert!(matches!(done, Err(MirrorError::Contended(file)) if file == "latest/VERSION"));
        assert_eq!(tries.get(), TRIES);
    }
}
